# The policies: modules/figures says who may do what with which kind of resource, this file puts
# in the ARNs.

locals {
  arns = {
    queues                      = values(local.queue_arns)
    standard_dead_letter_queues = [for name, arn in local.dead_letter_queue_arns : arn if !module.figures.queues[name].fifo]
    idempotency_table           = aws_dynamodb_table.idempotency[*].arn
    failures_index              = [for table in aws_dynamodb_table.idempotency : "${table.arn}/index/failures"]
    results_table               = aws_dynamodb_table.results[*].arn
    payload_bucket              = aws_s3_bucket.payloads[*].arn
    payloads                    = [for bucket in aws_s3_bucket.payloads : "${bucket.arn}/*"]
    schedules                   = [for group in aws_scheduler_schedule_group.this : "${replace(group.arn, ":schedule-group/", ":schedule/")}/eta-*"]
    scheduler_role              = aws_iam_role.scheduler[*].arn
    kms_key                     = compact([var.kms_key_arn])
    everything                  = ["*"]
    # By their names: a role of theirs may have the policy, too. With an alias or a version it is
    # another resource.
    functions = flatten([
      for function in module.figures.functions : [
        for qualifier in ["", ":*"] :
        "arn:${data.aws_partition.current.partition}:lambda:${data.aws_region.current.region}:${data.aws_caller_identity.current.account_id}:function:${function.name}${qualifier}"
      ]
    ])
  }

  # A function's own queues, the other ones, and its log.
  function_arns = {
    for key, function in module.figures.functions : key => merge(local.arns, {
      own_queues             = [for name in function.queues : local.queue_arns[name]]
      own_dead_letter_queues = [for name in function.queues : local.dead_letter_queue_arns[name]]
      other_queues           = [for name, arn in local.queue_arns : arn if !contains(function.queues, name)]
      log_group = [
        "arn:${data.aws_partition.current.partition}:logs:${data.aws_region.current.region}:${data.aws_caller_identity.current.account_id}:log-group:${function.log_group}:*",
      ]
    }) if var.create
  }
}

data "aws_iam_policy_document" "function" {
  for_each = local.function_arns

  dynamic "statement" {
    for_each = module.figures.statements.function

    content {
      sid       = statement.value.sid
      actions   = statement.value.actions
      resources = flatten([for kind in statement.value.on : each.value[kind]])

      dynamic "condition" {
        for_each = statement.value.condition

        content {
          test     = "StringEquals"
          variable = condition.key
          values   = [condition.value]
        }
      }
    }
  }
}

data "aws_iam_policy_document" "scheduler" {
  count = var.create && var.schedules ? 1 : 0

  dynamic "statement" {
    for_each = module.figures.statements.scheduler

    content {
      sid       = statement.value.sid
      actions   = statement.value.actions
      resources = flatten([for kind in statement.value.on : local.arns[kind]])
    }
  }
}

data "aws_iam_policy_document" "producer" {
  count = var.create ? 1 : 0

  dynamic "statement" {
    for_each = module.figures.statements.producer

    content {
      sid       = statement.value.sid
      actions   = statement.value.actions
      resources = flatten([for kind in statement.value.on : local.arns[kind]])

      dynamic "condition" {
        for_each = statement.value.condition

        content {
          test     = "StringEquals"
          variable = condition.key
          values   = [condition.value]
        }
      }
    }
  }
}

# Attach it to the role of whatever calls delay(): the web application, a cron job.
resource "aws_iam_policy" "producer" {
  count = var.create ? 1 : 0

  name        = module.figures.names.producer_policy
  description = "Send Celery tasks to the queues."
  policy      = data.aws_iam_policy_document.producer[0].json

  tags = var.tags
}

data "aws_iam_policy_document" "caller" {
  count = var.create ? 1 : 0

  dynamic "statement" {
    for_each = module.figures.statements.caller

    content {
      sid       = statement.value.sid
      actions   = statement.value.actions
      resources = flatten([for kind in statement.value.on : local.arns[kind]])
    }
  }
}

# Attach it to the role of whatever calls the function directly: lambda_celery.invoke.
resource "aws_iam_policy" "caller" {
  count = var.create ? 1 : 0

  name        = module.figures.names.caller_policy
  description = "Call Celery tasks on the functions directly."
  policy      = data.aws_iam_policy_document.caller[0].json

  tags = var.tags
}

data "aws_iam_policy_document" "results" {
  count = var.create && var.results ? 1 : 0

  dynamic "statement" {
    for_each = module.figures.statements.results

    content {
      sid       = statement.value.sid
      actions   = statement.value.actions
      resources = flatten([for kind in statement.value.on : local.arns[kind]])
    }
  }
}

# Attach it to the role of whatever reads results or starts chords, too.
resource "aws_iam_policy" "results" {
  count = var.create && var.results ? 1 : 0

  name        = module.figures.names.results_policy
  description = "Keep and read the results of Celery tasks."
  policy      = data.aws_iam_policy_document.results[0].json

  tags = var.tags
}
