"""The shapes of events that the function is called with."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from lambda_celery.exceptions import ConfigurationError

logger = logging.getLogger(__name__)

#: Who calls a function on a schedule, to keep it warm.
_SCHEDULERS = {"aws.events", "aws.scheduler", "serverless-plugin-warmup"}


def records_of(event: Any) -> list[Mapping[str, Any]]:
    """Return the records of SQS messages in *event*.

    An event source mapping sends ``{"Records": […]}``, and EventBridge Pipes the list alone. A
    call that is to keep the function warm has none.

    :raises ConfigurationError: the event is of something else, which no answer would tell.
    """
    if isinstance(event, Mapping) and "Records" not in event and _keeps_warm(event):
        logger.info("A call to keep the function warm: no messages.")
        return []
    records = event.get("Records") if isinstance(event, Mapping) else event
    if not isinstance(records, list):
        raise ConfigurationError(
            "The event has no records of SQS messages: this function is called by an event "
            "source mapping of an SQS queue, or by EventBridge Pipes. For a test in the console "
            f'choose the template "SQS". The event begins {repr(event)[:200]}.'
        )
    answerable = [each for each in records if _has_id(each)]
    if records and not answerable:
        raise ConfigurationError(
            "The event's records are not those of SQS messages, for they have no messageId: let an "
            "event source mapping of an SQS queue call this function, and nothing else."
        )
    if len(answerable) < len(records):
        logger.error(
            "%d records without a messageId cannot be answered for, and are left out.",
            len(records) - len(answerable),
        )
    return answerable


def _keeps_warm(event: Mapping[str, Any]) -> bool:
    source = event.get("source")
    is_scheduled = isinstance(source, str) and source in _SCHEDULERS
    return is_scheduled or any(event.get(each) for each in ("warmup", "warmer"))


def _has_id(record: Any) -> bool:
    return isinstance(record, Mapping) and isinstance(record.get("messageId"), str)
