# What is due later than SQS can delay it, and the entries of beat_schedule.

resource "aws_scheduler_schedule_group" "this" {
  count = var.create && var.schedules ? 1 : 0

  region = var.region
  name   = module.figures.names.schedule_group

  tags = var.tags

  # With it go the messages that wait in its schedules.
  lifecycle {
    prevent_destroy = true
  }
}

# EventBridge Scheduler's own: it puts messages on the queues, and those that it cannot put there
# on the dead-letter queues.
resource "aws_iam_role" "scheduler" {
  count = var.create && var.schedules ? 1 : 0

  name                 = module.figures.names.scheduler_role
  assume_role_policy   = data.aws_iam_policy_document.scheduler_trust[0].json
  permissions_boundary = var.permissions_boundary

  tags = var.tags

  # The schedules send with it.
  lifecycle {
    prevent_destroy = true
  }
}

data "aws_iam_policy_document" "scheduler_trust" {
  count = var.create && var.schedules ? 1 : 0

  statement {
    effect  = "Allow"
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["scheduler.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceArn"
      values   = [aws_scheduler_schedule_group.this[0].arn]
    }
  }
}

resource "aws_iam_role_policy" "scheduler" {
  count = var.create && var.schedules ? 1 : 0

  name   = "send-messages"
  role   = aws_iam_role.scheduler[0].id
  policy = data.aws_iam_policy_document.scheduler[0].json

  lifecycle {
    prevent_destroy = true
  }
}
