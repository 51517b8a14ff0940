"""Celery tasks on AWS Lambda, fed by SQS."""

from lambda_celery.exceptions import (
    ConfigurationError,
    LambdaCeleryError,
    PayloadMissingError,
    PublishError,
    UnreadableMessageError,
)
from lambda_celery.routing import install
from lambda_celery.task import task

__version__ = "0.1.0"

__all__ = [
    "ConfigurationError",
    "LambdaCeleryError",
    "PayloadMissingError",
    "PublishError",
    "UnreadableMessageError",
    "install",
    "task",
]
