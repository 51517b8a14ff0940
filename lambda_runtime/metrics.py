"""Metrics of the runtime, in CloudWatch's embedded metric format: log lines that it reads.

They are worked out from the deliveries' notes when the invocation is through: a line for each
queue, and one for each task of a queue. Powertools makes the lines, by a provider of its own: what
an app measures by Powertools is not mixed with this.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import (
    AmazonCloudWatchEMFProvider,
)

from lambda_runtime.messages.delivery import Delivery
from lambda_runtime.messages.note import Fate
from lambda_runtime.messages.outcome import End

QUEUE = "QueueName"
TASK = "TaskName"
#: How many tasks of a process have metrics of their own; and whose name the others have.
MAXIMUM_TASKS = 100
OTHER_TASKS = "(other tasks)"
#: The name space of what is not for CloudWatch.
_NOWHERE = "LambdaCeleryLocal"
#: How many values a metric may have in one line, and how many characters a dimension.
_MAXIMUM_VALUES = 100
_MAXIMUM_CHARACTERS = 1024
#: How many sorts of lines are kept ready.
_MAXIMUM_FRAMES = 1000

UNITS: Mapping[str, MetricUnit] = {
    "MessagesReceived": MetricUnit.Count,
    "MessagesReturned": MetricUnit.Count,
    "MessagesForwarded": MetricUnit.Count,
    "MessagesParked": MetricUnit.Count,
    "DuplicatesDropped": MetricUnit.Count,
    "TasksSucceeded": MetricUnit.Count,
    "TasksFailed": MetricUnit.Count,
    "TasksRetried": MetricUnit.Count,
    "TasksIgnored": MetricUnit.Count,
    "TasksExpired": MetricUnit.Count,
    "TasksRevoked": MetricUnit.Count,
    "TaskDuration": MetricUnit.Milliseconds,
    "QueueLatency": MetricUnit.Milliseconds,
    "IdempotencyDuration": MetricUnit.Milliseconds,
    "OldestMessageAge": MetricUnit.Seconds,
    "BatchSize": MetricUnit.Count,
    "ColdStarts": MetricUnit.Count,
}
_OF_END = {
    End.SUCCEEDED: "TasksSucceeded",
    End.FAILED: "TasksFailed",
    End.RETRIED: "TasksRetried",
    End.IGNORED: "TasksIgnored",
    End.DUPLICATE: "DuplicatesDropped",
    End.EXPIRED: "TasksExpired",
    End.REVOKED: "TasksRevoked",
}
_OF_FATE = {
    Fate.RETURNED: "MessagesReturned",
    Fate.FORWARDED: "MessagesForwarded",
    Fate.PARKED: "MessagesParked",
}


class SupportsLines(Protocol):
    """What metrics are written to."""

    def write(self, text: str, /) -> object:
        """Write *text*."""

    def flush(self) -> object:
        """Have what was written leave the process."""


class _Figures:
    """What there is to tell of a queue, or of a task on it."""

    def __init__(self) -> None:
        self.counts: dict[str, float] = {}
        #: In milliseconds, for their arrays.
        self.durations: list[float] = []
        self.latencies: list[float] = []
        self.asked: list[float] = []

    def count(self, name: str) -> None:
        """Add one to the metric *name*."""
        self.counts[name] = self.counts.get(name, 0) + 1

    def add(self, delivery: Delivery, received_at: float) -> None:
        """Add what the note of *delivery* says."""
        note = delivery.note
        self.count("MessagesReceived")
        if note.end is not None:
            self.count(_OF_END[note.end])
        if note.fate is not Fate.DELETED:
            self.count(_OF_FATE[note.fate])
        since = delivery.sent_at
        if note.since is not None and note.since > since:
            since = note.since
        if since:
            age = max(0, received_at - since)
            if age > self.counts.get("OldestMessageAge", -1):
                self.counts["OldestMessageAge"] = round(age, 3)
            if note.began_at is not None:
                self.latencies.append(max(0, _milliseconds(note.began_at - since)))
        if note.run_seconds is not None:
            self.durations.append(_milliseconds(note.run_seconds))
        if note.table_seconds is not None:
            self.asked.append(_milliseconds(note.table_seconds))

    def metrics(self) -> Iterator[dict[str, list[float]]]:
        """Yield the values of each line."""
        metrics: dict[str, list[float]] = {name: [number] for name, number in self.counts.items()}
        arrays = {
            "TaskDuration": self.durations,
            "QueueLatency": self.latencies,
            "IdempotencyDuration": self.asked,
        }
        start = 0
        while metrics or any(arrays.values()):
            for name, values in arrays.items():
                if part := values[start : start + _MAXIMUM_VALUES]:
                    metrics[name] = part
            yield metrics
            start += _MAXIMUM_VALUES
            metrics = {}
            arrays = {name: each for name, each in arrays.items() if len(each) > start}


def _milliseconds(seconds: float) -> float:
    # To a hundredth of one: to round costs more than all else here.
    return int(seconds * 100_000) / 100


def _dimension(name: str) -> str:
    """Return *name* as CloudWatch takes it: with another, it takes nothing of the line.

    Of a dimension's value it takes 1,024 characters of ASCII, none of them a control character,
    and not spaces alone.
    """
    plain = name.encode("ascii", "backslashreplace").decode()
    if not plain.isprintable():
        plain = "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in plain)
    return plain[:_MAXIMUM_CHARACTERS] if plain.strip() else "(no name)"


class Metrics:
    """Writes the metrics of one process.

    To *streams* that are kept: a task may put something in the place of ``sys.stdout``.

    :param namespace: CloudWatch's; "" if none of the streams leads there.
    """

    def __init__(self, namespace: str, *streams: SupportsLines) -> None:
        self._emf = AmazonCloudWatchEMFProvider(namespace=namespace or _NOWHERE)
        self._streams = streams
        self._tasks: dict[str, str] = {}
        self._has_been_invoked = False
        #: What is around the time and the values in a line of a queue, a task and these metrics.
        self._frames: dict[tuple[str, str | None, tuple[str, ...]], tuple[str, str]] = {}

    def write(self, deliveries: Iterable[Delivery], received_at: float) -> None:
        """Write what the notes of one invocation's *deliveries* say.

        :param received_at: when the invocation began, in seconds since the epoch.
        """
        figures: dict[tuple[str, str | None], _Figures] = {}
        for delivery in deliveries:
            arn = delivery.source_arn
            if (of_queue := figures.get((arn, None))) is None:
                of_queue = figures[arn, None] = _Figures()
            of_queue.count("BatchSize")
            if not self._has_been_invoked:
                self._has_been_invoked = True
                of_queue.count("ColdStarts")
            task = self._bounded(delivery.note.task)
            if (of_task := figures.get((arn, task))) is None:
                of_task = figures[arn, task] = _Figures()
            of_task.add(delivery, received_at)
        now = int(time.time() * 1000)
        lines = [
            self._line(arn.rpartition(":")[2] or "unknown", task, metrics, now)
            for (arn, task), each in figures.items()
            for metrics in each.metrics()
        ]
        for stream in self._streams:
            stream.write("".join(lines))
            stream.flush()

    def _bounded(self, task: str | None) -> str | None:
        """Return what *task* is called, or the name that stands for all that are too many."""
        if task is None:
            return None
        if (known := self._tasks.get(task)) is not None:
            return known
        if len(self._tasks) >= MAXIMUM_TASKS:
            return OTHER_TASKS
        self._tasks[task] = name = _dimension(task)
        return name

    def _line(
        self, queue: str, task: str | None, metrics: Mapping[str, list[float]], now: int
    ) -> str:
        key = queue, task, tuple(metrics)
        if (frame := self._frames.get(key)) is None:
            if len(self._frames) >= _MAXIMUM_FRAMES:
                self._frames.clear()
            frame = self._frames[key] = self._frame(*key)
        before, after = frame
        # Python writes a list of numbers as JSON does.
        values = ",".join([f'"{name}":{each}' for name, each in metrics.items()])
        return f"{before}{now}{after},{values}}}\n"

    def _frame(self, queue: str, task: str | None, names: tuple[str, ...]) -> tuple[str, str]:
        """Return what Powertools writes before the time of such a line, and after it.

        But for the values: it would take longer for each line than all else here.
        """
        line: dict[str, Any] = {
            **self._emf.serialize_metric_set(
                metrics={name: {"Unit": UNITS[name].value, "Value": 0} for name in names},
                dimensions={QUEUE: queue, **({TASK: task} if task else {})},
                metadata={},
            )
        }
        # The queue's own figures are those of its tasks, together.
        [directive] = line["_aws"]["CloudWatchMetrics"]
        directive["Dimensions"] = [[QUEUE], *([[QUEUE, TASK]] if task else [])]
        kept = {name: each for name, each in line.items() if name not in names}
        text = json.dumps(kept, separators=(",", ":"))
        before, _, after = text.partition(str(line["_aws"]["Timestamp"]))
        return before, after.removesuffix("}")
