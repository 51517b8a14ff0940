"""Sends many messages: ten a request, and several requests at a time.

The thread that adds messages sends their requests itself, and reads the answers while it waits
(:mod:`lambda_celery.aws.exchanges`). What blocks is done by threads of a pool: uploads to S3,
schedules, and requests that have to go botocore's way, among them each that went wrong.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import Any

from lambda_celery import aws
from lambda_celery.aws.exchanges import Exchanges
from lambda_celery.aws.fast_requests import FAST_ERRORS, FastClient
from lambda_celery.aws.refusals import THROTTLED
from lambda_celery.conf import Settings
from lambda_celery.exceptions import (
    BatchPublishError,
    LambdaCeleryError,
    UnsentTask,
)
from lambda_celery.message import MAXIMUM_ENTRIES, OutgoingMessage, delay_until, is_fifo
from lambda_celery.publishing.held_messages import Outgoing, Progress
from lambda_celery.trace_context import carried

#: A request takes about 0.2 ms of CPU, and SQS answers in about 10 ms.
_REQUESTS_AT_A_TIME = 16
#: Enough that none waits for the next request to be packed.
_MESSAGES_IN_FLIGHT = 2 * _REQUESTS_AT_A_TIME * MAXIMUM_ENTRIES
#: What a pointer to S3 has at most, apart from the message's own attributes.
_POINTER_BYTES = 1_024
#: botocore has retried each of them.
_ATTEMPTS = 3
_BACKOFF_SECONDS = 0.2
_OPERATION = "SendMessageBatch"


@dataclass
class _Entry:
    """A message of a request; a future one while its body is on its way to S3."""

    message: OutgoingMessage
    ready: Future[OutgoingMessage | None] | None = None


@dataclass
class _Destination:
    """What goes to one queue by one client."""

    queue_url: str
    settings: Settings
    sqs: Any = None
    limit_bytes: int = 0
    threshold_bytes: int = 0
    entries: list[_Entry] = field(default_factory=list)
    size_bytes: int = 0
    #: FIFO: requests behind the one that is running.
    waiting: deque[list[_Entry]] = field(default_factory=deque)
    is_running: bool = False
    #: FIFO: message groups of which a message could not be sent.
    stopped_groups: set[str | None] = field(default_factory=set)
    #: Why nothing can be sent this way.
    refusal: str | None = None
    #: What AWS's first refusal was, where ``lambda_debug`` asks for it.
    cause: Exception | None = None

    @property
    def is_fifo(self) -> bool:
        return is_fifo(self.queue_url)

    def has_room_for(self, size_bytes: int) -> bool:
        """Whether a message of that size may join the entries."""
        return not self.entries or (
            len(self.entries) < MAXIMUM_ENTRIES and self.size_bytes + size_bytes <= self.limit_bytes
        )

    def request_for(
        self, messages: Iterable[OutgoingMessage], ids: Iterable[int] | None = None
    ) -> dict[str, Any]:
        """Return the parameters of a request for *messages*, numbered, or with *ids*."""
        numbered = enumerate(messages) if ids is None else zip(ids, messages, strict=True)
        return {
            "QueueUrl": self.queue_url,
            "Entries": [{"Id": str(n), **each.parameters()} for n, each in numbered],
        }

    def explained(self, exc: Exception) -> str:
        """Return the sentence for AWS's refusal *exc*."""
        self.cause = self.cause or aws.cause(exc, self.settings)
        # SendMessageBatch has no permission of its own: SendMessage's is what IAM knows.
        action = f"sqs:{getattr(exc, 'operation_name', 'SendMessage')}".removesuffix("Batch")
        return aws.explain(exc, action=action, resource=self.queue_url, setting="queue_url")


class BulkSender:
    """Sends what is added to it; at its end it has sent it, or says what it could not send.

    It holds a bounded number of messages: :meth:`add` waits where AWS is slower.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_REQUESTS_AT_A_TIME, "lambda-celery-batch")
        self._exchanges = Exchanges(_REQUESTS_AT_A_TIME)
        #: What those are for.
        self._exchanged: dict[int, tuple[_Destination, list[_Entry]]] = {}
        self._destinations: dict[tuple[Any, ...], _Destination] = {}
        self._lock = threading.Lock()
        self._in_flight = 0
        self._awaited = 0
        self._sent = 0
        self._unsent: list[UnsentTask] = []
        self._progress: Progress | None = None
        #: What it has raised.
        self._progress_failure: BaseException | None = None
        self._total = self._reported = 0
        #: Whether an exception that comes now, of a time limit or Ctrl-C, comes in the middle.
        self._is_interrupted = False

    def report(self, progress: Progress, total: int) -> None:
        """Call *progress* from now on, in the thread that adds.

        What it raises comes at the end, when all is sent. (What is no :exc:`Exception`, such as
        :exc:`KeyboardInterrupt`, comes at once: nothing more is taken then.)
        """
        self._progress, self._total = progress, total

    @property
    def has_failed(self) -> bool:
        """Whether there is a message that could not be sent."""
        return bool(self._unsent)

    def __enter__(self) -> BulkSender:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        failure = raised
        if raised is None:
            try:
                self._is_interrupted = True
                self._dispatch_all()
                self._wait_until_in_flight_is_below(1)
                self._is_interrupted = False
            except BaseException as exc:  # noqa: BLE001 - Ctrl-C; raised below
                failure = exc
        self._drain()
        failure = failure or self._progress_failure
        if self._unsent:
            cause = failure or next(
                filter(None, (d.cause for d in self._destinations.values())), None
            )
            raise BatchPublishError(tuple(self._unsent), self._sent) from cause
        if failure is not None and failure is not raised:
            raise failure

    def _drain(self) -> None:
        # Not by the number in flight, which an exception from a signal can have made wrong.
        self._dispatch_all()
        if self._is_interrupted:
            # In the middle of anything. What is sent twice has one mark, and runs once.
            self._exchanges.close()
            for destination, entries in self._exchanged.values():
                self._leave_to_pool(destination, entries)
            self._exchanges = Exchanges(_REQUESTS_AT_A_TIME)
            for each in self._destinations.values():
                if each.waiting and not each.is_running:
                    self._begin_next(each)
        while self._exchanges.are_under_way or not self._is_idle():
            # A FIFO queue's next request is submitted here, which a pool that is shut down refuses.
            self._exchanges.step()
        self._pool.shutdown()
        self._exchanges.close()

    def _is_idle(self) -> bool:
        with self._lock:
            return not any(each.is_running for each in self._destinations.values())

    def add(self, outgoing: Outgoing) -> None:
        """Send a message soon; wait first while too many are under way."""
        self._is_interrupted = True
        self._add(outgoing)
        self._is_interrupted = False

    def _add(self, outgoing: Outgoing) -> None:
        if self._in_flight >= _MESSAGES_IN_FLIGHT:
            self._dispatch_all()
            # Half of them, and not one: two threads that wake each other in turn do little else.
            self._wait_until_in_flight_is_below(_MESSAGES_IN_FLIGHT // 2)
        destination = self._destination_of(outgoing)
        publisher, queue_url, message, _ = outgoing
        if destination.refusal:
            self._refuse(message, destination.refusal)
            return
        try:
            size = message.size_bytes
        except (AttributeError, KeyError, TypeError) as exc:
            self._refuse(message, f"Its message_attributes are malformed: {exc!r}.")
            return
        entry = _Entry(message)
        if size > destination.threshold_bytes or message.is_far_off:
            entry.ready = self._pool.submit(
                carried(publisher.prepared), queue_url, message, destination.sqs
            )
            if size > destination.threshold_bytes:
                size += _POINTER_BYTES - len(message.body.encode())
        if not destination.has_room_for(size):
            self._dispatch(destination)
        destination.size_bytes += size
        destination.entries.append(entry)
        with self._lock:
            self._in_flight += 1
        if len(destination.entries) == MAXIMUM_ENTRIES:
            self._dispatch(destination)

    def _destination_of(self, outgoing: Outgoing) -> _Destination:
        publisher, queue_url, _, sqs = outgoing
        key = id(publisher), queue_url, id(sqs)
        if key not in self._destinations:
            destination = _Destination(queue_url, publisher.settings)
            self._destinations[key] = destination
            try:
                destination.sqs = sqs or aws.client("sqs", publisher.settings)
                destination.limit_bytes = publisher.limit_bytes(queue_url, destination.sqs)
                destination.threshold_bytes = publisher.threshold_bytes(queue_url, destination.sqs)
            except aws.AWS_ERRORS as exc:
                destination.refusal = destination.explained(exc)
            except LambdaCeleryError as exc:
                destination.refusal = str(exc)
        return self._destinations[key]

    def _dispatch_all(self) -> None:
        for each in self._destinations.values():
            self._dispatch(each)

    def _dispatch(self, destination: _Destination) -> None:
        # A signal's exception can come between any two lines: each leaves what is still to do to
        # _drain, at worst to do it twice, and nothing to wait for that does not come.
        if not destination.entries:
            return
        if not destination.is_fifo:
            self._begin(destination, destination.entries)
        else:
            with self._lock:
                destination.waiting.append(destination.entries)
                is_running = destination.is_running
            if not is_running:
                self._begin_next(destination)
        destination.entries, destination.size_bytes = [], 0

    def _begin_next(self, destination: _Destination) -> None:
        entries = destination.waiting[0]
        if self._can_exchange(destination, entries):
            self._exchange(destination, entries)
            return
        with self._lock:
            self._pool.submit(carried(self._send_next), destination)
            destination.is_running = True

    def _begin(self, destination: _Destination, entries: list[_Entry]) -> None:
        if self._can_exchange(destination, entries):
            self._exchange(destination, entries)
        else:
            self._leave_to_pool(destination, entries)

    def _can_exchange(self, destination: _Destination, entries: list[_Entry]) -> bool:
        """Whether this thread can send *entries* without waiting for anything but SQS."""
        return (
            isinstance(destination.sqs, FastClient)
            and not destination.sqs.is_botocores(_OPERATION)
            and destination.refusal is None
            and not destination.stopped_groups
            and all(each.ready is None for each in entries)
        )

    def _exchange(self, destination: _Destination, entries: list[_Entry]) -> None:
        while not self._exchanges.has_room:
            self._exchanges.step()
        self._exchanged[id(entries)] = destination, entries
        if destination.is_fifo:
            with self._lock:
                destination.waiting.popleft()
                destination.is_running = True
        parameters = destination.request_for(map(_now, (each.message for each in entries)))
        done = partial(self._note_exchange, destination, entries)
        try:
            self._exchanges.start(destination.sqs, _OPERATION, parameters, done)
        except FAST_ERRORS as exc:  # botocore can, or says why not
            done(exc)

    def _note_exchange(
        self,
        destination: _Destination,
        entries: list[_Entry],
        result: dict[str, Any] | Exception,
    ) -> None:
        if isinstance(result, Exception):
            left = entries
        else:
            left = [entries[int(each["Id"])] for each in result.get("Failed") or ()]
        self._settle(sent=len(entries) - len(left))
        if left:
            self._leave_to_pool(destination, left)
        elif destination.is_fifo:
            with self._lock:
                destination.is_running = False
            if destination.waiting:
                self._begin_next(destination)
        del self._exchanged[id(entries)]

    def _leave_to_pool(self, destination: _Destination, entries: list[_Entry]) -> None:
        """Have *entries* sent by a thread that may wait, with repeats, and be told of if not."""
        if not destination.is_fifo:
            self._pool.submit(carried(self._send), destination, entries)
            return
        with self._lock:
            destination.waiting.appendleft(entries)
            self._pool.submit(carried(self._send_next), destination)
            destination.is_running = True

    def _send_next(self, destination: _Destination) -> None:
        # One request a job. A job that went on to requests packed after it began could wait for
        # uploads that stand behind it in the pool, for ever if all threads did.
        with self._lock:
            entries = destination.waiting.popleft()
        self._send(destination, entries)
        with self._lock:
            destination.is_running = bool(destination.waiting)
            if destination.is_running:
                self._pool.submit(carried(self._send_next), destination)
        self._exchanges.wake()  # _drain

    def _wait_until_in_flight_is_below(self, count: int) -> None:
        while True:
            with self._lock:
                self._awaited = count
                is_news = self._is_news()
                sent, is_below = self._sent, self._in_flight < count
            if not is_news:
                self._exchanges.step()
                continue
            if self._progress is not None and sent > self._reported:
                self._reported = sent
                try:
                    self._progress(sent, self._total)
                except BaseException as exc:
                    self._progress, self._progress_failure = None, exc
                    if not isinstance(exc, Exception):
                        raise
            if is_below:
                return

    def _send(self, destination: _Destination, entries: list[_Entry]) -> None:
        unsent: list[tuple[OutgoingMessage, str]] = []
        messages: list[OutgoingMessage] = []
        for each in entries:
            try:
                ready = each.ready.result() if each.ready else each.message
            except Exception as exc:  # noqa: BLE001 - the caller must hear of each that is not sent
                unsent.append((each.message, str(exc) or repr(exc)))
            else:
                if ready is None:
                    continue  # a schedule sends it
                messages.append(_now(ready))
        try:
            unsent += self._send_ready(destination, messages)
        except Exception as exc:  # noqa: BLE001 - as above
            unsent += [(each, repr(exc)) for each in messages]
        if destination.is_fifo:
            destination.stopped_groups |= {each.message_group_id for each, _ in unsent}
        self._settle(sent=len(entries) - len(unsent), unsent=unsent)
        self._exchanges.wake()

    def _send_ready(
        self, destination: _Destination, messages: list[OutgoingMessage]
    ) -> list[tuple[OutgoingMessage, str]]:
        """Send *messages* by one request; return those that were not sent, and why."""
        if destination.refusal:
            return [(each, destination.refusal) for each in messages]
        stopped = [each for each in messages if each.message_group_id in destination.stopped_groups]
        unsent = [(each, "An earlier message of its group was not sent.") for each in stopped]
        if stopped:
            messages = [each for each in messages if each not in stopped]
        reasons: dict[int, str] = {}
        left = dict(enumerate(messages))
        for attempt in range(_ATTEMPTS):
            if not left:
                break
            if attempt:
                time.sleep(_BACKOFF_SECONDS * 2**attempt * random.uniform(0.5, 1))
            try:
                request = destination.request_for(left.values(), left)
                answer = destination.sqs.send_message_batch(**request)
            except aws.AWS_ERRORS as exc:
                sentence = destination.explained(exc)
                if not (aws.is_transient(exc) or aws.misconfigured(exc)) and len(left) > 1:
                    # Something in one message, or their sum: each for itself tells which.
                    for each in left.values():
                        unsent += self._send_ready(destination, [each])
                    return unsent
                reasons = dict.fromkeys(left, sentence)
                if aws.is_transient(exc) and attempt + 1 < _ATTEMPTS:
                    continue
                if aws.is_transient(exc) or aws.misconfigured(exc):
                    # The requests behind it need not wait for the same.
                    destination.refusal = sentence
                break
            failed = {int(each["Id"]): each for each in answer.get("Failed", [])}
            reasons = {
                n: f"SQS refused it ({each['Code']}): {each.get('Message', '')}"
                for n, each in failed.items()
            }
            unsent += [(left[n], reasons[n]) for n, each in failed.items() if not _is_passing(each)]
            left = {n: left[n] for n, each in failed.items() if _is_passing(each)}
        return unsent + [(each, reasons[n]) for n, each in left.items()]

    def _refuse(self, message: OutgoingMessage, reason: str) -> None:
        with self._lock:
            self._in_flight += 1
        self._settle(unsent=[(message, reason)])

    def _settle(self, *, sent: int = 0, unsent: Iterable[tuple[OutgoingMessage, str]] = ()) -> None:
        tasks = [UnsentTask(each.task_id, reason) for each, reason in unsent]
        with self._lock:
            self._in_flight -= sent + len(tasks)
            self._sent += sent
            self._unsent += tasks

    def _is_news(self) -> bool:
        """Whether the thread that adds has something to do."""
        return self._in_flight < self._awaited or (
            self._progress is not None and self._sent > self._reported
        )


def _now(message: OutgoingMessage) -> OutgoingMessage:
    """Return *message* with the delay that is left: it may have been held for long."""
    if message.due is None:
        return message
    return replace(message, delay_seconds=delay_until(message.due) or None)


def _is_passing(failed: dict[str, Any]) -> bool:
    """Whether a *failed* entry may be taken when it is sent again."""
    return not failed.get("SenderFault") or failed["Code"] in THROTTLED
