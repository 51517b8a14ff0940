"""Doing what was decided: visibility, dead letters, hops, S3 objects, and the answer."""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from lambda_celery import aws
from lambda_celery.exceptions import PublishError, ScheduleError
from lambda_celery.message import (
    MAXIMUM_ATTRIBUTES,
    MAXIMUM_ENTRIES,
    MAXIMUM_MESSAGE_SIZE_BYTES,
    MAXIMUM_VISIBILITY_SECONDS,
    OutgoingMessage,
    delay_until,
    is_fifo,
)
from lambda_celery.publishing.publisher import Publisher
from lambda_runtime.deadline import Deadline
from lambda_runtime.messages.delivery import Delivery
from lambda_runtime.messages.outcome import Forwarded, Parked
from lambda_runtime.messages.source_queues import SourceQueue, SourceQueues

logger = logging.getLogger(__name__)

#: Message attributes of a parked message.
REASON_ATTRIBUTE = "LambdaCeleryReason"
EXCEPTION_ATTRIBUTE = "LambdaCeleryException"
RECEIVE_COUNT_ATTRIBUTE = "LambdaCeleryReceiveCount"
_ATTRIBUTE_TEXT_BYTES = 1024
_HIDING_THREADS = 8
#: With less than this left, nothing more is asked of AWS: the answer has to leave.
_ANSWER_SECONDS = 0.5


class Settlement:
    """Settles the messages of one invocation."""

    def __init__(self, publisher: Publisher, queues: SourceQueues, deadline: Deadline) -> None:
        self._publisher = publisher
        self._queues = queues
        self._deadline = deadline
        self._failures: list[str] = []
        self._hidden: dict[SourceQueue, list[tuple[Delivery, int]]] = {}

    def hand_back(self, delivery: Delivery, delay_seconds: int) -> None:
        """Leave the message on its queue, hidden for *delay_seconds* once the batch is through."""
        self._failures.append(delivery.message_id)
        queue = self._queues.get(delivery.source_arn)
        hidden = max(0, min(delay_seconds, MAXIMUM_VISIBILITY_SECONDS))
        self._hidden.setdefault(queue, []).append((delivery, hidden))

    def park(self, delivery: Delivery, outcome: Parked) -> bool:
        """Send the message to the dead-letter queue; return whether it is there.

        Lambda then deletes the original, because it is not among the failures.
        """
        try:
            url = self._queues.get(delivery.source_arn).dead_letter_queue_url
            if url is None:
                return False
            attributes = _with_reason(delivery, outcome)
            self._publisher.send(url, _copy(delivery, attributes, fifo=is_fifo(url)))
        except (PublishError, *aws.AWS_ERRORS) as exc:
            logger.error("Message %s could not be parked: %s", delivery.message_id, exc)
            return False
        return True

    def forward(self, delivery: Delivery, outcome: Forwarded) -> bool:
        """Send the message on towards its due time; return whether it has left.

        A crash between this and the answer leads to two copies with one
        publication key, of which one runs.
        """
        message = replace(
            _copy(delivery, delivery.attributes_to_send_on(), delay_until(outcome.eta)),
            due=outcome.eta,
            task_id=outcome.task_id,
        )
        try:
            url = self._queues.get(delivery.source_arn).url
            try:
                self._publisher.send(url, message)
            except ScheduleError as exc:
                # Nobody to tell but the log: a producer hears of it when it publishes.
                logger.error("Message %s hops instead: %s", delivery.message_id, exc)
                self._publisher.send(url, replace(message, due=None))
        except (PublishError, *aws.AWS_ERRORS) as exc:
            logger.warning("Message %s could not be sent on: %s", delivery.message_id, exc)
            return False
        return True

    def close(self) -> dict[str, list[dict[str, str]]]:
        """Hide what was handed back, and return the answer for Lambda."""
        batches = [
            (queue, hidden[start : start + MAXIMUM_ENTRIES])
            for queue, hidden in self._hidden.items()
            for start in range(0, len(hidden), MAXIMUM_ENTRIES)
        ]
        if len(batches) == 1:
            self._hide(*batches[0])
        elif batches:
            with ThreadPoolExecutor(min(_HIDING_THREADS, len(batches))) as threads:
                list(threads.map(self._hide, *zip(*batches, strict=True)))
        return {"batchItemFailures": [{"itemIdentifier": each} for each in self._failures]}

    def _hide(self, queue: SourceQueue, hidden: list[tuple[Delivery, int]]) -> None:
        if self._deadline.seconds() < _ANSWER_SECONDS:
            return  # better late than the whole batch again: the answer must leave in time
        entries = [
            {"Id": str(n), "ReceiptHandle": each.receipt_handle, "VisibilityTimeout": seconds}
            for n, (each, seconds) in enumerate(hidden)
        ]
        try:
            answer = aws.client("sqs", self._publisher.settings).change_message_visibility_batch(
                QueueUrl=queue.url, Entries=entries
            )
            refused = [each.get("Code") for each in answer.get("Failed") or []]
        except Exception as exc:
            refused = [exc] * len(hidden)
        if refused:
            logger.warning(
                "%d messages come back by the queue's own visibility time-out, which is longer "
                "than their back-off: %s",
                len(refused),
                refused[0],
            )


def _copy(
    delivery: Delivery,
    attributes: dict[str, dict[str, Any]],
    delay_seconds: int | None = None,
    fifo: bool = False,
) -> OutgoingMessage:
    return OutgoingMessage(
        body=delivery.body,
        attributes=attributes,
        delay_seconds=delay_seconds,
        message_group_id=delivery.message_group_id or ("default" if fifo else None),
        deduplication_id=delivery.message_id if fifo else None,
    )


def _with_reason(delivery: Delivery, outcome: Parked) -> dict[str, dict[str, Any]]:
    """Return the message's attributes and why it is parked, as far as SQS's limits allow."""
    attributes = delivery.attributes_to_send()
    reasons = {
        REASON_ATTRIBUTE: _text(outcome.reason),
        RECEIVE_COUNT_ATTRIBUTE: {
            "DataType": "Number",
            "StringValue": str(delivery.receive_count),
        },
    }
    if outcome.exception is not None:
        reasons[EXCEPTION_ATTRIBUTE] = _text(_describe(outcome.exception))
    for name, value in reasons.items():
        added = {**attributes, name: value}
        size = OutgoingMessage(delivery.body, added).size_bytes
        if len(added) <= MAXIMUM_ATTRIBUTES and size <= MAXIMUM_MESSAGE_SIZE_BYTES:
            attributes = added
    return attributes


def _describe(exception: BaseException) -> str:
    try:
        return f"{type(exception).__name__}: {exception}"
    except Exception:  # a __str__ that raises
        return type(exception).__name__


def _text(text: str) -> dict[str, Any]:
    # SQS takes no control characters, and no empty value.
    plain = json.dumps(text, ensure_ascii=False)[1:-1] or "-"
    cut = plain.encode(errors="replace")[:_ATTRIBUTE_TEXT_BYTES].decode(errors="ignore")
    return {"DataType": "String", "StringValue": cut}
