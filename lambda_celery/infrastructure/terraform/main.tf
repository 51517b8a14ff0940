# Celery tasks on AWS Lambda, fed by SQS.

data "aws_partition" "current" {}

data "aws_caller_identity" "current" {}

data "aws_region" "current" {
  region = var.region
}

# What can be computed is computed there, and every value is checked there.
module "figures" {
  source = "./modules/figures"

  name                               = var.name
  app                                = var.app
  runtime                            = var.runtime
  architecture                       = var.architecture
  package_type                       = var.package_type
  handler                            = var.handler
  memory_size                        = var.memory_size
  timeout                            = var.timeout
  batch_size                         = var.batch_size
  maximum_batching_window_in_seconds = var.maximum_batching_window_in_seconds
  maximum_concurrency                = var.maximum_concurrency
  provisioned_pollers                = var.provisioned_pollers
  functions                          = var.functions
  queues                             = var.queues
  message_retention_seconds          = var.message_retention_seconds
  dlq_message_retention_seconds      = var.dlq_message_retention_seconds
  max_receive_count                  = var.max_receive_count
  results                            = var.results
  schedules                          = var.schedules
  ses_rate                           = var.ses_rate
  alarm_topic_arn                    = var.alarm_topic_arn
  alarm_email                        = var.alarm_email
  oldest_message_age_seconds         = var.oldest_message_age_seconds
  kms_key_arn                        = var.kms_key_arn
  vpc                                = var.vpc
  layers                             = var.layers
  permissions_boundary               = var.permissions_boundary
  tags                               = var.tags
  snap_start                         = var.snap_start
  alias                              = var.alias
  warm_throughput                    = var.warm_throughput
  environment                        = var.environment
  log_retention_days                 = var.log_retention_days
  local_existing_package             = var.local_existing_package
  s3_existing_package                = var.s3_existing_package
  image_uri                          = var.image_uri
}

# Terraform would destroy queues that hold messages, and the modules that make them have no
# switch against it. This one refuses the plan.
module "retained" {
  source = "./modules/retained"

  names = { for key, name in module.figures.retained : key => name if var.create }
}
