# The words of [tool.lambda-celery] in pyproject.toml. modules/figures checks their values.

variable "name" {
  type        = string
  description = "Prefix of the names of everything that is made."
}

variable "app" {
  type        = string
  description = "The Celery app, as after celery -A: \"proj.celery:app\"."
}

variable "runtime" {
  type        = string
  default     = "python3.13"
  description = "Lambda's runtime. An image brings its own."
}

variable "architecture" {
  type        = string
  default     = "arm64"
  description = "\"arm64\" or \"x86_64\"."
}

variable "package_type" {
  type        = string
  default     = "zip"
  description = "\"zip\" or \"image\"."
}

variable "handler" {
  type        = string
  default     = "lambda_runtime.handler"
  description = "The function's handler."
}

variable "memory_size" {
  type        = number
  default     = 1024
  description = "Memory of the function in MB."
}

variable "timeout" {
  type        = number
  default     = 60
  description = "Seconds that one invocation may take, 900 at most. The queues' visibility time-out follows from it."
}

variable "batch_size" {
  type        = number
  default     = 10
  description = "Messages that one invocation gets at most."
}

variable "maximum_batching_window_in_seconds" {
  type        = number
  default     = 0
  description = "Seconds that Lambda waits for a batch to fill. With a batch_size over 10 it is 1 at least."
}

variable "maximum_concurrency" {
  type        = number
  default     = null
  description = "Invocations at the same time for each queue, from 2 to 1000: 10, unless provisioned_pollers are given."
}

variable "provisioned_pollers" {
  type        = object({ minimum = number, maximum = number })
  default     = null
  description = "Pollers that are always there (2 to 200), and how many there may be (2 to 2000). They exclude maximum_concurrency, and cost by the hour."
}

variable "functions" {
  type        = string
  default     = "one"
  description = "\"one\" function for all queues, or \"each\": one for each queue."
}

variable "queues" {
  type        = any
  default     = { celery = {} }
  description = "Celery queue names, as a list or as a table of name to the queue's own inputs: fifo, timeout, batch_size, maximum_concurrency, max_receive_count, message_retention_seconds, queue_arn, dead_letter_queue_arn."
}

variable "message_retention_seconds" {
  type        = number
  default     = 345600
  description = "Seconds that a message may wait on its queue."
}

variable "dlq_message_retention_seconds" {
  type        = number
  default     = 1209600
  description = "Seconds that a parked message is kept. SQS allows 1209600 at most."
}

variable "max_receive_count" {
  type        = number
  default     = 5
  description = "Receives before a message is parked, 5 at least."
}

variable "results" {
  type        = bool
  default     = false
  description = "Whether results are kept, in a table of their own."
}

variable "schedules" {
  type        = bool
  default     = true
  description = "Whether EventBridge Scheduler is used for what is due later than SQS can delay it."
}

variable "ses_rate" {
  type        = bool
  default     = false
  description = "Whether the function may learn the rate that SES allows the account."
}

variable "alarm_topic_arn" {
  type        = string
  default     = null
  description = "An SNS topic that is told of alarms."
}

variable "alarm_email" {
  type        = string
  default     = null
  description = "An address that is told of alarms, by a topic that is made for it."
}

variable "oldest_message_age_seconds" {
  type        = number
  default     = 900
  description = "An alarm goes off when a message has been waiting for longer than this."
}

variable "kms_key_arn" {
  type        = string
  default     = null
  description = "A KMS key of your own for queues, tables, bucket and the function's variables. By default AWS's own keys are used."
}

variable "vpc" {
  type        = object({ subnet_ids = list(string), security_group_ids = list(string) })
  default     = null
  description = "Subnets and security groups of the function."
}

variable "layers" {
  type        = list(string)
  default     = []
  description = "ARNs of layer versions, 5 at most."
}

variable "permissions_boundary" {
  type        = string
  default     = null
  description = "ARN of the policy that bounds the roles."
}

variable "tags" {
  type        = map(string)
  default     = {}
  description = "Tags of everything that takes them."
}

variable "snap_start" {
  type        = bool
  default     = false
  description = "Whether environments start from a snapshot."
}

variable "alias" {
  type        = string
  default     = "live"
  description = "Name of the alias that the event source mappings name."
}

variable "warm_throughput" {
  type        = object({ read = number, write = number })
  default     = null
  description = "Reads and writes a second that the idempotency table takes at once. By default it grows with the load."
}

variable "environment" {
  type        = map(string)
  default     = {}
  description = "Variables of the function, besides those that are computed."
}

variable "log_retention_days" {
  type        = number
  default     = 30
  description = "Days that the function's log is kept."
}

# ------------------------------------------------------------- Terraform's own

variable "create" {
  type        = bool
  default     = true
  description = "Whether anything is made at all."
}

variable "region" {
  type        = string
  default     = null
  description = "The region, if it is another than the provider's."
}

variable "local_existing_package" {
  type        = string
  default     = null
  description = "Path of the zip that celery lambda package built, with package_type = \"zip\"."
}

variable "s3_existing_package" {
  type        = object({ bucket = string, key = string, version_id = optional(string) })
  default     = null
  description = "The zip in S3 instead. Lambda takes 50 MB at most directly."
}

variable "image_uri" {
  type        = string
  default     = null
  description = "The image in ECR, with package_type = \"image\"."
}
