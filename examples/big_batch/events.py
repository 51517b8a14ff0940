"""Events for the function: what is on the queue, gathered as Lambda does, and what came of each."""

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from examples.big_batch.service import ServiceError
from examples.kit.runs import Run, RunLog
from lambda_celery.envelope import read_envelope
from lambda_celery.local.event_source_mapping import (
    BatchReport,
    EventSourceMapping,
    EventSourceMappingConfig,
)
from lambda_celery.local.function import LocalFunction
from lambda_celery.local.records import EVENT_OVERHEAD_BYTES, size_bytes
from lambda_celery.message import MAXIMUM_ENTRIES

PATIENCE_SECONDS = 300


@dataclass(frozen=True)
class Event:
    """An event, what ran of it, and what the function answered.

    *failed* has the ids of the tasks that the answer names, *should_fail* of those that raised
    and have an attempt left.
    """

    records: int
    event_bytes: int
    answer_bytes: int
    seconds: float
    failed: frozenset[str]
    should_fail: frozenset[str]
    runs: list[Run]
    peak_bytes: int
    error: str | None

    @property
    def is_exact(self) -> bool:
        """Whether the answer names what it should, and nothing else."""
        return self.error is None and self.failed == self.should_fail


def smallest_body(task_name: str, number: int) -> str:
    """Return the smallest message that calls a task: a producer in another language may write it.

    Celery's own have what monitoring and canvas ask for, and are ten times as big.
    """
    message = {
        "body": json.dumps([[number], {}, {}], separators=(",", ":")),
        "content-type": "application/json",
        "headers": {"task": task_name, "id": str(number)},
        "properties": {"body_encoding": "utf-8"},
    }
    return json.dumps(message, separators=(",", ":"))


def send(sqs: Any, queue_url: str, bodies: Iterable[str]) -> None:
    """Send messages, ten a request."""
    left = iter(bodies)
    while some := list(islice(left, MAXIMUM_ENTRIES)):
        entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(some)]
        sqs.send_message_batch(QueueUrl=queue_url, Entries=entries)


class Events:
    """Hands a queue's messages to a function, one event at a time, and keeps what came of each.

    :param max_receive_count: receives after which a message that fails is parked.
    """

    def __init__(
        self,
        sqs: Any,
        queue_url: str,
        function: LocalFunction,
        runs: RunLog,
        max_receive_count: int,
    ) -> None:
        self._sqs = sqs
        self._queue_url = queue_url
        self._function = function
        self._runs = runs
        self._seen = len(runs.read())
        self._max_receive_count = max_receive_count
        self._changed = threading.Condition()
        self._tasks: set[str] = set()
        self.all: list[Event] = []

    @contextmanager
    def gathering(self, batch_size: int, window_seconds: int) -> Iterator[EventSourceMapping]:
        """Have messages gathered in the block: so many, or for so long, or 6 MB."""
        config = EventSourceMappingConfig(batch_size, window_seconds, maximum_concurrency=1)
        with EventSourceMapping(
            self._queue_url, self._function, config, self._sqs, on_batch=self._note
        ) as mapping:
            yield mapping

    def wait_for(self, tasks: int) -> None:
        """Wait until so many *tasks* have been in an event that the function has answered to."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._tasks) >= tasks, PATIENCE_SECONDS):
                raise TimeoutError(f"{len(self._tasks)} of {tasks} tasks came: see the log.")

    def _note(self, report: BatchReport) -> None:
        runs = self._runs.read()[self._seen :]
        self._seen += len(runs)
        raised = {run.task_id for run in runs if run.how == ServiceError.__name__}
        records = report.event["Records"]
        tasks = {each["messageId"]: _task_id(each) for each in records}
        may_come_again = {
            tasks[each["messageId"]]
            for each in records
            if int(each["attributes"]["ApproximateReceiveCount"]) < self._max_receive_count
        }
        event = Event(
            records=len(records),
            event_bytes=EVENT_OVERHEAD_BYTES + sum(map(size_bytes, records)) - 1,
            answer_bytes=len(json.dumps(report.result.payload)),
            seconds=report.result.duration_seconds,
            failed=frozenset(tasks[each] for each in report.failed_message_ids),
            should_fail=frozenset(raised & may_come_again),
            runs=runs,
            peak_bytes=max(map(_peak_bytes, self._function.process_ids()), default=0),
            error=report.error,
        )
        with self._changed:
            self.all.append(event)
            self._tasks.update(tasks.values())
            self._changed.notify_all()


def _task_id(record: Mapping[str, Any]) -> str:
    return str(read_envelope(record["body"])["headers"]["id"])


def _peak_bytes(process_id: int) -> int:
    """Return the most memory that the process has had; 0 where the system does not tell."""
    try:
        status = Path(f"/proc/{process_id}/status").read_text()
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
