"""SQS in memory: queues with their dead-letter queues, by the queue's own clock."""

from __future__ import annotations

import hashlib
import itertools
import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lambda_celery.message import (
    FIFO_SUFFIX,
    MAXIMUM_MESSAGE_SIZE_BYTES,
    MAXIMUM_RETENTION_SECONDS,
    is_fifo,
)
from lambda_celery.testing.clock import Clock
from lambda_celery.testing.refusal import RefusedError

_DEAD_LETTERS = "-dead-letters"
_DEDUPLICATION_SECONDS = 300


@dataclass(eq=False)
class StoredMessage:
    """A message on a queue."""

    queue: Queue
    body: str
    attributes: Mapping[str, Any]
    group: str | None
    trace_header: str | None
    #: By the queue's clock; and what that had let pass.
    sent_at: float
    sent_after_seconds: float
    visible_at: float
    number: int
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    receive_count: int = 0
    receipt_handle: str = ""
    #: Of a dead letter: the queue that it was on.
    source: Queue | None = None

    def as_received(self) -> dict[str, Any]:
        """Return it as ReceiveMessage does."""
        system = {
            "ApproximateReceiveCount": str(self.receive_count),
            # Of the process's time, to which the runtime compares it.
            "SentTimestamp": str(int((self.sent_at - self.sent_after_seconds) * 1000)),
            "MessageGroupId": self.group,
            "AWSTraceHeader": self.trace_header,
        }
        return {
            "MessageId": self.id,
            "ReceiptHandle": self.receipt_handle,
            "Body": self.body,
            "MD5OfBody": hashlib.md5(self.body.encode(), usedforsecurity=False).hexdigest(),
            "Attributes": {name: each for name, each in system.items() if each is not None},
            "MessageAttributes": dict(self.attributes),
        }


@dataclass(eq=False)
class Queue:
    """A queue, and where what is spent goes; a dead-letter queue has no such place."""

    url: str
    arn: str
    visibility_timeout_seconds: int
    max_receive_count: int | None = None
    dead_letters: Queue | None = None
    messages: list[StoredMessage] = field(default_factory=list)


class SQS:
    """Queues, which are there as soon as they are named.

    :param dead_letter_url_of: tells the URL of a queue's dead-letter queue, if one is set.
    :param max_receive_count_of: and how often it hands out a message.
    """

    #: What changes nothing; the rest is lost where the process has died.
    READS = frozenset({"GetQueueAttributes", "GetQueueUrl"})

    def __init__(
        self,
        clock: Clock,
        *,
        region: str,
        visibility_timeout_seconds: int,
        max_receive_count_of: Callable[[str], int],
        dead_letter_url_of: Callable[[str], str | None],
    ) -> None:
        self._clock = clock
        self._region = region
        self._visibility_timeout_seconds = visibility_timeout_seconds
        self._max_receive_count_of = max_receive_count_of
        self._dead_letter_url_of = dead_letter_url_of
        self._queues: dict[str, Queue] = {}
        self._numbers = itertools.count()
        self._seen: dict[tuple[str, str], tuple[float, str]] = {}
        #: Of what was received last: while its task runs, what is parked comes from there.
        self._source: Queue | None = None

    def named(self, url: str) -> Queue:
        """Return the queue at *url*, with its dead-letter queue."""
        queue = self._at(url)
        if queue.dead_letters is None and queue.max_receive_count is None:
            queue.max_receive_count = self._max_receive_count_of(url)
            base = url.removesuffix(FIFO_SUFFIX)
            suffix = FIFO_SUFFIX if is_fifo(url) else ""
            queue.dead_letters = self._at(
                self._dead_letter_url_of(url) or f"{base}{_DEAD_LETTERS}{suffix}"
            )
        return queue

    @property
    def dead_letter_queues(self) -> list[Queue]:
        """The dead-letter queues of those that have been named."""
        found = [each.dead_letters for each in list(self._queues.values()) if each.dead_letters]
        return list(dict.fromkeys(found))

    @property
    def source_queues(self) -> list[Queue]:
        """All other queues."""
        dead = self.dead_letter_queues
        return [each for each in list(self._queues.values()) if each not in dead]

    def waiting(self) -> list[StoredMessage]:
        """Return what is on the queues, hidden and delayed messages included, as it was sent."""
        found = [each for queue in self.source_queues for each in queue.messages]
        return sorted(found, key=lambda each: each.number)

    def dead_letters(self) -> list[StoredMessage]:
        """Return what is on the dead-letter queues, as it came there."""
        found = [each for queue in self.dead_letter_queues for each in queue.messages]
        return sorted(found, key=lambda each: each.number)

    def receive(self) -> StoredMessage | None:
        """Hand out the message that is due first, if any is. Spent ones go their way."""
        now = self._clock.now()
        due = [each for each in self.waiting() if each.visible_at <= now]
        for message in sorted(due, key=lambda each: (each.visible_at, each.number)):
            if self._is_behind_another(message):
                continue
            limit = message.queue.max_receive_count
            if limit is not None and message.receive_count >= limit:
                self._move_to_dead_letters(message)
                continue
            self._source = message.queue
            message.receive_count += 1
            message.receipt_handle = f"{message.id}#{message.receive_count}"
            message.visible_at = now + message.queue.visibility_timeout_seconds
            return message
        return None

    def _is_behind_another(self, message: StoredMessage) -> bool:
        """Whether it must not overtake another one of its message group."""
        return is_fifo(message.queue.url) and any(
            each.number < message.number and each.group == message.group
            for each in message.queue.messages
        )

    def _move_to_dead_letters(self, message: StoredMessage) -> None:
        message.queue.messages.remove(message)
        if (there := message.queue.dead_letters) is not None:
            message.source = message.queue
            message.queue, message.number = there, next(self._numbers)
            there.messages.append(message)

    def delete(self, message: StoredMessage) -> None:
        """Delete *message*, if it is still there."""
        if message in message.queue.messages:
            message.queue.messages.remove(message)

    def show_again(self, message: StoredMessage) -> None:
        """Have *message* due again, although it was to be deleted: SQS delivers at least once."""
        message.visible_at = self._clock.now()
        if message not in message.queue.messages:
            message.queue.messages.append(message)

    def redrive(self, message: StoredMessage) -> None:
        """Send *message* from the dead-letter queue back to the queue that it was on."""
        # Several queues may have one dead-letter queue.
        known = [each for each in self.source_queues if each.dead_letters is message.queue]
        source = message.source if message.source in known else known[0]
        message.queue.messages.remove(message)
        now = self._clock.now()
        source.messages.append(
            replace(
                message,
                queue=source,
                source=None,
                number=next(self._numbers),
                visible_at=now,
                id=str(uuid.uuid4()),
                receive_count=0,
            )
        )

    def send_message(self, *, QueueUrl: str, **parameters: Any) -> dict[str, Any]:  # noqa: N803
        """Put a message on the queue."""
        sent_id = self._put(self._at_or_named(QueueUrl), parameters)
        return {"MessageId": sent_id}

    def send_message_batch(
        self,
        *,
        QueueUrl: str,  # noqa: N803
        Entries: Iterable[Mapping[str, Any]],  # noqa: N803
    ) -> dict[str, Any]:
        """Put messages on the queue."""
        queue = self._at_or_named(QueueUrl)
        sent = [{"Id": each["Id"], "MessageId": self._put(queue, each)} for each in Entries]
        return {"Successful": sent, "Failed": []}

    def delete_message(self, *, QueueUrl: str, ReceiptHandle: str) -> dict[str, Any]:  # noqa: N803
        """Delete a message by the receipt handle of its last receive, or of an earlier one."""
        message_id = ReceiptHandle.partition("#")[0]
        for each in list(self._at(QueueUrl).messages):
            if each.id == message_id:
                self.delete(each)
        return {}

    def delete_message_batch(
        self,
        *,
        QueueUrl: str,  # noqa: N803
        Entries: Iterable[Mapping[str, Any]],  # noqa: N803
    ) -> dict[str, Any]:
        """Delete messages."""
        for each in Entries:
            self.delete_message(QueueUrl=QueueUrl, ReceiptHandle=each["ReceiptHandle"])
        return {"Successful": [{"Id": each["Id"]} for each in Entries], "Failed": []}

    def change_message_visibility_batch(
        self,
        *,
        QueueUrl: str,  # noqa: N803
        Entries: Iterable[Mapping[str, Any]],  # noqa: N803
    ) -> dict[str, Any]:
        """Hide messages for other times."""
        by_handle = {each.receipt_handle: each for each in self._at(QueueUrl).messages}
        for each in Entries:
            if (message := by_handle.get(each["ReceiptHandle"])) is not None:
                message.visible_at = self._clock.now() + each["VisibilityTimeout"]
        return {"Successful": [{"Id": each["Id"]} for each in Entries], "Failed": []}

    def get_queue_url(self, *, QueueName: str, **_: Any) -> dict[str, Any]:  # noqa: N803
        """Return a queue's URL."""
        for each in self._queues.values():
            if each.url.rpartition("/")[2] == QueueName:
                return {"QueueUrl": each.url}
        raise RefusedError("QueueDoesNotExist", f"There is no queue {QueueName} yet.")

    def get_queue_attributes(self, *, QueueUrl: str, **_: Any) -> dict[str, Any]:  # noqa: N803
        """Return all that is known of a queue, whatever is asked for."""
        queue = self._at_or_named(QueueUrl)
        now = self._clock.now()
        hidden = sum(each.visible_at > now for each in queue.messages)
        attributes = {
            "QueueArn": queue.arn,
            "MaximumMessageSize": str(MAXIMUM_MESSAGE_SIZE_BYTES),
            "MessageRetentionPeriod": str(MAXIMUM_RETENTION_SECONDS),
            "VisibilityTimeout": str(queue.visibility_timeout_seconds),
            "ApproximateNumberOfMessages": str(len(queue.messages) - hidden),
            "ApproximateNumberOfMessagesNotVisible": str(hidden),
            "ApproximateNumberOfMessagesDelayed": "0",
        }
        if queue.dead_letters is not None:
            attributes["RedrivePolicy"] = json.dumps(
                {
                    "deadLetterTargetArn": queue.dead_letters.arn,
                    "maxReceiveCount": queue.max_receive_count,
                }
            )
        return {"Attributes": attributes}

    def _put(self, queue: Queue, parameters: Mapping[str, Any]) -> str:
        now = self._clock.now()
        if deduplication := parameters.get("MessageDeduplicationId"):
            seen_at, known = self._seen.get((queue.url, deduplication), (0.0, ""))
            if now - seen_at < _DEDUPLICATION_SECONDS:
                return known
        header = (parameters.get("MessageSystemAttributes") or {}).get("AWSTraceHeader", {})
        message = StoredMessage(
            queue=queue,
            body=parameters["MessageBody"],
            attributes=parameters.get("MessageAttributes") or {},
            group=parameters.get("MessageGroupId"),
            trace_header=header.get("StringValue"),
            sent_at=now,
            sent_after_seconds=self._clock.passed_seconds,
            visible_at=now + (parameters.get("DelaySeconds") or 0),
            number=next(self._numbers),
            source=self._source,
        )
        if deduplication:
            self._seen[queue.url, deduplication] = now, message.id
        queue.messages.append(message)
        return message.id

    def _at_or_named(self, url: str) -> Queue:
        queue = self._at(url)
        return queue if queue in self.dead_letter_queues else self.named(url)

    def _at(self, url: str) -> Queue:
        # A queue's URL may be spelt with one host or another.
        account, name = url.rstrip("/").split("/")[-2:]
        arn = f"arn:aws:sqs:{self._region}:{account}:{name}"
        if arn not in self._queues:
            self._queues[arn] = Queue(url, arn, self._visibility_timeout_seconds)
        return self._queues[arn]
