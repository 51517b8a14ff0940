# The inputs, each with what is refused. The module around this one hands them on as they are,
# so that the checks run where no AWS provider is needed.

variable "name" {
  type        = string
  description = "Prefix of the names of everything that is made."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,23}$", var.name))
    error_message = "name has to begin with a small letter. Small letters, digits and hyphens may follow. It may have 24 characters at most, since AWS limits the names that begin with it."
  }
}

variable "app" {
  type        = string
  description = "The Celery app, as after celery -A."

  validation {
    condition     = can(regex("^[A-Za-z_][A-Za-z0-9_.]*(:[A-Za-z_][A-Za-z0-9_.]*)?$", var.app))
    error_message = "app has to be written as after celery -A: \"proj.celery:app\"."
  }
}

variable "runtime" {
  type        = string
  description = "Lambda's runtime. An image brings its own."

  validation {
    condition     = contains(["python3.11", "python3.12", "python3.13", "python3.14"], var.runtime)
    error_message = "runtime has to be \"python3.11\", \"python3.12\", \"python3.13\" or \"python3.14\"."
  }
}

variable "architecture" {
  type        = string
  description = "arm64 or x86_64."

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "architecture has to be \"arm64\" or \"x86_64\"."
  }
}

variable "package_type" {
  type        = string
  description = "zip or image."

  validation {
    condition     = contains(["zip", "image"], var.package_type)
    error_message = "package_type has to be \"zip\" or \"image\"."
  }
}

variable "handler" {
  type        = string
  description = "The function's handler."

  validation {
    condition     = can(regex("^[A-Za-z0-9_.]+\\.[A-Za-z0-9_]+$", var.handler))
    error_message = "handler has to be a module and a function, such as \"lambda_runtime.handler\"."
  }
}

variable "memory_size" {
  type        = number
  description = "Memory of the function in MB."

  validation {
    condition     = var.memory_size >= 128 && var.memory_size <= 10240
    error_message = "memory_size has to be from 128 to 10240 MB."
  }
}

variable "timeout" {
  type        = number
  description = "Seconds that one invocation may take."

  validation {
    condition     = var.timeout >= 1 && var.timeout <= 900
    error_message = "timeout has to be from 1 to 900 seconds. Lambda allows no more."
  }
}

variable "batch_size" {
  type        = number
  description = "Messages that one invocation gets at most."

  validation {
    condition     = var.batch_size >= 1 && var.batch_size <= 10000
    error_message = "batch_size has to be from 1 to 10000."
  }
}

variable "maximum_batching_window_in_seconds" {
  type        = number
  description = "Seconds that Lambda waits for a batch to fill."

  validation {
    condition     = var.maximum_batching_window_in_seconds >= 0 && var.maximum_batching_window_in_seconds <= 300
    error_message = "maximum_batching_window_in_seconds has to be from 0 to 300."
  }
}

variable "maximum_concurrency" {
  type        = number
  default     = null
  description = "Invocations at the same time for each queue."

  validation {
    condition     = var.maximum_concurrency == null ? true : var.maximum_concurrency >= 2 && var.maximum_concurrency <= 1000
    error_message = "maximum_concurrency has to be from 2 to 1000."
  }

  validation {
    condition     = var.maximum_concurrency == null || var.provisioned_pollers == null
    error_message = "maximum_concurrency and provisioned_pollers exclude each other. Leave one of them out."
  }
}

variable "provisioned_pollers" {
  type        = object({ minimum = number, maximum = number })
  default     = null
  description = "Pollers that are always there, and how many there may be."

  validation {
    condition     = var.provisioned_pollers == null ? true : var.provisioned_pollers.minimum >= 2 && var.provisioned_pollers.minimum <= 200
    error_message = "provisioned_pollers.minimum has to be from 2 to 200."
  }

  validation {
    condition     = var.provisioned_pollers == null ? true : var.provisioned_pollers.maximum >= 2 && var.provisioned_pollers.maximum <= 2000
    error_message = "provisioned_pollers.maximum has to be from 2 to 2000."
  }

  validation {
    condition     = var.provisioned_pollers == null ? true : var.provisioned_pollers.minimum <= var.provisioned_pollers.maximum
    error_message = "provisioned_pollers.minimum may not exceed provisioned_pollers.maximum."
  }
}

variable "functions" {
  type        = string
  description = "one function for all queues, or each: one for each queue."

  validation {
    condition     = contains(["one", "each"], var.functions)
    error_message = "functions has to be \"one\" or \"each\"."
  }
}

# Of any type, since Terraform drops the keys that a written type does not name: a misspelt one
# would be lost without a word.
variable "queues" {
  type        = any
  description = "Celery queue names, as a list or as a table of name to the queue's own inputs."

  validation {
    condition     = length(var.queues) > 0
    error_message = "queues has to name one queue at least."
  }

  validation {
    condition = length(setsubtract(
      flatten([for queue in try(values(var.queues), []) : try(keys(queue), ["?"])]),
      ["fifo", "timeout", "batch_size", "maximum_concurrency", "max_receive_count", "message_retention_seconds", "queue_arn", "dead_letter_queue_arn"],
    )) == 0
    error_message = "A queue may have fifo, timeout, batch_size, maximum_concurrency, max_receive_count, message_retention_seconds, queue_arn and dead_letter_queue_arn, and no other key."
  }

  validation {
    condition     = alltrue([for name in try(keys(var.queues), var.queues) : can(regex("^[A-Za-z0-9_.:-]{1,50}$", name))])
    error_message = "A queue's name may have letters, digits, \"_\", \"-\", \".\" and \":\", and 50 characters at most."
  }

  validation {
    condition     = var.provisioned_pollers == null || alltrue([for queue in try(values(var.queues), []) : try(queue.maximum_concurrency, null) == null])
    error_message = "A queue's maximum_concurrency and provisioned_pollers exclude each other. Leave one of them out."
  }
}

variable "message_retention_seconds" {
  type        = number
  description = "Seconds that a message may wait on its queue."
}

variable "dlq_message_retention_seconds" {
  type        = number
  description = "Seconds that a parked message is kept."

  validation {
    condition     = var.dlq_message_retention_seconds >= 60 && var.dlq_message_retention_seconds <= 1209600
    error_message = "dlq_message_retention_seconds has to be from 60 to 1209600. SQS keeps no message for longer than 14 days."
  }
}

variable "max_receive_count" {
  type        = number
  description = "Receives before a message is parked."
}

variable "results" {
  type        = bool
  description = "Whether results are kept."
}

variable "schedules" {
  type        = bool
  description = "Whether EventBridge Scheduler is used."
}

variable "ses_rate" {
  type        = bool
  description = "Whether the function may learn the rate that SES allows the account."
}

variable "alarm_topic_arn" {
  type        = string
  default     = null
  description = "An SNS topic that is told of alarms."

  validation {
    condition     = var.alarm_topic_arn == null ? true : can(regex("^arn:[a-z-]+:sns:", var.alarm_topic_arn))
    error_message = "alarm_topic_arn has to be the ARN of an SNS topic."
  }

  validation {
    condition     = var.alarm_topic_arn == null || var.alarm_email == null
    error_message = "alarm_topic_arn and alarm_email exclude each other. Subscribe the address to your own topic."
  }
}

variable "alarm_email" {
  type        = string
  default     = null
  description = "An address that is told of alarms, by a topic that is made for it."

  validation {
    condition     = var.alarm_email == null ? true : can(regex("^[^@[:space:]]+@[^@[:space:]]+$", var.alarm_email))
    error_message = "alarm_email has to be an e-mail address."
  }
}

variable "oldest_message_age_seconds" {
  type        = number
  description = "An alarm goes off when a message has been waiting for longer."

  validation {
    condition     = var.oldest_message_age_seconds >= 60 && var.oldest_message_age_seconds <= 1209600
    error_message = "oldest_message_age_seconds has to be from 60 to 1209600: the metric comes once a minute, and no message gets older than 14 days."
  }
}

variable "kms_key_arn" {
  type        = string
  default     = null
  description = "A key of one's own for queues, tables, bucket and variables."

  validation {
    condition     = var.kms_key_arn == null ? true : can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/.", var.kms_key_arn))
    error_message = "kms_key_arn has to be the ARN of a KMS key, with \":key/\" in it. An alias is no resource of a policy."
  }
}

variable "vpc" {
  type        = object({ subnet_ids = list(string), security_group_ids = list(string) })
  default     = null
  description = "Subnets and security groups of the function."

  validation {
    condition     = var.vpc == null ? true : length(var.vpc.subnet_ids) > 0 && length(var.vpc.security_group_ids) > 0
    error_message = "vpc has to name one subnet and one security group at least."
  }

  validation {
    condition = alltrue(concat(
      [for id in try(var.vpc.subnet_ids, []) : can(regex("^subnet-[0-9a-z]+$", id))],
      [for id in try(var.vpc.security_group_ids, []) : can(regex("^sg-[0-9a-z]+$", id))],
    ))
    error_message = "vpc has to name subnets by ids that begin with \"subnet-\", and security groups by ids that begin with \"sg-\"."
  }
}

variable "layers" {
  type        = list(string)
  description = "ARNs of layer versions."

  validation {
    condition     = length(var.layers) <= 5
    error_message = "layers may name 5 layer versions at most."
  }

  validation {
    condition     = alltrue([for arn in var.layers : can(regex("^arn:[a-z-]+:lambda:[a-z0-9-]+:[0-9]{12}:layer:[A-Za-z0-9_-]+:[0-9]+$", arn))])
    error_message = "layers have to be ARNs of layers' versions, such as \"arn:aws:lambda:eu-central-1:123456789012:layer:binaries:3\"."
  }

  validation {
    condition     = length(var.layers) == 0 || var.package_type == "zip"
    error_message = "layers go with package_type = \"zip\". An image holds everything itself."
  }
}

variable "permissions_boundary" {
  type        = string
  default     = null
  description = "ARN of the policy that bounds the roles."

  validation {
    condition     = var.permissions_boundary == null ? true : can(regex("^arn:[a-z-]+:iam:.", var.permissions_boundary))
    error_message = "permissions_boundary has to be the ARN of a policy."
  }
}

variable "tags" {
  type        = map(string)
  description = "Tags of everything that takes them."

  validation {
    condition     = alltrue([for key in keys(var.tags) : can(regex("^.{1,128}$", key)) && !startswith(lower(key), "aws:")])
    error_message = "tags may not have names that begin with \"aws:\", nor with more than 128 characters."
  }
}

variable "snap_start" {
  type        = bool
  description = "Whether environments start from a snapshot."

  validation {
    condition     = !var.snap_start || var.package_type == "zip"
    error_message = "snap_start goes with package_type = \"zip\": Lambda takes no snapshot of an image."
  }

  validation {
    condition     = !var.snap_start || var.runtime != "python3.11"
    error_message = "snap_start goes with runtime = \"python3.12\" or newer."
  }
}

variable "alias" {
  type        = string
  description = "Name of the alias that the event source mapping names."

  validation {
    condition     = can(regex("^[A-Za-z_][A-Za-z0-9_-]{0,127}$", var.alias))
    error_message = "alias has to begin with a letter. Letters, digits, \"_\" and \"-\" may follow."
  }
}

variable "warm_throughput" {
  type        = object({ read = number, write = number })
  default     = null
  description = "Reads and writes a second that the idempotency table takes at once."

  validation {
    condition     = var.warm_throughput == null ? true : var.warm_throughput.read >= 12000 && var.warm_throughput.write >= 4000
    error_message = "warm_throughput has to be 12000 reads and 4000 writes a second or more: so much has every table."
  }
}

variable "environment" {
  type        = map(string)
  description = "Variables of the function."

  validation {
    condition     = length(setintersection(keys(var.environment), local.own_variables)) == 0
    error_message = "environment names a variable that is computed here: ${join(", ", setintersection(keys(var.environment), local.own_variables))}. Leave it out."
  }

  validation {
    condition     = alltrue([for name in keys(var.environment) : can(regex("^[A-Za-z][A-Za-z0-9_]+$", name))])
    error_message = "environment has to have names of two characters or more: a letter, then letters, digits and \"_\"."
  }

  validation {
    condition     = length(setintersection(keys(var.environment), local.reserved_variables)) == 0
    error_message = "environment names a variable that is Lambda's own: ${join(", ", setintersection(keys(var.environment), local.reserved_variables))}. Leave it out."
  }
}

variable "log_retention_days" {
  type        = number
  description = "Days that the function's log is kept."

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days has to be one of CloudWatch's: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653."
  }
}

variable "local_existing_package" {
  type        = string
  default     = null
  description = "Path of the function's zip."

  validation {
    condition     = var.package_type != "zip" || (var.local_existing_package == null) != (var.s3_existing_package == null)
    error_message = "package_type = \"zip\" needs local_existing_package, the zip's path, or s3_existing_package, and not both. celery lambda package builds the zip."
  }

  validation {
    condition     = var.package_type != "image" || (var.local_existing_package == null && var.s3_existing_package == null)
    error_message = "package_type = \"image\" goes without local_existing_package and s3_existing_package."
  }
}

variable "s3_existing_package" {
  type        = object({ bucket = string, key = string, version_id = optional(string) })
  default     = null
  description = "The zip in S3 instead."
}

variable "image_uri" {
  type        = string
  default     = null
  description = "The image in ECR."

  validation {
    condition     = (var.package_type == "image") == (var.image_uri != null)
    error_message = "image_uri goes with package_type = \"image\", and is needed there."
  }
}
