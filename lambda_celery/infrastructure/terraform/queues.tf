# The queues, each with its dead-letter queue, but for those that were brought along.

locals {
  # A policy's statement, on the queue that the module puts in.
  tls_only = {
    TlsOnly = {
      effect     = "Deny"
      actions    = ["sqs:*"]
      principals = [{ type = "*", identifiers = ["*"] }]
      condition  = [{ test = "Bool", variable = "aws:SecureTransport", values = ["false"] }]
    }
  }
}

module "queue" {
  source  = "terraform-aws-modules/sqs/aws"
  version = "~> 5.2"

  for_each = module.figures.queues

  create = var.create && each.value.queue_arn == null
  region = var.region

  name                       = each.value.name
  fifo_queue                 = each.value.fifo
  visibility_timeout_seconds = each.value.visibility_timeout_seconds
  message_retention_seconds  = each.value.message_retention_seconds
  kms_master_key_id          = var.kms_key_arn
  redrive_policy = merge(
    { maxReceiveCount = each.value.max_receive_count },
    { for key, arn in { deadLetterTargetArn = each.value.dead_letter_queue_arn } : key => arn if arn != null },
  )

  create_queue_policy     = true
  queue_policy_statements = local.tls_only

  create_dlq                      = each.value.dead_letter_queue_arn == null
  create_dlq_redrive_allow_policy = each.value.dead_letter_queue_arn == null
  dlq_name                        = each.value.dead_letter_queue_name
  dlq_message_retention_seconds   = var.dlq_message_retention_seconds
  dlq_kms_master_key_id           = var.kms_key_arn
  create_dlq_queue_policy         = each.value.dead_letter_queue_arn == null
  dlq_queue_policy_statements     = local.tls_only

  tags = var.tags
}

locals {
  # What SQS's addresses begin with.
  sqs = "https://sqs.%s.${data.aws_partition.current.dns_suffix}/%s/%s"

  queue_arns             = { for name, queue in module.figures.queues : name => coalesce(queue.queue_arn, module.queue[name].queue_arn) if var.create }
  dead_letter_queue_arns = { for name, queue in module.figures.queues : name => coalesce(queue.dead_letter_queue_arn, module.queue[name].dead_letter_queue_arn) if var.create }

  queue_urls             = { for name, arn in local.queue_arns : name => format(local.sqs, split(":", arn)[3], split(":", arn)[4], split(":", arn)[5]) }
  dead_letter_queue_urls = { for name, arn in local.dead_letter_queue_arns : name => format(local.sqs, split(":", arn)[3], split(":", arn)[4], split(":", arn)[5]) }
}
