# The records of what has run, and the results.

resource "aws_dynamodb_table" "idempotency" {
  count = var.create ? 1 : 0

  region       = var.region
  name         = module.figures.names.idempotency_table
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "id"

  attribute {
    name = "id"
    type = "S"
  }

  attribute {
    name = "failures"
    type = "S"
  }

  attribute {
    name = "failed_at"
    type = "N"
  }

  # Failed tasks, by their time. Nothing else is in it.
  global_secondary_index {
    name            = "failures"
    hash_key        = "failures"
    range_key       = "failed_at"
    projection_type = "INCLUDE"
    non_key_attributes = [
      "task", "task_id", "queue", "dead_letter_queue", "reason", "exception", "attempts", "size", "retried_at",
      "expiration",
    ]
  }

  ttl {
    attribute_name = "expiration"
    enabled        = true
  }

  point_in_time_recovery {
    enabled = true
  }

  # A new table takes about 4,000 writes a second, and grows from there.
  dynamic "warm_throughput" {
    for_each = var.warm_throughput == null ? [] : [var.warm_throughput]

    content {
      read_units_per_second  = warm_throughput.value.read
      write_units_per_second = warm_throughput.value.write
    }
  }

  dynamic "server_side_encryption" {
    for_each = var.kms_key_arn == null ? [] : [var.kms_key_arn]

    content {
      enabled     = true
      kms_key_arn = server_side_encryption.value
    }
  }

  tags = var.tags

  # Without its records, what is sent again runs again.
  lifecycle {
    prevent_destroy = true
  }
}

# For result_backend = lambda-dynamodb://: it neither creates nor describes its table.
resource "aws_dynamodb_table" "results" {
  count = var.create && var.results ? 1 : 0

  region       = var.region
  name         = module.figures.names.results_table
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "id"

  attribute {
    name = "id"
    type = "S"
  }

  ttl {
    attribute_name = "ttl"
    enabled        = true
  }

  point_in_time_recovery {
    enabled = true
  }

  dynamic "server_side_encryption" {
    for_each = var.kms_key_arn == null ? [] : [var.kms_key_arn]

    content {
      enabled     = true
      kms_key_arn = server_side_encryption.value
    }
  }

  tags = var.tags
}
