"""EventBridge Scheduler: all contact with its API.

Every schedule is in the group that the settings name, and puts a message on an SQS queue.
Its name says what it is for: those of :mod:`lambda_celery.schedules.one_time` begin with
``eta-``, those of :mod:`lambda_celery.beat` with ``beat-``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lambda_celery import aws
from lambda_celery.conf import Settings
from lambda_celery.exceptions import ConfigurationError
from lambda_celery.message import is_fifo

#: What Scheduler takes as the input of a target.
MAXIMUM_INPUT_BYTES = 262_144
#: Scheduler replaces this in an input by the time of the occurrence, in UTC.
#: https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-context-attributes.html
SCHEDULED_TIME = "<aws.scheduler.scheduled-time>"
#: From Scheduler's answer to a role that it cannot assume, a ValidationException.
_MAY_NOT_ASSUME = "must allow AWS EventBridge Scheduler to assume the role"
#: What Scheduler tells of a schedule, and takes of nobody.
_TOLD = ("Arn", "CreationDate", "GroupName", "LastModificationDate", "Name", "ResponseMetadata")


def definition(
    settings: Settings,
    queue_url: str,
    *,
    expression: str,
    time_zone: str,
    body: str,
    message_group_id: str | None = None,
) -> dict[str, Any]:
    """Return the definition of a schedule that puts *body* on the queue.

    What Scheduler cannot put there goes to the queue's dead-letter queue, if the settings
    name one of the kind that it takes: a standard queue.
    """
    target: dict[str, Any] = {
        "Arn": aws.queue_arn(settings, queue_url),
        "RoleArn": settings.schedule_role_arn,
        "Input": body,
    }
    dead_letter_queue_url = settings.of_queue(queue_url).dead_letter_queue_url
    if dead_letter_queue_url and not is_fifo(dead_letter_queue_url):
        target["DeadLetterConfig"] = {"Arn": aws.queue_arn(settings, dead_letter_queue_url)}
    if message_group_id is not None:
        target["SqsParameters"] = {"MessageGroupId": message_group_id}
    return {
        "ScheduleExpression": expression,
        "ScheduleExpressionTimezone": time_zone,
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "State": "ENABLED",
        "Target": target,
    }


def same_definition(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two definitions agree in all that :func:`definition` says.

    One that Scheduler returns has defaults filled in, such as the target's retry policy.
    """
    return _essentials(one) == _essentials(other)


def _essentials(schedule: Mapping[str, Any]) -> list[Any]:
    names = ("ScheduleExpression", "ScheduleExpressionTimezone", "FlexibleTimeWindow", "State")
    target_names = ("Arn", "RoleArn", "Input", "DeadLetterConfig", "SqsParameters")
    target = schedule["Target"]
    return [schedule.get(each) for each in names] + [target.get(each) for each in target_names]


def ensure_group(settings: Settings) -> None:
    """Create the schedule group of *settings* if it is missing."""
    scheduler = aws.client("scheduler", settings)
    try:
        scheduler.get_schedule_group(Name=settings.schedule_group)
    except scheduler.exceptions.ResourceNotFoundException:
        scheduler.create_schedule_group(Name=settings.schedule_group)


def schedule_names(settings: Settings, prefix: str) -> list[str]:
    """Return the names of the group's schedules that begin with *prefix*; none if it is missing."""
    scheduler = aws.client("scheduler", settings)
    pages = scheduler.get_paginator("list_schedules").paginate(
        GroupName=settings.schedule_group, NamePrefix=prefix
    )
    try:
        return [str(each["Name"]) for page in pages for each in page["Schedules"]]
    except scheduler.exceptions.ResourceNotFoundException:
        return []


def get_schedule(settings: Settings, name: str) -> dict[str, Any] | None:
    """Return the group's schedule *name*, as Scheduler describes it; ``None`` if it is gone."""
    scheduler = aws.client("scheduler", settings)
    try:
        return dict(scheduler.get_schedule(GroupName=settings.schedule_group, Name=name))
    except scheduler.exceptions.ResourceNotFoundException:
        return None


def is_paused(schedule: Mapping[str, Any]) -> bool:
    """Whether *schedule*, as Scheduler describes it, fires no more until it is continued."""
    return schedule.get("State") == "DISABLED"


def set_paused(settings: Settings, schedule: Mapping[str, Any], *, paused: bool) -> None:
    """Pause or continue *schedule*, as Scheduler describes it; all else of it stays as it is."""
    # An update replaces the whole definition.
    defined = {name: value for name, value in schedule.items() if name not in _TOLD}
    defined["State"] = "DISABLED" if paused else "ENABLED"
    update_schedule(settings, schedule["Name"], defined)


def create_schedule(settings: Settings, name: str, defined: Mapping[str, Any]) -> None:
    """Create the schedule *name* in the group."""
    aws.client("scheduler", settings).create_schedule(
        GroupName=settings.schedule_group, Name=name, **defined
    )


def update_schedule(settings: Settings, name: str, defined: Mapping[str, Any]) -> None:
    """Replace the definition of the group's schedule *name*."""
    aws.client("scheduler", settings).update_schedule(
        GroupName=settings.schedule_group, Name=name, **defined
    )


def delete_schedule(settings: Settings, name: str) -> bool:
    """Delete the group's schedule *name*; return whether it was still there."""
    scheduler = aws.client("scheduler", settings)
    try:
        scheduler.delete_schedule(GroupName=settings.schedule_group, Name=name)
    except scheduler.exceptions.ResourceNotFoundException:
        return False  # it has fired since it was listed
    return True


def misconfigured(exc: BaseException) -> bool:
    """Whether *exc* stays until somebody changes a setting, a permission or a role."""
    return aws.misconfigured(exc) or _MAY_NOT_ASSUME in str(exc)


def explain(exc: BaseException, settings: Settings) -> str:
    """Return the sentence for *exc*, which one of the calls here raised."""
    if _MAY_NOT_ASSUME in str(exc):
        return (
            f"EventBridge Scheduler may not assume the role {settings.schedule_role_arn}: allow "
            "sts:AssumeRole to scheduler.amazonaws.com in the trust policy of that role."
        )
    if aws.denied(exc) and "iam:PassRole" in str(exc):
        return aws.explain(
            exc,
            action="iam:PassRole",
            resource=str(settings.schedule_role_arn),
            setting="schedule_role_arn",
        )
    return aws.explain(
        exc,
        action=f"scheduler:{getattr(exc, 'operation_name', '*')}",
        resource=f"the schedule group {settings.schedule_group}",
        setting="schedule_group",
    )


@contextmanager
def explained(settings: Settings) -> Iterator[None]:
    """Turn what AWS refuses in the context into a :exc:`ConfigurationError`."""
    try:
        yield
    except aws.AWS_ERRORS as exc:
        raise ConfigurationError(explain(exc, settings)) from aws.cause(exc, settings)
