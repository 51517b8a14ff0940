"""The shapes of events that the function is called with.

====================  ========================================================================
event                 who sends it
====================  ========================================================================
``{"Records": […]}``  an event source mapping of an SQS queue
a list of records     EventBridge Pipes, from such a queue
a direct call         :mod:`lambda_celery.invoke`, or whoever writes the same
``{"task": …}``       a person, or EventBridge Scheduler: a direct call by hand
a warm-up call        EventBridge, its Scheduler, or a plug-in that keeps functions warm
====================  ========================================================================
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from lambda_celery.direct_calls import CALL_FIELD
from lambda_celery.exceptions import ConfigurationError
from lambda_runtime.direct_call import DirectCall, call_by_hand, read_call

logger = logging.getLogger(__name__)

#: Who calls a function on a schedule, to keep it warm.
_SCHEDULERS = {"aws.events", "aws.scheduler", "serverless-plugin-warmup"}

Records = list[Mapping[str, Any]]


def read_event(event: Any, request_id: str) -> Records | DirectCall:
    """Return the records of SQS messages in *event*, or the direct call that it is.

    A call that is to keep the function warm has no records.

    :param request_id: the invocation's, which a call by hand has for its task's id.
    :raises ConfigurationError: the event is of something else, which no answer would tell.
    """
    if isinstance(event, Mapping) and "Records" not in event:
        if CALL_FIELD in event:
            return read_call(event)
        if "task" in event:
            return call_by_hand(event, request_id)
        if _keeps_warm(event):
            logger.info("A call to keep the function warm: no messages.")
            return []
    records = event.get("Records") if isinstance(event, Mapping) else event
    if not isinstance(records, list):
        raise ConfigurationError(
            "The event has no records of SQS messages, and is no direct call: this function is "
            "called by an event source mapping of an SQS queue, by EventBridge Pipes, or as "
            '{"task": "proj.tasks.add", "args": [2, 3]}. For a test of a message in the console '
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
