"""The one tree of exceptions. Every message is a sentence that says what to do."""

from __future__ import annotations

from celery.exceptions import ImproperlyConfigured
from kombu.exceptions import OperationalError


class LambdaCeleryError(Exception):
    """Anything that Lambda Celery itself raises."""


class ConfigurationError(LambdaCeleryError, ImproperlyConfigured):
    """A setting is missing or contradicts another; the message names it."""


class PublishError(LambdaCeleryError, OperationalError):
    """AWS did not take a message. It was not sent, and nothing was dropped silently.

    It is a :exc:`kombu.exceptions.OperationalError`, which is what Celery
    documents for a ``delay()`` that could not reach the broker.
    """


class ScheduleError(PublishError):
    """EventBridge Scheduler did not take a schedule, or does not delete one."""


class UnreadableMessageError(LambdaCeleryError):
    """A message on the queue is not a Celery task message that may be decoded here."""


class PayloadMissingError(UnreadableMessageError):
    """The S3 object that an SQS message points to is gone."""
