"""What goes wrong on purpose: a process killed in mid-batch, a message nobody can read."""

import base64
import json
import os
import signal
import threading
import time
from collections.abc import Mapping
from typing import Any

from lambda_celery.django.mail.options import DELIVER
from lambda_celery.local.function import InvocationResult, LocalFunction
from rehearsal.smtp_sink import Mail

POISON = "This is not a Celery message."


def send_poison(sqs: Any, queue_url: str) -> None:
    """Put something on the queue that is not a task."""
    sqs.send_message(QueueUrl=queue_url, MessageBody=POISON)


def recipient(record: Mapping[str, Any]) -> str | None:
    """Return whom the mail in an SQS record is for, or ``None`` if there is no mail in it."""
    try:
        message = json.loads(base64.b64decode(record["body"]))
        if message["headers"]["task"] != DELIVER:
            return None
        (mail, *_), _, _ = json.loads(base64.b64decode(message["body"]))
    except ValueError:
        return None
    return str(mail["attributes"]["to"][0])


class WatchedFunction:
    """A function whose batches can be seen while they run."""

    def __init__(self, function: LocalFunction) -> None:
        self.timeout_seconds = function.timeout_seconds
        self.process_ids = function.process_ids
        self._function = function
        self.lock = threading.Lock()
        #: The recipients of each batch.
        self.in_flight: list[frozenset[str]] = []

    def invoke(self, event: Mapping[str, Any]) -> InvocationResult:
        batch = frozenset(filter(None, map(recipient, event["Records"])))
        with self.lock:
            self.in_flight.append(batch)
        try:
            return self._function.invoke(event)
        finally:
            with self.lock:
                self.in_flight.remove(batch)


class Killer:
    """Kills one process that sends mails, when it has done a part of its batch.

    Call it with every mail that has arrived.

    :param after: let so many mails pass first.
    """

    def __init__(self, function: WatchedFunction, after: int) -> None:
        self.function = function
        self.after = after
        self.process_id: int | None = None
        self.killed_at_seconds: float | None = None
        #: The recipients of the batch that the process was at.
        self.batch: frozenset[str] = frozenset()
        self._done: set[str] = set()

    def __call__(self, mail: Mail) -> None:
        self._done.add(mail.recipient)
        if self.process_id is not None or len(self._done) < self.after:
            return
        with self.function.lock:
            batch = next((b for b in self.function.in_flight if mail.recipient in b), frozenset())
            in_the_middle = batch & self._done and batch - self._done
            if in_the_middle and mail.process_id in self.function.process_ids():
                os.kill(mail.process_id, signal.SIGKILL)
                self.process_id, self.batch = mail.process_id, batch
                self.killed_at_seconds = time.monotonic()
