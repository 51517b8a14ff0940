output "queue_urls" {
  value       = local.queue_urls
  description = "Celery queue name to URL. A project with one queue sets it as LAMBDA_CELERY_QUEUE_URL of the producer."
}

output "dead_letter_queue_urls" {
  value       = local.dead_letter_queue_urls
  description = "Celery queue name to the URL of where its messages are parked, with the reason as attributes."
}

output "producer_environment" {
  value       = local.variables
  description = "Variables of whatever calls delay()."
}

output "producer_policy_arn" {
  value       = one(aws_iam_policy.producer[*].arn)
  description = "Attach it to the role of whatever calls delay()."
}

output "caller_policy_arn" {
  value       = one(aws_iam_policy.caller[*].arn)
  description = "Attach it to the role of whatever calls the function directly."
}

output "results_policy_arn" {
  value       = one(aws_iam_policy.results[*].arn)
  description = "Attach it to the role of whatever reads results or starts chords, too."
}

output "function_names" {
  value       = { for key, function in module.figures.functions : key => function.name }
  description = "The functions, for LAMBDA_CELERY_FUNCTION of whatever calls them directly. The key is \"all\", or the queue's name with functions = \"each\"."
}

output "idempotency_table_name" {
  value       = one(aws_dynamodb_table.idempotency[*].name)
  description = "The records of what has run."
}

output "payload_bucket_name" {
  value       = one(aws_s3_bucket.payloads[*].id)
  description = "Bodies that are too big for SQS."
}
