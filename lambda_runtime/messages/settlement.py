"""Doing what was decided: visibility, dead letters, hops, S3 objects, and the answer."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

from lambda_celery import aws
from lambda_celery.conf import setting_names
from lambda_celery.exceptions import (
    ConfigurationError,
    MessagesReturnedError,
    PublishError,
    ScheduleError,
)
from lambda_celery.failures.record import (
    EXCEPTION_ATTRIBUTE,
    REASON_ATTRIBUTE,
    RECEIVE_COUNT_ATTRIBUTE,
)
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
from lambda_runtime.deadline import ANSWER_SECONDS, Deadline
from lambda_runtime.messages.delivery import Delivery
from lambda_runtime.messages.note import Fate
from lambda_runtime.messages.outcome import Forwarded, Parked, Returned
from lambda_runtime.messages.source_queues import SourceQueue, SourceQueues

_T = TypeVar("_T")

logger = logging.getLogger(__name__)

_ATTRIBUTE_TEXT_BYTES = 1024
_HIDING_THREADS = 8
#: How long a message may be hidden, from the invocation's beginning. SQS counts from the receive,
#: and refuses more: a batching window of five minutes, and throttling, may be in between.
_LONGEST_HIDING_SECONDS = MAXIMUM_VISIBILITY_SECONDS - 600
#: How often it is tried at the end to send on what SQS would park.
_PAUSE_SECONDS = 0.25


class Settlement:
    """Settles the messages of one invocation."""

    def __init__(self, publisher: Publisher, queues: SourceQueues, deadline: Deadline) -> None:
        self._publisher = publisher
        self._queues = queues
        self._deadline = deadline
        self._lock = threading.Lock()
        self._returned: list[tuple[Delivery, Returned]] = []
        self._settled = 0
        self._known: set[str] = set()
        self._begun: set[str] = set()
        self._to_send: dict[SourceQueue, list[tuple[Delivery, Forwarded]]] = {}
        #: What could not be sent on, and is parked by SQS if it stays on its queue.
        self._unsent: list[tuple[Delivery, Forwarded]] = []
        self._to_hide: dict[SourceQueue, list[tuple[Delivery, int]]] = {}
        self._to_delete: dict[SourceQueue, list[Delivery]] = {}

    def begin(self, delivery: Delivery) -> None:
        """Note that a lane has come to *delivery*."""
        self._begun.add(delivery.message_id)

    def has_begun(self, delivery: Delivery) -> bool:
        """Whether a lane has come to *delivery*."""
        return delivery.message_id in self._begun

    def has(self, delivery: Delivery) -> bool:
        """Whether it has been said what becomes of *delivery*."""
        return delivery.message_id in self._known

    def hand_back(self, delivery: Delivery, returned: Returned) -> None:
        """Leave the message on its queue, hidden for its delay once the batch is through."""
        hidden = max(0, returned.delay_seconds)
        delivery.note.stays(Fate.RETURNED, returned.reason)
        queue = self._queues.get(delivery.source_arn)
        with self._lock:
            self._known.add(delivery.message_id)
            self._returned.append((delivery, returned))
            self._to_hide.setdefault(queue, []).append((delivery, hidden))

    def let_go(self, delivery: Delivery) -> None:
        """Leave it to Lambda to delete the message, because it is not among the failures."""
        queue = self._queues.get(delivery.source_arn)
        with self._lock:
            self._known.add(delivery.message_id)
            self._settled += 1
            self._to_delete.setdefault(queue, []).append(delivery)

    def park(self, delivery: Delivery, outcome: Parked) -> Exception | None:
        """Send the message to the dead-letter queue; return what stood in the way, if anything."""
        try:
            url = self._queues.get(delivery.source_arn).dead_letter_queue_url
            if url is None:
                return PublishError("There is no dead-letter queue.")  # which is logged
            attributes = _with_reason(delivery, outcome)
            self._publisher.send(url, _copy(delivery, attributes, fifo=is_fifo(url)))
        except (PublishError, *aws.AWS_ERRORS) as exc:
            logger.error("Message %s could not be parked: %s", delivery.message_id, exc)
            return exc
        delivery.note.stays(Fate.PARKED, outcome.reason)
        return None

    def send_on(self, delivery: Delivery, outcome: Forwarded) -> None:
        """Send the message on towards its due time, with others and soon: see :meth:`send_all`."""
        queue = self._queues.get(delivery.source_arn)
        delivery.note.stays(Fate.FORWARDED)
        with self._lock:
            self._known.add(delivery.message_id)
            self._to_send.setdefault(queue, []).append((delivery, outcome))

    def send_all(self) -> None:
        """Send on what is to be, ten a request. What cannot be sent, or in time, stays here."""
        with self._lock:
            to_send, self._to_send = self._to_send, {}
        for queue, items in _in_requests(to_send):
            if self._deadline.seconds() < ANSWER_SECONDS:
                for delivery, outcome in items:
                    self._keep_unsent(delivery, outcome, None)
                continue
            messages = [_sent_on(*each) for each in items]
            is_small = sum(each.size_bytes for each in messages) <= MAXIMUM_MESSAGE_SIZE_BYTES
            if len(items) > 1 and is_small and not any(each.is_far_off for each in messages):
                failures = self._send_together(queue, messages)
            else:
                failures = [self.forward(*each) for each in items]
            for (delivery, outcome), failure in zip(items, failures, strict=True):
                if failure is None:
                    self.let_go(delivery)
                else:
                    self._keep_unsent(delivery, outcome, failure)

    def take_unsent(self) -> list[Delivery]:
        """Return what is at its last receive, and could not be sent on: as if nothing were said."""
        with self._lock:
            unsent, self._unsent = self._unsent, []
            self._known.difference_update(delivery.message_id for delivery, _ in unsent)
        for delivery, _ in unsent:
            delivery.note.stays(Fate.DELETED)
        return [delivery for delivery, _ in unsent]

    def send_rest(self) -> None:
        """Try again to send on what SQS would park, while there is time; else leave it there."""
        until = self._deadline.patience_ends()
        while self._unsent and time.monotonic() < until:
            time.sleep(_PAUSE_SECONDS)
            unsent, self._unsent = self._unsent, []
            for each in unsent:
                self.send_on(*each)
            self.send_all()
        for delivery, outcome in self._unsent:
            self._hand_back_unsent(delivery, outcome, None)
        self._unsent = []

    def _keep_unsent(
        self, delivery: Delivery, outcome: Forwarded, failure: Exception | None
    ) -> None:
        is_last = self._queues.get(delivery.source_arn).is_last(delivery.receive_count)
        if is_last and (failure is None or misconfiguration(failure) is None):
            with self._lock:
                self._unsent.append((delivery, outcome))
        else:
            self._hand_back_unsent(delivery, outcome, failure)

    def _send_together(
        self, queue: SourceQueue, messages: list[OutgoingMessage]
    ) -> list[Exception | None]:
        """Send *messages* by one request; return for each what stood in the way, if anything."""
        entries = [{"Id": str(n), **each.parameters()} for n, each in enumerate(messages)]
        failures: list[Exception | None] = [None] * len(messages)
        try:
            answer = aws.client("sqs", self._publisher.settings).send_message_batch(
                QueueUrl=queue.url, Entries=entries
            )
        except aws.AWS_ERRORS as exc:
            logger.warning("%d messages could not be sent on: %s", len(messages), exc)
            failures = [exc] * len(messages)
        else:
            for each in answer.get("Failed") or ():
                logger.warning("A message could not be sent on: %s", each)
                failures[int(each["Id"])] = PublishError(f"SQS refused it: {each.get('Code')}.")
        return failures

    def _hand_back_unsent(
        self, delivery: Delivery, outcome: Forwarded, failure: Exception | None
    ) -> None:
        why = misconfiguration(failure) if failure is not None else None
        self.hand_back(delivery, Returned("could not be sent on", outcome.seconds_ahead(), why))

    def forward(self, delivery: Delivery, outcome: Forwarded) -> Exception | None:
        """Send the message on at once; return what stood in the way, if anything.

        A crash between this and the answer leads to two copies with one
        publication key, of which one runs.
        """
        message = _sent_on(delivery, outcome)
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
            return exc
        delivery.note.stays(Fate.FORWARDED)
        return None

    @property
    def misconfiguration(self) -> str | None:
        """What has to be changed before any message of the batch can be run, if it is that."""
        reasons = [returned.misconfiguration for _, returned in self._returned]
        if self._settled or not reasons or None in reasons:
            return None
        return reasons[0]

    @property
    def first_failed(self) -> Delivery | None:
        """A message that stays on its queue, if any does."""
        return self._returned[0][0] if self._returned else None

    def close(self) -> dict[str, list[dict[str, str]]]:
        """Hide what was handed back, and return the answer for Lambda.

        :raises MessagesReturnedError: some messages stay on the queue, and the settings say that
            their mapping takes no list of them. What is settled is deleted here, then.
        """
        self.hide_returned()
        failed = [delivery.message_id for delivery, _ in self._returned]
        if failed and not self._publisher.settings.report_batch_item_failures:
            self.delete_settled()
            raise MessagesReturnedError(
                f"{len(failed)} messages of the batch stay on the queue. Lambda is told so "
                f"by this exception, because {setting_names('report_batch_item_failures')} is off."
            )
        return {"batchItemFailures": [{"itemIdentifier": each} for each in failed]}

    def hide_returned(self) -> None:
        """Hide what was handed back, each message for its delay."""
        with self._lock:
            to_hide, self._to_hide = self._to_hide, {}
        batches = list(_in_requests(to_hide))
        if len(batches) == 1:
            self._hide(*batches[0])
        elif batches:
            with ThreadPoolExecutor(min(_HIDING_THREADS, len(batches))) as threads:
                list(threads.map(self._hide, *zip(*batches, strict=True)))

    def delete_settled(self, at_least: int = 1) -> None:
        """Delete what is settled, without waiting for Lambda: what runs next may kill the process.

        Unless it is less than *at_least*. What is not deleted comes again, and is not run again.
        """
        with self._lock:
            if sum(map(len, self._to_delete.values())) < at_least:
                return
            to_delete, self._to_delete = self._to_delete, {}
        requests = list(_in_requests(to_delete))
        for number, (queue, settled) in enumerate(requests):
            if self._deadline.seconds() < ANSWER_SECONDS:
                self._keep_undeleted(requests[number:])
                return
            entries = [
                {"Id": str(n), "ReceiptHandle": each.receipt_handle}
                for n, each in enumerate(settled)
            ]
            try:
                aws.client("sqs", self._publisher.settings).delete_message_batch(
                    QueueUrl=queue.url, Entries=entries
                )
            except Exception as exc:
                logger.warning("What is settled could not be deleted: %s", exc)
                self._keep_undeleted(requests[number:])
                return

    def _keep_undeleted(self, requests: list[tuple[SourceQueue, list[Delivery]]]) -> None:
        with self._lock:
            for queue, settled in requests:
                self._to_delete.setdefault(queue, []).extend(settled)

    @property
    def undeleted(self) -> list[Delivery]:
        """What is settled, and still on its queue."""
        with self._lock:
            return [each for settled in self._to_delete.values() for each in settled]

    def _hide(self, queue: SourceQueue, hidden: list[tuple[Delivery, int]]) -> None:
        if self._deadline.seconds() < ANSWER_SECONDS:
            return  # better late than the whole batch again: the answer must leave in time
        longest = int(_LONGEST_HIDING_SECONDS - self._deadline.passed_seconds())
        entries = [
            {
                "Id": str(n),
                "ReceiptHandle": each.receipt_handle,
                "VisibilityTimeout": min(seconds, longest),
            }
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


def _in_requests(
    by_queue: Mapping[SourceQueue, list[_T]],
) -> Iterator[tuple[SourceQueue, list[_T]]]:
    """Yield what there is for each queue, as much as a request takes at a time."""
    for queue, items in by_queue.items():
        for start in range(0, len(items), MAXIMUM_ENTRIES):
            yield queue, items[start : start + MAXIMUM_ENTRIES]


def _sent_on(delivery: Delivery, outcome: Forwarded) -> OutgoingMessage:
    """Return the message as which *delivery* is sent on."""
    fifo = delivery.fifo_group is not None  # where no message can be delayed
    attributes = delivery.attributes_to_send_on()
    return replace(
        _copy(delivery, attributes, None if fifo else delay_until(outcome.eta), fifo),
        due=outcome.eta,
        task_id=outcome.task_id,
        trace_header=delivery.trace_header or outcome.trace_header,
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
        trace_header=delivery.trace_header,
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


def misconfiguration(exc: Exception) -> str | None:
    """Return what has to be changed before *exc* is no longer raised; ``None`` if it may pass."""
    is_one = isinstance(exc, ScheduleError | ConfigurationError) or aws.misconfigured(exc)
    return str(exc) if is_one or getattr(exc, "is_misconfigured", False) else None
