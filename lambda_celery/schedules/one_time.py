"""One-time schedules: for a message that is due later than SQS can delay it."""

from __future__ import annotations

import hashlib
import uuid
from datetime import UTC, datetime, timedelta

from lambda_celery import aws
from lambda_celery.conf import Settings
from lambda_celery.exceptions import ScheduleError
from lambda_celery.message import MAXIMUM_SCHEDULE_SECONDS, OutgoingMessage, is_fifo
from lambda_celery.payloads import POINTER_ATTRIBUTES, PayloadStore, is_pointer
from lambda_celery.schedules import scheduler

_TIME_FORMAT = "%Y-%m-%dT%H:%M:%S"
_CONTEXT_ATTRIBUTE = "<aws.scheduler."
#: Message attributes of the SQS Extended Client, which no reader of ours needs.
_PRECISION = timedelta(minutes=1)
_LONGEST = timedelta(seconds=MAXIMUM_SCHEDULE_SECONDS)


def can_carry(queue_url: str, message: OutgoingMessage) -> bool:
    """Whether a schedule can put *message* on the queue as it is: a body, and nothing else."""
    return (
        message.task_id is not None
        and message.message_group_id is None
        and not is_fifo(queue_url)
        and POINTER_ATTRIBUTES.issuperset(message.attributes)
        and len(message.body.encode()) <= scheduler.MAXIMUM_INPUT_BYTES
        and _CONTEXT_ATTRIBUTE not in message.body
    )


def create_one_time_schedule(settings: Settings, queue_url: str, message: OutgoingMessage) -> None:
    """Have *message* put on the queue shortly before it is due, or on the way there.

    AWS's refusals are raised as botocore's errors.
    """
    assert message.due is not None
    assert message.task_id is not None
    # It fires at any time within its minute, so that minute must be over when the message is
    # due. The runtime sends on what is early with the exact delay.
    at = min(message.due.astimezone(UTC) - _PRECISION, _now() + _LONGEST)
    at = at.replace(second=0, microsecond=0)
    scheduler.create_schedule(
        settings,
        _one_time_prefix(message.task_id) + uuid.uuid4().hex[:16],
        scheduler.definition(
            settings,
            queue_url,
            expression=f"at({at:{_TIME_FORMAT}})",
            time_zone="UTC",
            body=message.body,
        )
        | {"ActionAfterCompletion": "DELETE"},
    )


def cancel_schedules(settings: Settings, task_id: str) -> int:
    """Delete the one-time schedules of *task_id*, and the bodies in S3 that they point to.

    Returns how many there were. Raises :exc:`ScheduleError` if EventBridge Scheduler
    refuses.
    """
    if settings.schedule_group is None:
        return 0
    try:
        names = scheduler.schedule_names(settings, _one_time_prefix(task_id))
        return sum(_cancel(settings, name) for name in names)
    except aws.AWS_ERRORS as exc:
        raise ScheduleError(scheduler.explain(exc, settings)) from aws.cause(exc, settings)


def _cancel(settings: Settings, name: str) -> bool:
    schedule = scheduler.get_schedule(settings, name)
    if schedule is None:
        return False
    cancelled = scheduler.delete_schedule(settings, name)
    body = schedule["Target"].get("Input", "")
    # One that may have fired has put the pointer on the queue, where the function needs the body.
    soon = f"at({_now() + _PRECISION:{_TIME_FORMAT}})"
    if cancelled and is_pointer(body) and schedule["ScheduleExpression"] > soon:
        PayloadStore(settings).delete(body)
    return cancelled


def _now() -> datetime:
    return datetime.now(UTC)


def _one_time_prefix(task_id: str) -> str:
    # A task id may be any text; the digest is fit for a name, and short enough for one.
    return f"eta-{hashlib.sha256(task_id.encode()).hexdigest()[:32]}-"
