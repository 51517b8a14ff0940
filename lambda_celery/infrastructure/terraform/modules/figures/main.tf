# What follows from the inputs. Nothing here needs a provider.

terraform {
  required_version = ">= 1.9"
}

locals {
  day = 86400

  # --------------------------------------------------------------------- queues
  slugs = { for name in try(keys(var.queues), var.queues) : name => replace(name, "/[^A-Za-z0-9_-]/", "-") }

  # What a queue says itself, or what holds for all.
  own = {
    for name in keys(local.slugs) : name => {
      fifo                      = try(tobool(var.queues[name].fifo), null)
      timeout                   = try(tonumber(var.queues[name].timeout), null)
      batch_size                = try(tonumber(var.queues[name].batch_size), null)
      maximum_concurrency       = try(tonumber(var.queues[name].maximum_concurrency), null)
      max_receive_count         = try(tonumber(var.queues[name].max_receive_count), null)
      message_retention_seconds = try(tonumber(var.queues[name].message_retention_seconds), null)
      queue_arn                 = try(tostring(var.queues[name].queue_arn), null)
      dead_letter_queue_arn     = try(tostring(var.queues[name].dead_letter_queue_arn), null)
    }
  }

  merged = {
    for name, own in local.own : name => {
      fifo                      = coalesce(own.fifo, false)
      timeout                   = coalesce(own.timeout, var.timeout)
      batch_size                = coalesce(own.batch_size, coalesce(own.fifo, false) ? min(var.batch_size, 10) : var.batch_size)
      maximum_concurrency       = var.provisioned_pollers != null ? own.maximum_concurrency : coalesce(own.maximum_concurrency, var.maximum_concurrency, 10)
      max_receive_count         = coalesce(own.max_receive_count, var.max_receive_count)
      message_retention_seconds = coalesce(own.message_retention_seconds, var.message_retention_seconds)
      queue_arn                 = own.queue_arn
      dead_letter_queue_arn     = own.dead_letter_queue_arn
    }
  }

  longest_timeout = max([for queue in values(local.merged) : queue.timeout]...)

  # The visibility time-out follows the function's time-out: with one function for all queues
  # that is the longest.
  queues = {
    for name, queue in local.merged : name => merge(queue, {
      function = var.functions == "each" ? name : "all"
      # AWS asks for a window as soon as a batch may exceed 10. FIFO queues have none.
      maximum_batching_window_in_seconds = local.windows[name]
      visibility_timeout_seconds         = 6 * local.timeouts[name] + local.windows[name]
      name                               = queue.queue_arn != null ? element(split(":", queue.queue_arn), 5) : "${var.name}-${local.slugs[name]}${queue.fifo ? ".fifo" : ""}"
      dead_letter_queue_name             = queue.dead_letter_queue_arn != null ? element(split(":", queue.dead_letter_queue_arn), 5) : "${var.name}-${local.slugs[name]}-dead-letters${queue.fifo ? ".fifo" : ""}"
      idempotency_ttl_seconds            = 2 * queue.message_retention_seconds + var.dlq_message_retention_seconds + local.day
    })
  }

  timeouts = { for name, queue in local.merged : name => var.functions == "each" ? queue.timeout : local.longest_timeout }
  windows = {
    for name, queue in local.merged :
    name => queue.fifo ? 0 : max(var.maximum_batching_window_in_seconds, queue.batch_size > 10 ? 1 : 0)
  }

  # A message may spend its retention on the queue, the dead-letter queue's there and, sent back,
  # its retention once more. As long must its record stand, or it would run again; and its payload,
  # which may have waited for 13 days before, as long as a message waits in EventBridge Scheduler.
  idempotency_ttl_seconds = max([for queue in values(local.queues) : queue.idempotency_ttl_seconds]...)
  payload_days            = ceil(local.idempotency_ttl_seconds / local.day + (var.schedules ? 13 : 0))

  # ------------------------------------------------------------------ functions
  functions = {
    for key in keys(local.function_names) : key => {
      name    = local.function_names[key]
      timeout = key == "all" ? local.longest_timeout : local.merged[key].timeout
      queues  = [for name, queue in local.queues : name if queue.function == key]
      # Named for the function, as Lambda would do it, so that its policy can name it.
      log_group = "/aws/lambda/${local.function_names[key]}"
    }
  }

  function_names = {
    for key in distinct([for queue in values(local.queues) : queue.function]) :
    key => key == "all" ? var.name : "${var.name}-${local.slugs[key]}"
  }

  # All of a mapping but the queue. What does not apply is left out.
  event_source_mapping = {
    for name, queue in local.queues : name => {
      function                           = queue.function
      batch_size                         = queue.batch_size
      maximum_batching_window_in_seconds = queue.maximum_batching_window_in_seconds
      # Without this, Lambda would delete every message of a batch, the failed ones too.
      function_response_types   = ["ReportBatchItemFailures"]
      scaling_config            = queue.maximum_concurrency == null ? null : { maximum_concurrency = queue.maximum_concurrency }
      provisioned_poller_config = var.provisioned_pollers == null ? null : { minimum_pollers = var.provisioned_pollers.minimum, maximum_pollers = var.provisioned_pollers.maximum }
      metrics_config            = { metrics = ["EventCount"] }
    }
  }

  names = {
    idempotency_table = "${var.name}-idempotency"
    results_table     = "${var.name}-results"
    bucket_prefix     = "${var.name}-payloads-"
    schedule_group    = var.name
    scheduler_role    = "${var.name}-scheduler"
    producer_policy   = "${var.name}-producer"
    caller_policy     = "${var.name}-caller"
    results_policy    = "${var.name}-results"
    alarm_topic       = "${var.name}-alarms"
    dashboard         = var.name
  }

  # What has a queue's name in its own, which nothing else of the kind may have. IAM does not tell
  # large letters from small ones.
  taken = {
    queues = [for name in concat(
      [for queue in values(local.queues) : queue.name if queue.queue_arn == null],
      [for queue in values(local.queues) : queue.dead_letter_queue_name if queue.dead_letter_queue_arn == null],
    ) : lower(name)]
    roles  = [for name in concat(values(local.function_names), var.schedules ? [local.names.scheduler_role] : []) : lower(name)]
    alarms = [for alarm in values(local.alarms) : lower(alarm.name)]
  }

  # ---------------------------------------------------------------- environment
  # Variables that the module sets itself.
  own_variables = [
    "LAMBDA_CELERY_APP",
    "LAMBDA_CELERY_QUEUE_URL",
    "LAMBDA_CELERY_QUEUES",
    "LAMBDA_CELERY_DEAD_LETTER_QUEUE_URL",
    "LAMBDA_CELERY_MAX_RECEIVE_COUNT",
    "LAMBDA_CELERY_IDEMPOTENCY_TABLE",
    "LAMBDA_CELERY_IDEMPOTENCY_TTL_SECONDS",
    "LAMBDA_CELERY_PAYLOAD_BUCKET",
    "LAMBDA_CELERY_SCHEDULE_GROUP",
    "LAMBDA_CELERY_SCHEDULE_ROLE_ARN",
    "CELERY_RESULT_BACKEND",
  ]

  # Variables that Lambda sets itself, and lets nobody else set.
  reserved_variables = [
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
  ]

  environment = merge(var.environment, { LAMBDA_CELERY_APP = var.app })

  # Those of their values that producers need, too, and that need no resource.
  variables = merge(
    { LAMBDA_CELERY_IDEMPOTENCY_TTL_SECONDS = tostring(local.idempotency_ttl_seconds) },
    { for name, queue in local.queues : "LAMBDA_CELERY_MAX_RECEIVE_COUNT" => tostring(queue.max_receive_count) if length(local.queues) == 1 },
  )

  # What LAMBDA_CELERY_QUEUES says of each queue, but for its addresses.
  queue_settings = {
    for name, queue in local.queues : name => {
      max_receive_count       = queue.max_receive_count
      idempotency_ttl_seconds = queue.idempotency_ttl_seconds
    } if length(local.queues) > 1
  }

  # All of the function's variables as JSON, as Lambda measures them, each as long as it can get.
  urls = {
    for name, queue in local.queues : name => {
      url                   = format("https://sqs.cn-northwest-1.amazonaws.com.cn/123456789012/%s", queue.name)
      dead_letter_queue_url = format("https://sqs.cn-northwest-1.amazonaws.com.cn/123456789012/%s", queue.dead_letter_queue_name)
    }
  }
  longest_environment = merge(
    local.environment,
    local.variables,
    {
      LAMBDA_CELERY_IDEMPOTENCY_TABLE = local.names.idempotency_table
      LAMBDA_CELERY_PAYLOAD_BUCKET    = format("%063d", 0)
    },
    { for table in [local.names.results_table] : "CELERY_RESULT_BACKEND" => "lambda-dynamodb:///${table}" if var.results },
    { for group in [local.names.schedule_group] : "LAMBDA_CELERY_SCHEDULE_GROUP" => group if var.schedules },
    { for role in [local.names.scheduler_role] : "LAMBDA_CELERY_SCHEDULE_ROLE_ARN" => "arn:aws-us-gov:iam::123456789012:role/${role}" if var.schedules },
    { for each in values(local.urls) : "LAMBDA_CELERY_QUEUE_URL" => each.url if length(local.urls) == 1 },
    { for each in values(local.urls) : "LAMBDA_CELERY_DEAD_LETTER_QUEUE_URL" => each.dead_letter_queue_url if length(local.urls) == 1 },
    { for settings in [local.queue_settings] : "LAMBDA_CELERY_QUEUES" => jsonencode({ for name, each in settings : name => merge(each, local.urls[name]) }) if length(local.urls) > 1 },
  )

  # What a plan may not destroy and has no switch of its own against it: the queues made here.
  retained = merge(
    { for name, queue in local.queues : "queue ${name}" => queue.name if queue.queue_arn == null },
    { for name, queue in local.queues : "dead-letter queue ${name}" => queue.dead_letter_queue_name if queue.dead_letter_queue_arn == null },
  )
}
