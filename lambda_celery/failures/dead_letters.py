"""A dead-letter queue, walked through in search of single messages.

SQS has no look-up by id: messages are received, ten at a time, and those that are not meant are
given back. Not at once, for then they would be received again before the others; but when the walk
ends, and by SQS itself soon after where it does not come to that.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

from lambda_celery import aws
from lambda_celery.conf import Settings
from lambda_celery.exceptions import FailedTaskError
from lambda_celery.failures.record import MAXIMUM_KEPT_BYTES, Failure
from lambda_celery.failures.refusals import refused
from lambda_celery.message import MAXIMUM_ENTRIES, is_fifo
from lambda_celery.table.schema import failure_key

logger = logging.getLogger(__name__)

#: How long what is received stays hidden from others.
_HIDDEN_SECONDS = 120
#: And how long it is taken for hidden. Then the walk begins anew.
_HELD_SECONDS = 100
#: Messages that are looked at for one that is looked for.
MAXIMUM_LOOKED_AT = 5_000
#: Bodies that are held: nothing more is looked at when there are so many.
_MOST_HELD_BYTES = 50_000_000
#: In the function, nothing more is looked at when less than this is left of the invocation.
_ANSWER_SECONDS = 3
#: With it SQS asks all its servers; without, some of them, and may say that a queue is empty. Once
#: it was, a look is enough for what has come since.
_WAIT_SECONDS = 1


class Fate(Enum):
    """What has become of a dead letter."""

    DELETED = "deleted"
    #: All that is on the queue was looked at.
    ABSENT = "not on the queue"
    #: As much as is looked at was looked at; or somebody else holds some of them just now.
    UNKNOWN = "not found"


class DeadLetters:
    """A walk through the dead-letter queue at *url*. Close it: what it hides comes back then."""

    def __init__(self, settings: Settings, url: str) -> None:
        self.url = url
        self._settings = settings
        #: Several threads may look for theirs.
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        #: By the key of the failure's record: a message may be there in several copies.
        self._held: dict[str, dict[str, dict[str, Any]]] = {}
        self._held_bytes = 0
        self._has_ended = False
        self._taken_seconds = 0.0
        self._ends_at = time.monotonic() + _HELD_SECONDS

    def find(self, failure: Failure) -> list[dict[str, Any]]:
        """Return the messages of *failure*, in the words of ReceiveMessage: none, or one, or more.

        They have a body if that is too large for the failure's record.

        :raises FailedTaskError: SQS refuses.
        """
        with self._lock:
            if time.monotonic() >= self._ends_at:
                self.close()
            looked_at = 0
            while (
                failure.id not in self._held
                and looked_at < MAXIMUM_LOOKED_AT
                and self._held_bytes < _MOST_HELD_BYTES
                # To give them back takes as long as it took to receive them.
                and aws.seconds_left() > _ANSWER_SECONDS + self._taken_seconds
            ):
                began = time.monotonic()
                received = self._receive()
                self._taken_seconds += time.monotonic() - began
                if not received:
                    break
                looked_at += len(received)
            return list(self._held.get(failure.id, {}).values())

    def delete(self, failure: Failure, found: Sequence[Mapping[str, Any]]) -> Fate:
        """Delete the messages that were *found* of *failure*, and say what has become of them.

        No others: what has been sent back meanwhile may have failed, and have come here, again.

        :raises FailedTaskError: SQS refuses.
        """
        for message in found:
            try:
                self._sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
            except aws.AWS_ERRORS as exc:
                raise self._refusal(exc, "sqs:DeleteMessage") from aws.cause(exc, self._settings)
            with self._lock:
                held = self._held.get(failure.id, {})
                self._held_bytes -= _bytes(held.pop(message["MessageId"], {}))
                if not held:
                    self._held.pop(failure.id, None)
        if found:
            return Fate.DELETED
        # A FIFO queue hands out nothing of a group of which something is hidden.
        if not self._has_ended or is_fifo(self.url) or self._is_hidden_by_others():
            return Fate.UNKNOWN
        return Fate.ABSENT

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield each message that is visible, once, and keep it hidden.

        :raises FailedTaskError: SQS refuses.
        """
        while received := self._receive():
            yield from received

    def close(self) -> None:
        """Give back what is held. A refusal is logged: SQS gives it back soon."""
        entries = [
            {"Id": str(n), "ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": 0}
            for n, message in enumerate(each for of in self._held.values() for each in of.values())
        ]
        self._begin()
        for start in range(0, len(entries), MAXIMUM_ENTRIES):
            try:
                self._sqs.change_message_visibility_batch(
                    QueueUrl=self.url, Entries=entries[start : start + MAXIMUM_ENTRIES]
                )
            except aws.AWS_ERRORS as exc:
                logger.info(
                    "What was looked at on %s is visible again in %d seconds: %s",
                    self.url, _HIDDEN_SECONDS, exc,
                )  # fmt: skip
                return

    @property
    def _sqs(self) -> Any:
        return aws.client("sqs", self._settings)

    def _receive(self) -> list[dict[str, Any]]:
        """Receive and hold up to ten messages that are not held yet; none when all are."""
        try:
            answer = self._sqs.receive_message(
                QueueUrl=self.url,
                MaxNumberOfMessages=MAXIMUM_ENTRIES,
                VisibilityTimeout=_HIDDEN_SECONDS,
                WaitTimeSeconds=0 if self._has_ended else _WAIT_SECONDS,
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=["All"],
            )
        except aws.AWS_ERRORS as exc:
            raise self._refusal(exc, "sqs:ReceiveMessage") from aws.cause(exc, self._settings)
        new = []
        for message in answer.get("Messages") or ():
            held = self._held.setdefault(failure_key(message["Body"]), {})
            # A standard queue may hand out twice what is hidden.
            if message["MessageId"] not in held:
                new.append(message)
            self._held_bytes -= _bytes(held.get(message["MessageId"], {}))
            held[message["MessageId"]] = _held(message)
            self._held_bytes += _bytes(held[message["MessageId"]])
        self._has_ended = not new
        return new

    def _is_hidden_by_others(self) -> bool:
        """Whether somebody else holds messages, or that cannot be told."""
        name = "ApproximateNumberOfMessagesNotVisible"
        with self._lock:  # so that nothing is received that is not counted
            try:
                answer = self._sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=[name])
            except aws.AWS_ERRORS as exc:
                logger.info("Whether others look through %s is not known: %s", self.url, exc)
                return True
            return int(answer["Attributes"][name]) > sum(map(len, self._held.values()))

    def _refusal(self, exc: Exception, action: str) -> FailedTaskError:
        return refused(exc, action=action, resource=self.url, setting="dead_letter_queue_url")


def _bytes(held: Mapping[str, Any]) -> int:
    """Return the size of the body that is *held*; most have none."""
    return len(held.get("Body", ""))


def _held(message: dict[str, Any]) -> dict[str, Any]:
    """Return what has to be held of *message*: all of it, if its record may not have its body.

    Ten thousands may be held, in a function that has little memory.
    """
    attributes = message.get("MessageAttributes")
    # As JSON, a character of an attribute is six bytes at most.
    size = len(message["Body"].encode(errors="replace")) + 6 * len(repr(attributes or ""))
    if size > MAXIMUM_KEPT_BYTES:
        return message
    return {name: message[name] for name in ("MessageId", "ReceiptHandle")}
