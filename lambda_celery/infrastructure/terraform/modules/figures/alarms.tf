# The alarms and the dashboard. They name what they watch, so that they need no resource.

locals {
  # Of the function's own metrics; empty where they are switched off.
  given_namespace   = trimspace(lookup(var.environment, "LAMBDA_CELERY_METRICS_NAMESPACE", ""))
  metrics_namespace = lower(local.given_namespace) == "off" ? "" : coalesce(local.given_namespace, "LambdaCelery")

  own_alarms = [
    for name, queue in local.queues : {
      "${name}: oldest received" = {
        name               = "${var.name}-${local.slugs[name]}-oldest-received"
        description        = "A task is run, or comes back, long after it was due. SQS's own metric leaves out what was received three times or more. Run book: docs/operations/alarms/oldest-received.md"
        namespace          = local.metrics_namespace
        metric_name        = "OldestMessageAge"
        dimensions         = { QueueName = queue.name }
        statistic          = "Maximum"
        period             = 60
        evaluation_periods = 1
        threshold          = var.oldest_message_age_seconds
      }
      "${name}: failed tasks" = {
        name               = "${var.name}-${local.slugs[name]}-failed-tasks"
        description        = "A task has failed for good, whether its message was parked or deleted. Run book: docs/operations/alarms/failed-tasks.md"
        namespace          = local.metrics_namespace
        metric_name        = "TasksFailed"
        dimensions         = { QueueName = queue.name }
        statistic          = "Sum"
        period             = 60
        evaluation_periods = 1
        threshold          = 0
      }
    } if local.metrics_namespace != ""
  ]

  queue_alarms = [
    for name, queue in local.queues : {
      "${name}: dead letters" = {
        name               = "${var.name}-${local.slugs[name]}-dead-letters"
        description        = "A message was parked. Its attributes say why; redrive it when that is mended. Run book: docs/operations/alarms/dead-letters.md"
        namespace          = "AWS/SQS"
        metric_name        = "ApproximateNumberOfMessagesVisible"
        dimensions         = { QueueName = queue.dead_letter_queue_name }
        statistic          = "Maximum"
        period             = 60
        evaluation_periods = 1
        threshold          = 0
      }
      "${name}: oldest message" = {
        name               = "${var.name}-${local.slugs[name]}-oldest-message"
        description        = "Tasks wait for too long. The function fails, or maximum_concurrency is too low. Run book: docs/operations/alarms/oldest-message.md"
        namespace          = "AWS/SQS"
        metric_name        = "ApproximateAgeOfOldestMessage"
        dimensions         = { QueueName = queue.name }
        statistic          = "Maximum"
        period             = 60
        evaluation_periods = 5
        threshold          = var.oldest_message_age_seconds
      }
    }
  ]

  function_alarms = [
    for key, function in local.functions : {
      "${key}: errors" = {
        name               = "${function.name}-errors"
        description        = "Invocations fail as a whole. Their messages come back and are parked in the end. Run book: docs/operations/alarms/errors.md"
        namespace          = "AWS/Lambda"
        metric_name        = "Errors"
        dimensions         = { FunctionName = function.name }
        statistic          = "Sum"
        period             = 60
        evaluation_periods = 1
        threshold          = 0
      }
      "${key}: throttles" = {
        name               = "${function.name}-throttles"
        description        = "Lambda refuses invocations, and each of a mapping counts as a receive. Raise the account's concurrency, or lower maximum_concurrency. Run book: docs/operations/alarms/throttles.md"
        namespace          = "AWS/Lambda"
        metric_name        = "Throttles"
        dimensions         = { FunctionName = function.name }
        statistic          = "Sum"
        period             = 60
        evaluation_periods = 5
        threshold          = 0
      }
      "${key}: duration" = {
        name               = "${function.name}-duration"
        description        = "An invocation took nearly all of its time-out. Raise timeout, or lower batch_size. Run book: docs/operations/alarms/duration.md"
        namespace          = "AWS/Lambda"
        metric_name        = "Duration"
        dimensions         = { FunctionName = function.name }
        statistic          = "Maximum"
        period             = 60
        evaluation_periods = 1
        threshold          = 900 * function.timeout # milliseconds: nine tenths
      }
    }
  ]

  table_alarms = [
    for key, table in merge(
      { idempotency = local.names.idempotency_table },
      var.results ? { results = local.names.results_table } : {},
      ) : {
      for metric, what in { ReadThrottleEvents = "reads", WriteThrottleEvents = "writes" } :
      "${key}: throttled ${what}" => {
        name               = "${table}-throttled-${what}"
        description        = "DynamoDB refuses ${what} of the table. Set warm_throughput before the next burst. Run book: docs/operations/alarms/throttled-table.md"
        namespace          = "AWS/DynamoDB"
        metric_name        = metric
        dimensions         = { TableName = table }
        statistic          = "Sum"
        period             = 60
        evaluation_periods = 5
        threshold          = 0
      }
    }
  ]

  alarms = merge(concat(local.queue_alarms, local.own_alarms, local.function_alarms, local.table_alarms)...)

  # Two rows for each queue, the second of the function's own metrics, and one for each function.
  rows_of_queue = local.metrics_namespace != "" ? 2 : 1
  widgets = concat(
    flatten([
      for row, name in keys(local.queues) : concat([
        {
          title  = "${name}: messages"
          x      = 0
          y      = 6 * local.rows_of_queue * row
          width  = 12
          height = 6
          stat   = "Maximum"
          period = 60
          metrics = [
            ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", local.queues[name].name],
            ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", local.queues[name].dead_letter_queue_name],
          ]
        },
        {
          title   = "${name}: age of the oldest message"
          x       = 12
          y       = 6 * local.rows_of_queue * row
          width   = 12
          height  = 6
          stat    = "Maximum"
          period  = 60
          metrics = [["AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", local.queues[name].name]]
        },
        ], [
        for widget in [
          {
            title   = "${name}: what becomes of its tasks"
            x       = 0
            y       = 6 * (2 * row + 1)
            width   = 12
            height  = 6
            stat    = "Sum"
            period  = 60
            metrics = [for metric in ["TasksSucceeded", "TasksFailed", "TasksRetried", "MessagesReturned", "MessagesParked", "DuplicatesDropped"] : [local.metrics_namespace, metric, "QueueName", local.queues[name].name]]
          },
          {
            title   = "${name}: nine of ten take at most"
            x       = 12
            y       = 6 * (2 * row + 1)
            width   = 12
            height  = 6
            stat    = "p90"
            period  = 60
            metrics = [for metric in ["TaskDuration", "QueueLatency", "IdempotencyDuration"] : [local.metrics_namespace, metric, "QueueName", local.queues[name].name]]
          },
        ] : widget if local.metrics_namespace != ""
      ])
    ]),
    flatten([
      for row, key in keys(local.functions) : [
        {
          title   = "${local.functions[key].name}: invocations"
          x       = 0
          y       = 6 * (local.rows_of_queue * length(local.queues) + row)
          width   = 12
          height  = 6
          stat    = "Sum"
          period  = 60
          metrics = [for metric in ["Invocations", "Errors", "Throttles"] : ["AWS/Lambda", metric, "FunctionName", local.functions[key].name]]
        },
        {
          title   = "${local.functions[key].name}: duration"
          x       = 12
          y       = 6 * (local.rows_of_queue * length(local.queues) + row)
          width   = 12
          height  = 6
          stat    = "Maximum"
          period  = 60
          metrics = [["AWS/Lambda", "Duration", "FunctionName", local.functions[key].name]]
        },
      ]
    ]),
  )
}
