"""Celery tasks on AWS Lambda, fed by SQS."""

from lambda_celery.exceptions import (
    BatchPublishError,
    ConfigurationError,
    LambdaCeleryError,
    PayloadMissingError,
    PublishError,
    UnreadableMessageError,
)
from lambda_celery.installation import install
from lambda_celery.publishing.batch_block import batch
from lambda_celery.publishing.bulk_calls import apply_async_many, delay_many
from lambda_celery.task import aapply_async, adelay, task

__version__ = "0.1.0"

__all__ = [
    "BatchPublishError",
    "ConfigurationError",
    "LambdaCeleryError",
    "PayloadMissingError",
    "PublishError",
    "UnreadableMessageError",
    "aapply_async",
    "adelay",
    "apply_async_many",
    "batch",
    "delay_many",
    "install",
    "task",
]
