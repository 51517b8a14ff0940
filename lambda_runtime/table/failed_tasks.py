"""The records of what this function has parked: see :mod:`lambda_celery.failures`."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from lambda_celery.conf import Settings
from lambda_celery.exceptions import UnreadableMessageError
from lambda_celery.failures.record import REASON_ATTRIBUTE, Failure, texts_of
from lambda_celery.failures.store import Failures
from lambda_celery.message import OutgoingMessage
from lambda_celery.table.schema import failure_key
from lambda_runtime.messages.delivery import Delivery
from lambda_runtime.messages.outcome import Parked
from lambda_runtime.messages.source_queues import SourceQueues
from lambda_runtime.refusals import sentence

logger = logging.getLogger(__name__)

#: The reason of what is known to be parked, and no more.
_PARKED_BEFORE = "its process died when it was parked: the dead letter says why"


class FailedTasks:
    """Writes down what is parked, and takes it back when it has come back and was settled.

    The dead letter is there by then, and tells the same: what cannot be written is said, and no
    more.
    """

    def __init__(self, settings: Settings, queues: SourceQueues) -> None:
        self._failures = Failures(settings)
        self._queues = queues

    def remember(self, delivery: Delivery, outcome: Parked) -> None:
        """Write down that *delivery* is in the dead-letter queue. Raises nothing."""
        self._write(delivery, outcome, datetime.now(UTC), self._failures.put)

    def remember_parked_before(self, delivery: Delivery) -> None:
        """Write down, unless it is, that *delivery* was parked by a process that died then.

        Raises nothing.
        """
        # What it wrote down, if it did, is of a later time; what was written of an earlier failure
        # of the message, before it was sent back, is of an earlier one.
        failed_at = datetime.fromtimestamp(delivery.sent_at, UTC)
        self._write(delivery, Parked(_PARKED_BEFORE), failed_at, self._failures.put_unless_known)

    def _write(
        self,
        delivery: Delivery,
        outcome: Parked,
        failed_at: datetime,
        put: Callable[[Failure, int], object],
    ) -> None:
        try:
            queue = self._queues.get(delivery.source_arn)
            told = texts_of(
                outcome.headers if outcome.headers is not None else _headers_of(delivery),
                redact=queue.settings.redact_arguments,
            )
            dead_letter_queue = queue.dead_letter_queue_url or ""
            failure = _failure(delivery, outcome, dead_letter_queue, failed_at, told)
            put(failure, queue.dead_letter_life_seconds)
        except Exception as exc:  # noqa: BLE001 - the message is parked all the same
            logger.warning(
                "Message %s is in the dead-letter queue, and not in the list of failed tasks: %s",
                delivery.message_id, sentence(exc),
            )  # fmt: skip

    def forget(self, delivery: Delivery) -> None:
        """Take back that *delivery* was parked before, if it was. Raises nothing."""
        if not has_been_parked(delivery):
            return
        try:
            self._failures.forget_settled(failure_key(delivery.body))
        except Exception as exc:  # noqa: BLE001 - the message is settled all the same
            logger.warning(
                "Message %s is still in the list of failed tasks, although it is settled: %s",
                delivery.message_id, sentence(exc),
            )  # fmt: skip


def has_been_parked(delivery: Delivery) -> bool:
    """Whether *delivery* came back from the dead-letter queue, by a redrive or a retry."""
    return REASON_ATTRIBUTE in delivery.message_attributes


def _failure(
    delivery: Delivery,
    outcome: Parked,
    dead_letter_queue: str,
    failed_at: datetime,
    told: dict[str, Any],
) -> Failure:
    exception = outcome.exception
    told["trace_id"] = told["trace_id"] or delivery.attributes.get("AWSTraceHeader", "")
    attributes = delivery.attributes_to_send()
    return Failure(
        id=failure_key(delivery.body),
        queue=delivery.source_arn,
        dead_letter_queue=dead_letter_queue,
        reason=outcome.reason,
        exception=type(exception).__name__ if exception is not None else "",
        failed_at=failed_at,
        attempts=outcome.attempts or delivery.receive_count,
        size=OutgoingMessage(delivery.body, attributes).size_bytes,
        message=_described(exception),
        traceback=_traced(exception),
        version=os.environ.get("AWS_LAMBDA_FUNCTION_VERSION", ""),
        message_group_id=delivery.message_group_id or "",
        body=delivery.body,
        attributes=attributes,
        **told,
    )


def _headers_of(delivery: Delivery) -> Mapping[str, Any]:
    """Return the headers of a message that could not be read as a whole."""
    try:
        headers = delivery.envelope.get("headers")
    except UnreadableMessageError:
        return {}
    return headers if isinstance(headers, Mapping) else {}


def _described(exception: BaseException | None) -> str:
    try:
        return str(exception) if exception is not None else ""
    except Exception:  # noqa: BLE001 - a __str__ that raises
        return ""


def _traced(exception: BaseException | None) -> str:
    if exception is None:
        return ""
    try:
        return "".join(traceback.format_exception(exception))
    except Exception:  # noqa: BLE001 - as above
        return ""
