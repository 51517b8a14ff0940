"""Metrics of the runtime, in CloudWatch's embedded metric format: log lines that it reads.

They are worked out from the deliveries' notes when the invocation is through: a line for each
queue, and one for each task of a queue. Powertools makes the lines, by a provider of its own: what
an app measures by Powertools is not mixed with this.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

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
#: How many values a metric may have in one line.
_MAXIMUM_VALUES = 100

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
        values = {
            "TaskDuration": self.durations,
            "QueueLatency": self.latencies,
            "IdempotencyDuration": self.asked,
        }
        first: dict[str, list[float]] = {name: [number] for name, number in self.counts.items()}
        for start in range(0, max(1, *map(len, values.values())), _MAXIMUM_VALUES):
            parts = {name: all_[start : start + _MAXIMUM_VALUES] for name, all_ in values.items()}
            yield first | {name: part for name, part in parts.items() if part}
            first = {}


def _milliseconds(seconds: float) -> float:
    # To a hundredth of one: to round costs more than all else here.
    return int(seconds * 100_000) / 100


class Metrics:
    """Writes the metrics of one process to its standard output."""

    def __init__(self, namespace: str) -> None:
        self._emf = AmazonCloudWatchEMFProvider(namespace=namespace)
        self._tasks: set[str] = set()
        self._has_been_invoked = False

    def write(self, deliveries: Iterable[Delivery], received_at: float) -> None:
        """Write what the notes of one invocation's *deliveries* say.

        :param received_at: when the invocation began, in seconds since the epoch.
        """
        figures: dict[tuple[str, str | None], _Figures] = {}
        for delivery in deliveries:
            queue = delivery.source_arn.rpartition(":")[2] or "unknown"
            if (of_queue := figures.get((queue, None))) is None:
                of_queue = figures[queue, None] = _Figures()
            of_queue.count("BatchSize")
            if not self._has_been_invoked:
                self._has_been_invoked = True
                of_queue.count("ColdStarts")
            task = self._bounded(delivery.note.task)
            if (of_task := figures.get((queue, task))) is None:
                of_task = figures[queue, task] = _Figures()
            of_task.add(delivery, received_at)
        lines = [
            json.dumps(self._line(queue, task, metrics), separators=(",", ":")) + "\n"
            for (queue, task), each in figures.items()
            for metrics in each.metrics()
        ]
        sys.stdout.write("".join(lines))
        sys.stdout.flush()

    def _bounded(self, task: str | None) -> str | None:
        """Return *task*, or the name that stands for all that are too many."""
        if task is None or task in self._tasks:
            return task
        if len(self._tasks) >= MAXIMUM_TASKS:
            return OTHER_TASKS
        self._tasks.add(task)
        return task

    def _line(
        self, queue: str, task: str | None, metrics: Mapping[str, list[float]]
    ) -> dict[str, Any]:
        dimensions = {QUEUE: queue, **({TASK: task} if task else {})}
        line: dict[str, Any] = {
            **self._emf.serialize_metric_set(
                metrics={n: {"Unit": UNITS[n].value, "Value": v} for n, v in metrics.items()},
                dimensions=dimensions,
                metadata={},
            )
        }
        # The queue's own figures are those of its tasks, together.
        [directive] = line["_aws"]["CloudWatchMetrics"]
        directive["Dimensions"] = [[QUEUE], *([[QUEUE, TASK]] if task else [])]
        return line
