"""What a function is given, and when: the deliveries, by the calls that they are of."""

import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lambda_celery.envelope import MARK_HEADER, read_envelope
from lambda_celery.local.function import InvocationResult, LocalFunction


@dataclass(frozen=True)
class Invocation:
    """One batch in one environment; the times are seconds since the epoch."""

    began: float
    ended: float
    messages: int
    error: str | None


class WatchedFunction:
    """A function whose deliveries are counted, and some of whose messages are sent twice.

    A producer that did not get SQS's answer sends a message again; so does whoever redrives a
    dead-letter queue. The copy is sent as soon as the first is delivered: the two may run at the
    same time.

    :param repeat_every: one call in so many has its message sent twice.
    """

    def __init__(
        self, function: LocalFunction, sqs: Any, queue_url: str, repeat_every: int
    ) -> None:
        self.timeout_seconds = function.timeout_seconds
        self._function = function
        self._sqs = sqs
        self._queue_url = queue_url
        self._repeat_every = repeat_every
        self._lock = threading.Lock()
        self.invocations: list[Invocation] = []
        #: How often each call was delivered, by the mark that all its messages have.
        self.deliveries: Counter[str] = Counter()
        #: The ids of the messages on which it was.
        self.messages: set[str] = set()
        #: The marks of the calls, by the ids of their tasks: a second run draws other ids.
        self.mark_of: dict[str, str] = {}
        self.repeated = 0

    def invoke(self, event: Mapping[str, Any]) -> InvocationResult:
        """Invoke the function with *event*."""
        for record in event["Records"]:
            self._note(record)
        began = time.time()
        result = self._function.invoke(event)
        invocation = Invocation(began, time.time(), len(event["Records"]), result.error)
        with self._lock:
            self.invocations.append(invocation)
        return result

    def _note(self, record: Mapping[str, Any]) -> None:
        headers = read_envelope(record["body"])["headers"]
        mark = headers[MARK_HEADER]
        with self._lock:
            is_new = mark not in self.deliveries
            is_turn = is_new and len(self.deliveries) % self._repeat_every == 0
            self.deliveries[mark] += 1
            self.messages.add(record["messageId"])
            self.mark_of[headers["id"]] = mark
            self.repeated += is_turn
        if is_turn:
            self._sqs.send_message(QueueUrl=self._queue_url, MessageBody=record["body"])

    @property
    def killed(self) -> list[Invocation]:
        """The invocations whose process was killed."""
        return [each for each in self.invocations if each.error and "SIGKILL" in each.error]
