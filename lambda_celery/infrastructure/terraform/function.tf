# The functions, each with its role, its log and a mapping for each of its queues.

locals {
  # What function and producers read from their environments, with the names that AWS knows.
  variables = merge(
    module.figures.variables,
    { for table in aws_dynamodb_table.idempotency : "LAMBDA_CELERY_IDEMPOTENCY_TABLE" => table.name },
    { for table in aws_dynamodb_table.results : "CELERY_RESULT_BACKEND" => "lambda-dynamodb:///${table.name}" },
    { for bucket in aws_s3_bucket.payloads : "LAMBDA_CELERY_PAYLOAD_BUCKET" => bucket.id },
    { for group in aws_scheduler_schedule_group.this : "LAMBDA_CELERY_SCHEDULE_GROUP" => group.name },
    { for role in aws_iam_role.scheduler : "LAMBDA_CELERY_SCHEDULE_ROLE_ARN" => role.arn },
    # One queue takes everything. Several are told apart by Celery's names for them.
    { for url in values(local.queue_urls) : "LAMBDA_CELERY_QUEUE_URL" => url if length(local.queue_urls) == 1 },
    { for url in values(local.dead_letter_queue_urls) : "LAMBDA_CELERY_DEAD_LETTER_QUEUE_URL" => url if length(local.queue_urls) == 1 },
    { for queues in [local.queue_settings] : "LAMBDA_CELERY_QUEUES" => jsonencode(queues) if length(queues) > 1 },
  )

  queue_settings = {
    for name, url in local.queue_urls : name => merge(
      module.figures.queue_settings[name],
      { url = url, dead_letter_queue_url = local.dead_letter_queue_urls[name] },
    ) if length(local.queue_urls) > 1
  }
}

module "function" {
  source  = "terraform-aws-modules/lambda/aws"
  version = "~> 8.0"

  for_each = module.figures.functions

  create = var.create
  region = var.region

  function_name = each.value.name
  description   = "Runs Celery tasks."
  handler       = var.handler
  runtime       = var.runtime
  architectures = [var.architecture]
  memory_size   = var.memory_size
  timeout       = each.value.timeout
  layers        = var.layers

  package_type           = title(var.package_type)
  create_package         = false
  local_existing_package = var.local_existing_package
  s3_existing_package    = var.s3_existing_package
  image_uri              = var.image_uri
  image_config_command   = [for handler in [var.handler] : handler if var.package_type == "image"]

  # A mapping on an alias needs a version, and so does a snapshot.
  publish    = true
  snap_start = var.snap_start

  # Retries, long countdowns and chains go back to the function's own queue; AWS would stop them
  # after 16 rounds.
  recursive_loop = "Allow"

  environment_variables = merge(module.figures.environment, local.variables)
  kms_key_arn           = var.kms_key_arn

  vpc_subnet_ids         = try(var.vpc.subnet_ids, null)
  vpc_security_group_ids = try(var.vpc.security_group_ids, null)

  role_name                 = each.value.name
  role_permissions_boundary = var.permissions_boundary
  attach_policy_json        = true
  policy_json               = try(data.aws_iam_policy_document.function[each.key].json, null)

  # The policy above has it, for this log alone.
  attach_cloudwatch_logs_policy     = false
  logging_log_group                 = each.value.log_group
  cloudwatch_logs_retention_in_days = var.log_retention_days
  cloudwatch_logs_kms_key_id        = var.kms_key_arn

  tags = var.tags
}

resource "aws_iam_role_policy_attachment" "results" {
  for_each = { for key, function in module.figures.functions : key => function if var.create && var.results }

  role       = module.function[each.key].lambda_role_name
  policy_arn = aws_iam_policy.results[0].arn
}

# What the mappings invoke. Rolling back is naming an older version here.
resource "aws_lambda_alias" "this" {
  for_each = { for key, function in module.figures.functions : key => function if var.create }

  region           = var.region
  name             = var.alias
  function_name    = module.function[each.key].lambda_function_name
  function_version = module.function[each.key].lambda_function_version
}

# Not by the lambda module's event_source_mapping, which names the function without its alias.
resource "aws_lambda_event_source_mapping" "this" {
  for_each = { for name, mapping in module.figures.event_source_mapping : name => mapping if var.create }

  region           = var.region
  event_source_arn = local.queue_arns[each.key]
  function_name    = aws_lambda_alias.this[each.value.function].arn

  batch_size                         = each.value.batch_size
  maximum_batching_window_in_seconds = each.value.maximum_batching_window_in_seconds
  function_response_types            = each.value.function_response_types

  # The pollers' own limit. Reserved concurrency would throttle, and a throttled message has been
  # received once more for nothing.
  dynamic "scaling_config" {
    for_each = each.value.scaling_config == null ? [] : [each.value.scaling_config]

    content {
      maximum_concurrency = scaling_config.value.maximum_concurrency
    }
  }

  dynamic "provisioned_poller_config" {
    for_each = each.value.provisioned_poller_config == null ? [] : [each.value.provisioned_poller_config]

    content {
      minimum_pollers = provisioned_poller_config.value.minimum_pollers
      maximum_pollers = provisioned_poller_config.value.maximum_pollers
    }
  }

  metrics_config {
    metrics = each.value.metrics_config.metrics
  }

  tags = var.tags

  # Polling without the rights to it would fail.
  depends_on = [module.function, aws_iam_role_policy_attachment.results]
}
