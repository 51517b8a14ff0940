"""Where a message that comes back is sent to, and with which attributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery import Celery

from lambda_celery import aws
from lambda_celery.conf import Settings
from lambda_celery.exceptions import FailedTaskError
from lambda_celery.failures.refusals import refused


def queue_url_of(settings: Settings, arn: str) -> str:
    """Return the URL of the queue *arn*: the settings', or the one that SQS tells.

    :raises FailedTaskError: SQS does not tell it.
    """
    *_, account, name = arn.split(":")
    named = (url for url in settings.queue_urls if url.endswith(f"/{account}/{name}"))
    if (url := next(named, None)) is not None:
        return url
    try:
        answer = aws.client("sqs", settings).get_queue_url(
            QueueName=name, QueueOwnerAWSAccountId=account
        )
    except aws.AWS_ERRORS as exc:
        resource = f"the queue {arn}"
        raise refused(exc, action="sqs:GetQueueUrl", resource=resource) from aws.cause(
            exc, settings
        )
    return str(answer["QueueUrl"])


def url_of_name(app: Celery, settings: Settings, name: str) -> str:
    """Return the URL of the Celery queue *name*.

    :raises FailedTaskError: the app has no such queue.
    """
    known = {*settings.queues, *app.amqp.queues, app.conf.task_default_queue}
    if name not in known:
        raise FailedTaskError(
            f"The app has no Celery queue {name!r}: name one of {', '.join(sorted(known))}, or "
            "the URL of an SQS queue."
        )
    return settings.url_of(name)


def plain_attributes(attributes: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return *attributes* as SendMessage takes them: what ReceiveMessage adds is left out."""
    kept = ("DataType", "StringValue", "BinaryValue")
    return {
        name: {field: value[field] for field in kept if field in value}
        for name, value in attributes.items()
    }
