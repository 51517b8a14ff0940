"""AWS's refusals in the function, as sentences: by the operation, from whoever made it."""

from __future__ import annotations

from lambda_celery import aws

_TABLE_OPERATIONS = {"DeleteItem", "GetItem", "PutItem", "UpdateItem"}
_BUCKET_OPERATIONS = {"DeleteObject", "GetObject"}


def sentence(exc: BaseException) -> str:
    """Return the sentence for *exc*, an error of AWS's or any other."""
    operation = getattr(exc, "operation_name", None)
    if operation in _TABLE_OPERATIONS:
        return aws.explain(
            exc,
            action=f"dynamodb:{operation}",
            resource="the idempotency table",
            setting="idempotency_table",
        )
    if operation in _BUCKET_OPERATIONS:
        return aws.explain(
            exc,
            action=f"s3:{operation}",
            resource="the payload bucket",
            setting="payload_bucket",
        )
    if operation:
        return aws.explain(exc, action=f"sqs:{operation}", resource="the queue")
    return str(exc)
