"""The event source mapping: polls one SQS queue and invokes the function with batches.

    poller thread                               one worker thread for each batch in flight
    wait for a free place   ◄──────────────┐
    ReceiveMessage: size, window, 6 MB     │
    hand the batch over     ──────────────►│    invoke the function, judge its answer
                                           │    DeleteMessageBatch for what succeeded
                                           └──  free the place

What failed is left alone. It comes back when its visibility time-out ends, which the
handler may have changed; and SQS itself moves it to the dead-letter queue.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Any, Protocol

from lambda_celery.aws import AWS_ERRORS, explain
from lambda_celery.exceptions import ConfigurationError, LambdaCeleryError
from lambda_celery.local.batch_response import BatchFailedError, failed_message_ids
from lambda_celery.local.function import MAXIMUM_EVENT_BYTES, InvocationResult
from lambda_celery.local.records import EVENT_OVERHEAD_BYTES, record, size_bytes
from lambda_celery.message import MAXIMUM_ENTRIES, is_fifo

logger = logging.getLogger(__name__)

#: Of ministack alone. SQS takes, without an error, the receipt handle of a message that the
#: function has deleted before its end, or that was received again in the meantime.
_SUPERSEDED = "ReceiptHandleIsInvalid"

#: Short, because :meth:`EventSourceMapping.stop` has to see the end of a receive: a message
#: that is answered to a call which nobody waits for is hidden until its time-out ends.
LONG_POLL_SECONDS = 1

_SHORT_POLL_SECONDS = 0.1
_BACKOFF_SECONDS = 0.5
_BACKOFF_MAX_SECONDS = 20.0


class Function(Protocol):
    """What an event source mapping needs of a function."""

    @property
    def timeout_seconds(self) -> int: ...

    def invoke(self, event: Mapping[str, Any]) -> InvocationResult: ...


@dataclass(frozen=True)
class EventSourceMappingConfig:
    """An event source mapping's settings; the names are AWS's.

    Attributes:
        batch_size: messages in an event at most, 1 to 10,000.
        maximum_batching_window_seconds: how long to gather a batch, 0 to 300.
        maximum_concurrency: batches in flight at most, 2 to 1,000 (here also 1).
        report_batch_item_failures: judge the function's answer message by message.

    Raises:
        ConfigurationError: AWS would refuse the value.
    """

    batch_size: int = 10
    maximum_batching_window_seconds: int = 0
    maximum_concurrency: int = 4
    report_batch_item_failures: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.batch_size <= 10_000:
            raise ConfigurationError(
                f"The batch size is {self.batch_size}: an event source mapping takes 1 to 10000."
            )
        if not 0 <= self.maximum_batching_window_seconds <= 300:
            raise ConfigurationError(
                f"The batch window is {self.maximum_batching_window_seconds} s: "
                "an event source mapping takes 0 to 300."
            )
        if self.batch_size > MAXIMUM_ENTRIES and self.maximum_batching_window_seconds < 1:
            raise ConfigurationError(
                f"A batch size of {self.batch_size} needs a batch window of 1 s or more: "
                "without one, a batch has 10 messages at most."
            )
        if not 1 <= self.maximum_concurrency <= 1000:
            raise ConfigurationError(
                f"The maximum concurrency is {self.maximum_concurrency}: "
                "an event source mapping takes 2 to 1000 (here also 1)."
            )

    def check_queue(self, queue_url: str) -> None:
        """Raise :exc:`ConfigurationError` if AWS would refuse these settings for the queue."""
        if not is_fifo(queue_url):
            return
        if self.batch_size > MAXIMUM_ENTRIES:
            raise ConfigurationError(
                f"The batch size is {self.batch_size}, but {queue_url} is a FIFO queue: "
                "set 10 or less."
            )
        if self.maximum_batching_window_seconds:
            raise ConfigurationError(
                f"The batch window is {self.maximum_batching_window_seconds} s, but {queue_url} "
                "is a FIFO queue: set 0, because it takes no window."
            )


@dataclass(frozen=True)
class BatchReport:
    """What became of one batch.

    Attributes:
        event: what the function was invoked with.
        result: what the invocation ended with.
        failed_message_ids: these were left on the queue; the others were to be deleted.
        error: why the whole batch failed, or ``None`` if it did not.
    """

    queue_url: str
    event: Mapping[str, Any]
    result: InvocationResult
    failed_message_ids: frozenset[str]
    error: str | None

    @property
    def message_ids(self) -> tuple[str, ...]:
        """The ids of the batch, in the event's order."""
        return tuple(each["messageId"] for each in self.event["Records"])


class EventSourceMapping:
    """Polls a queue and invokes a function with what is on it, between start and stop.

    Arguments:
        queue_url: the SQS queue.
        function: invoked with the events, from up to ``maximum_concurrency`` threads.
        config: batch size, window, concurrency.
        sqs_client: a boto3 client for the queue's endpoint and region.
        queue_arn: default: what the queue itself says.
        on_batch: called after each batch, on the thread that ran it.

    Raises:
        ConfigurationError: AWS would refuse the configuration for this queue.
    """

    def __init__(
        self,
        queue_url: str,
        function: Function,
        config: EventSourceMappingConfig,
        sqs_client: Any,
        *,
        queue_arn: str | None = None,
        on_batch: Callable[[BatchReport], None] | None = None,
    ) -> None:
        config.check_queue(queue_url)
        self.queue_url = queue_url
        self.config = config
        self._function = function
        self._sqs = sqs_client
        self._queue_arn = queue_arn
        self._visibility_timeout_seconds = 0
        self._on_batch = on_batch
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._poller: threading.Thread | None = None
        self._in_flight = 0
        #: Received, but too big for the batch that was being gathered.
        self._left_over: deque[dict[str, Any]] = deque()

    def __enter__(self) -> EventSourceMapping:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to poll.

        Raises :exc:`ConfigurationError` if the queue cannot be reached, or if its
        visibility time-out is shorter than the function's time-out, which AWS refuses.
        """
        if self._poller is not None:
            raise LambdaCeleryError("This event source mapping was started before: make a new one.")
        attributes = self._queue_attributes("QueueArn", "VisibilityTimeout")
        self._queue_arn = self._queue_arn or attributes["QueueArn"]
        self._visibility_timeout_seconds = int(attributes["VisibilityTimeout"])
        if self._visibility_timeout_seconds < self._function.timeout_seconds:
            raise ConfigurationError(
                f"The visibility time-out of {self.queue_url} is "
                f"{self._visibility_timeout_seconds} s, but the function's time-out is "
                f"{self._function.timeout_seconds} s: make the queue's six times the function's."
            )
        self._poller = threading.Thread(
            target=self._poll, name="event-source-mapping-poller", daemon=True
        )
        self._poller.start()

    def stop(self) -> None:
        """Stop polling, let the batches in flight finish, and return then."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
        if self._poller is not None:
            self._poller.join()

    @property
    def is_stopping(self) -> bool:
        """Whether :meth:`stop` has been called."""
        return self._stopping.is_set()

    def wait_until_idle(self, timeout_seconds: float) -> None:
        """Return when nothing is in flight and the queue is empty.

        Hidden and delayed messages count: those that failed, too, must have been settled
        or moved to the dead-letter queue. Raises :exc:`TimeoutError` after *timeout_seconds*.
        """
        deadline = time.monotonic() + timeout_seconds
        counts = (
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        )
        while True:
            # The queue first: a message is deleted from it before its batch leaves the flight,
            # so that an empty queue followed by nothing in flight means that both are true.
            attributes = self._queue_attributes(*counts)
            with self._changed:
                busy = self._in_flight or self._left_over
                if not busy and not any(int(attributes[name]) for name in counts):
                    return
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise TimeoutError(
                        f"{self.queue_url} was not idle after {timeout_seconds:g} s: "
                        f"{self._in_flight} batches in flight, {attributes}"
                    )
                # Every batch that ends and every receive notifies.
                self._changed.wait(min(remaining, LONG_POLL_SECONDS))

    # The poller thread.

    def _poll(self) -> None:
        with ThreadPoolExecutor(
            self.config.maximum_concurrency, thread_name_prefix="event-source-mapping"
        ) as executor:
            while self._wait_for_free_place():
                batch = self._gather()
                with self._changed:
                    self._in_flight += bool(batch)
                    self._changed.notify_all()
                if batch:
                    executor.submit(self._run, batch)

    def _wait_for_free_place(self) -> bool:
        """Return ``True`` when a batch may be gathered, ``False`` when it is time to stop."""
        with self._changed:
            while True:
                # What was received is still run after a stop: it is in flight already.
                if self._stopping.is_set() and not self._left_over:
                    return False
                if self._in_flight < self.config.maximum_concurrency:
                    return True
                self._changed.wait()

    def _gather(self) -> list[dict[str, Any]]:
        """Receive messages until the batch is full, its window over or the event too big."""
        batch: list[dict[str, Any]] = []
        size = EVENT_OVERHEAD_BYTES
        window_end: float | None = None
        while True:
            while self._left_over and len(batch) < self.config.batch_size:
                added = size_bytes(self._left_over[0])
                if batch and size + added > MAXIMUM_EVENT_BYTES:
                    return batch
                size += added
                batch.append(self._left_over.popleft())
            now = time.monotonic()
            if batch and window_end is None:
                window_end = now + self.config.maximum_batching_window_seconds
            if (
                len(batch) == self.config.batch_size
                or self._stopping.is_set()
                or (window_end is not None and now >= window_end)
            ):
                return batch
            remaining = None if window_end is None else window_end - now
            received = self._receive(self.config.batch_size - len(batch), remaining)
            if not received and not batch:
                return batch
            with self._changed:
                self._left_over.extend(received)

    def _receive(self, wanted: int, remaining_seconds: float | None) -> list[dict[str, Any]]:
        """Return the records of one receive; wait for them as long as the window allows."""
        wait_seconds = LONG_POLL_SECONDS
        if remaining_seconds is not None and remaining_seconds < LONG_POLL_SECONDS:
            # SQS waits for whole seconds only: the end of the window is polled.
            wait_seconds = 0
        attempt = 0
        while True:
            try:
                answer = self._sqs.receive_message(
                    QueueUrl=self.queue_url,
                    MaxNumberOfMessages=min(wanted, MAXIMUM_ENTRIES),
                    WaitTimeSeconds=wait_seconds,
                    MessageSystemAttributeNames=["All"],
                    MessageAttributeNames=["All"],
                )
            except AWS_ERRORS as exc:
                delay = min(_BACKOFF_SECONDS * 2**attempt, _BACKOFF_MAX_SECONDS)
                sentence = explain(exc, action="sqs:ReceiveMessage", resource=self.queue_url)
                logger.warning("%s Polling again in %.1f s.", sentence, delay)
                attempt += 1
                if self._stopping.wait(delay):
                    return []
                continue
            messages = answer.get("Messages") or []
            if not messages and wait_seconds == 0 and remaining_seconds:
                self._stopping.wait(min(_SHORT_POLL_SECONDS, remaining_seconds))
            return [record(message, str(self._queue_arn)) for message in messages]

    # The worker threads.

    def _run(self, batch: Sequence[dict[str, Any]]) -> None:
        try:
            report = self._invoke(batch)
            if self._on_batch is not None:
                self._on_batch(report)
        except Exception:
            logger.exception("A batch of %s was not settled", self.queue_url)
        finally:
            with self._changed:
                self._in_flight -= 1
                self._changed.notify_all()

    def _invoke(self, batch: Sequence[dict[str, Any]]) -> BatchReport:
        event = {"Records": list(batch)}
        message_ids = [each["messageId"] for each in batch]
        started = time.monotonic()
        try:
            result = self._function.invoke(event)
        except LambdaCeleryError as exc:
            result = InvocationResult(None, str(exc), time.monotonic() - started)
        error = None
        try:
            failed = failed_message_ids(
                result,
                message_ids,
                report_batch_item_failures=self.config.report_batch_item_failures,
            )
        except BatchFailedError as exc:
            error, failed = str(exc), frozenset(message_ids)
            logger.error(
                "A batch of %d messages failed and stays on %s, hidden until its visibility "
                "time-out of %d s ends: %s",
                len(batch), self.queue_url, self._visibility_timeout_seconds, error,
            )  # fmt: skip
        self._delete(each for each in batch if each["messageId"] not in failed)
        return BatchReport(self.queue_url, event, result, failed, error)

    def _delete(self, records: Iterable[Mapping[str, Any]]) -> None:
        remaining = iter(records)
        while chunk := list(islice(remaining, MAXIMUM_ENTRIES)):
            try:
                answer = self._sqs.delete_message_batch(
                    QueueUrl=self.queue_url,
                    Entries=[
                        {"Id": str(index), "ReceiptHandle": each["receiptHandle"]}
                        for index, each in enumerate(chunk)
                    ],
                )
            except AWS_ERRORS as exc:
                sentence = explain(exc, action="sqs:DeleteMessage", resource=self.queue_url)
                logger.warning("%s %d messages are going to come again.", sentence, len(chunk))
                continue
            for failure in answer.get("Failed") or ():
                message_id = chunk[int(failure["Id"])]["messageId"]
                if failure.get("Code") == _SUPERSEDED:
                    logger.debug(
                        "The message %s was deleted by the function, or received again.", message_id
                    )
                    continue
                logger.warning(
                    "The message %s was not deleted and may come again: %s",
                    message_id,
                    failure.get("Message") or failure.get("Code"),
                )

    def _queue_attributes(self, *names: str) -> dict[str, str]:
        try:
            answer = self._sqs.get_queue_attributes(
                QueueUrl=self.queue_url, AttributeNames=list(names)
            )
        except AWS_ERRORS as exc:
            raise ConfigurationError(
                explain(exc, action="sqs:GetQueueAttributes", resource=self.queue_url)
            ) from exc
        return dict(answer["Attributes"])
