"""The figures of tasks, from the metrics that the function writes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from lambda_celery.check.deployed.reading import Reader, Thing
from lambda_celery.status import metrics
from lambda_celery.status.figures import DURATION_BOUNDS_MS, TaskStatus, by_minute, latest
from lambda_celery.status.metrics import Metric, Points

#: Of so many there are figures, and of so many how long their runs took: CloudWatch bills each.
MAXIMUM_TASKS = 20
MAXIMUM_TASKS_WITH_DURATIONS = 5
_QUEUE, _TASK = "QueueName", "TaskName"
#: Whatever became of a task's message, it was received.
_RECEIVED = "MessagesReceived"
_COUNTS = ("TasksSucceeded", "TasksFailed", "TasksRetried")
_DURATION = "TaskDuration"
#: Five hundred metrics are on a page.
_MAXIMUM_PAGES = 4
_EDGES = ("", *map(str, DURATION_BOUNDS_MS), "")
#: How many runs took longer than the one, and not longer than the other.
_BUCKETS = tuple(f"TC({lower}:{upper})" for lower, upper in pairwise(_EDGES))

#: SQS's name of a queue, and a task's name.
Pair = tuple[str, str]


def busiest(
    reader: Reader, namespace: str, queues: Collection[str], start: datetime, end: datetime
) -> tuple[Sequence[Pair], int]:
    """Return the tasks of *queues* with the most messages since *start*, and how many more ran.

    What cannot be read is noted by *reader*.
    """
    found = list(dict.fromkeys(_listed(reader, namespace, queues)))
    if len(found) <= MAXIMUM_TASKS:
        return found, 0
    received = [_metric(namespace, _RECEIVED, each) for each in found]
    points = metrics.read(reader, received, start, end, 3600)
    found.sort(
        key=lambda each: sum(v for _, v in points.get(_metric(namespace, _RECEIVED, each), [])),
        reverse=True,
    )
    return found[:MAXIMUM_TASKS], len(found) - MAXIMUM_TASKS


def _listed(reader: Reader, namespace: str, queues: Collection[str]) -> Iterator[Pair]:
    """Yield the tasks of *queues* that CloudWatch has heard of in the last three hours."""
    token: dict[str, Any] = {}
    for _ in range(_MAXIMUM_PAGES):
        answer = reader.look(
            "cloudwatch",
            "list_metrics",
            Thing(f"metrics of the name space {namespace}", namespace, "metrics_namespace"),
            "cloudwatch:ListMetrics",
            Namespace=namespace,
            MetricName=_RECEIVED,
            Dimensions=[{"Name": _QUEUE}, {"Name": _TASK}],
            RecentlyActive="PT3H",
            **token,
        )
        if answer is None:
            return
        for each in answer.said.get("Metrics", []):
            names = {d["Name"]: d["Value"] for d in each["Dimensions"]}
            if names.keys() == {_QUEUE, _TASK} and names[_QUEUE] in queues:
                yield names[_QUEUE], names[_TASK]
        if not (following := answer.said.get("NextToken")):
            return
        token = {"NextToken": following}


def wanted(namespace: str, pairs: Sequence[Pair]) -> Iterator[Metric]:
    """Yield the metrics of the tasks *pairs*, but for the durations of single runs."""
    for each in pairs:
        for name in _COUNTS:
            yield _metric(namespace, name, each)
        yield _metric(namespace, _DURATION, each, "Average")


def durations(namespace: str, pairs: Sequence[Pair]) -> Iterator[Metric]:
    """Yield what tells how long the runs of the first of *pairs* took."""
    for each in pairs[:MAXIMUM_TASKS_WITH_DURATIONS]:
        for bucket in _BUCKETS:
            yield _metric(namespace, _DURATION, each, bucket)


def statuses(
    namespace: str,
    pairs: Sequence[Pair],
    points: Mapping[Metric, Points],
    now: float,
    minutes: int,
) -> Iterator[TaskStatus]:
    """Yield the figures of the tasks *pairs*, as *points* tell them."""

    def counts(pair: Pair, name: str, statistic: str = "Sum") -> tuple[float, ...]:
        found = points.get(_metric(namespace, name, pair, statistic))
        if found is None:
            return ()
        return by_minute(found, now, minutes) or (0.0,) * minutes

    for each in pairs:
        queue, name = each
        succeeded, failed, retried = (counts(each, metric) for metric in _COUNTS)
        buckets = [counts(each, _DURATION, bucket) for bucket in _BUCKETS]
        mean = points.get(_metric(namespace, _DURATION, each, "Average"), [])
        yield TaskStatus(
            name,
            queue,
            succeeded,
            failed,
            retried,
            duration_ms=latest(mean),
            durations=tuple(zip(*buckets, strict=True)) if all(buckets) else (),
        )


def _metric(namespace: str, name: str, pair: Pair, statistic: str = "Sum") -> Metric:
    queue, task = pair
    return Metric(namespace, name, ((_QUEUE, queue), (_TASK, task)), statistic)
