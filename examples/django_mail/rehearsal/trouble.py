"""What goes wrong on purpose: a process killed in mid-batch, a message nobody can read."""

import base64
import json
import os
import signal
import threading
import time
from collections.abc import Mapping
from typing import Any

from lambda_celery.local.function import InvocationResult, LocalFunction
from rehearsal.smtp_sink import Mail

POISON = "This is not a Celery message."


def send_poison(sqs: Any, queue_url: str) -> None:
    """Put something on the queue that is not a task."""
    sqs.send_message(QueueUrl=queue_url, MessageBody=POISON)


def task_id(record: Mapping[str, Any], s3: Any) -> str | None:
    """Return the id of the task in an SQS record, or ``None`` if its body cannot tell."""
    body = record["body"]
    try:
        if is_large(record):
            _, place = json.loads(body)
            answer = s3.get_object(Bucket=place["s3BucketName"], Key=place["s3Key"])
            body = answer["Body"].read()
        return json.loads(base64.b64decode(body))["headers"]["id"]
    except (ValueError, s3.exceptions.NoSuchKey):
        return None


def is_large(record: Mapping[str, Any]) -> bool:
    """Whether the record's body is in S3."""
    return "ExtendedPayloadSize" in record["messageAttributes"]


class WatchedFunction:
    """A function whose batches can be seen while they run."""

    def __init__(self, function: LocalFunction, s3: Any) -> None:
        self.timeout_seconds = function.timeout_seconds
        self.process_ids = function.process_ids
        self._function = function
        self._s3 = s3
        self.lock = threading.Lock()
        self.in_flight: list[frozenset[str]] = []
        #: Receives of messages whose body came through S3.
        self.large_bodies = 0

    def invoke(self, event: Mapping[str, Any]) -> InvocationResult:
        records = event["Records"]
        batch = frozenset(filter(None, (task_id(record, self._s3) for record in records)))
        with self.lock:
            self.in_flight.append(batch)
            self.large_bodies += sum(map(is_large, records))
        try:
            return self._function.invoke(event)
        finally:
            with self.lock:
                self.in_flight.remove(batch)


class Killer:
    """Kills one process that runs tasks, when it has done a part of its batch.

    Call it with every mail that has arrived.

    :param after: let so many mails pass first.
    """

    def __init__(self, function: WatchedFunction, after: int) -> None:
        self.function = function
        self.after = after
        self.process_id: int | None = None
        self.killed_at_seconds: float | None = None
        #: The tasks of the batch that the process was at.
        self.batch: frozenset[str] = frozenset()
        self._done: set[str] = set()

    def __call__(self, mail: Mail) -> None:
        self._done.add(mail.task_id)
        if self.process_id is not None or len(self._done) < self.after:
            return
        with self.function.lock:
            batch = next((b for b in self.function.in_flight if mail.task_id in b), frozenset())
            in_the_middle = batch & self._done and batch - self._done
            if in_the_middle and mail.process_id in self.function.process_ids():
                os.kill(mail.process_id, signal.SIGKILL)
                self.process_id, self.batch = mail.process_id, batch
                self.killed_at_seconds = time.monotonic()
