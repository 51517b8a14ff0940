output "queues" {
  value       = local.queues
  description = "Each queue with what it says itself, what holds for all and what follows from them."

  # A validation sees what was put in; what holds for a queue in the end is seen here.
  precondition {
    condition     = alltrue([for names in values(local.taken) : length(distinct(names)) == length(names)])
    error_message = "Two ${join(" and two ", [for kind, names in local.taken : kind if length(distinct(names)) != length(names)])} would get the same name on AWS, where only letters, digits, \"_\" and \"-\" are left of a queue's, and the case may not tell. Rename a queue."
  }

  precondition {
    condition     = var.functions != "each" || !contains(keys(local.slugs), "all")
    error_message = "functions = \"each\" takes no queue called \"all\". Rename it."
  }

  # A queue's name has 80 characters, a function's 64: that of a FIFO queue's dead-letter queue is
  # the longest.
  precondition {
    condition     = alltrue([for name in keys(local.slugs) : length(var.name) + length(name) <= 61])
    error_message = "name and a queue's name are too long together: AWS takes 61 characters."
  }

  precondition {
    condition     = alltrue([for queue in values(local.queues) : queue.timeout >= 1 && queue.timeout <= 900])
    error_message = "A queue's timeout has to be from 1 to 900 seconds. Lambda allows no more."
  }

  precondition {
    condition     = alltrue([for queue in values(local.queues) : queue.batch_size >= 1 && queue.batch_size <= (queue.fifo ? 10 : 10000)])
    error_message = "A queue's batch_size has to be from 1 to 10000, and to 10 for a FIFO queue."
  }

  precondition {
    condition     = alltrue([for queue in values(local.queues) : queue.maximum_concurrency == null ? true : queue.maximum_concurrency >= 2 && queue.maximum_concurrency <= 1000])
    error_message = "A queue's maximum_concurrency has to be from 2 to 1000."
  }

  precondition {
    condition     = alltrue([for queue in values(local.queues) : queue.max_receive_count >= 5 && queue.max_receive_count <= 1000])
    error_message = "A queue's max_receive_count has to be from 5 to 1000. Throttled invocations count too, so that fewer than 5 would park work that has not run."
  }

  precondition {
    condition     = alltrue([for queue in values(local.queues) : queue.message_retention_seconds >= 60 && queue.message_retention_seconds <= 1209600])
    error_message = "A queue's message_retention_seconds has to be from 60 to 1209600. SQS keeps no message for longer than 14 days."
  }

  precondition {
    condition     = alltrue([for queue in values(local.queues) : queue.message_retention_seconds + (queue.fifo ? 0 : 1) <= var.dlq_message_retention_seconds])
    error_message = "dlq_message_retention_seconds has to be more than message_retention_seconds: a message's age goes on counting on a standard dead-letter queue. On a FIFO one, it may be the same."
  }

  precondition {
    condition = alltrue([
      for queue in values(local.queues) : alltrue([
        for arn in compact([queue.queue_arn, queue.dead_letter_queue_arn]) :
        can(regex("^arn:[a-z-]+:sqs:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_.-]+$", arn))
      ])
    ])
    error_message = "queue_arn and dead_letter_queue_arn have to be ARNs of SQS queues, such as \"arn:aws:sqs:eu-central-1:123456789012:mail\"."
  }

  precondition {
    condition     = alltrue([for queue in values(local.queues) : queue.queue_arn == null || queue.dead_letter_queue_arn != null])
    error_message = "A queue with queue_arn needs dead_letter_queue_arn, too: its redrive policy is its owner's."
  }

  precondition {
    condition = alltrue([
      for queue in values(local.queues) : alltrue([
        for arn in compact([queue.queue_arn, queue.dead_letter_queue_arn]) : endswith(arn, ".fifo") == queue.fifo
      ])
    ])
    error_message = "A FIFO queue has a FIFO dead-letter queue, a standard one a standard one. Say fifo = true where the ARN ends in \".fifo\", and only there."
  }
}

output "functions" {
  value       = local.functions
  description = "The functions: name, time-out and queues."
}

output "event_source_mapping" {
  value       = local.event_source_mapping
  description = "Each queue's event source mapping, but for the queue."
}

output "idempotency_ttl_seconds" {
  value       = local.idempotency_ttl_seconds
  description = "How long a record stands."
}

output "payload_days" {
  value       = local.payload_days
  description = "How long a body stays in the bucket."
}

output "names" {
  value       = local.names
  description = "Names of what there is one of."
}

output "environment" {
  value       = local.environment
  description = "Variables of the function alone."

  precondition {
    condition     = length(jsonencode(local.longest_environment)) <= 4096
    error_message = "The function's variables take up to ${length(jsonencode(local.longest_environment))} bytes, and Lambda takes 4096. Shorten environment, or name fewer queues in one deployment."
  }
}

output "variables" {
  value       = local.variables
  description = "Variables of function and producers whose values need no resource."
}

output "queue_settings" {
  value       = local.queue_settings
  description = "What LAMBDA_CELERY_QUEUES says of each queue, if there are several."
}

output "retained" {
  value       = local.retained
  description = "The queues that a plan may not destroy: a key to the name on AWS."
}

output "widgets" {
  value       = local.widgets
  description = "The dashboard's widgets."
}

output "statements" {
  value       = local.statements
  description = "The statements of each role, with the kind of what they are for."
}

output "alarms" {
  value       = local.alarms
  description = "The alarms."
}
