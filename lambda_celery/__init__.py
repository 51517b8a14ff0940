"""Celery tasks on AWS Lambda, fed by SQS."""

from lambda_celery.batch import batch
from lambda_celery.exceptions import (
    BatchPublishError,
    ConfigurationError,
    LambdaCeleryError,
    PayloadMissingError,
    PublishError,
    UnreadableMessageError,
)
from lambda_celery.many import apply_async_many, delay_many
from lambda_celery.routing import install
from lambda_celery.task import task

__version__ = "0.1.0"

__all__ = [
    "BatchPublishError",
    "ConfigurationError",
    "LambdaCeleryError",
    "PayloadMissingError",
    "PublishError",
    "UnreadableMessageError",
    "apply_async_many",
    "batch",
    "delay_many",
    "install",
    "task",
]
