"""CloudWatch's figures: which there are of queues and functions, and reading them at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from lambda_celery.check.deployed.reading import Reader, Thing

#: What GetMetricData takes in one request.
_MAXIMUM_QUERIES = 500
_THING = Thing("metrics of CloudWatch", "*")


class Metric(NamedTuple):
    """A metric of one queue, function or task, and the statistic of it that is asked for.

    :ivar dimensions: name and value of each.
    """

    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]
    statistic: str


#: Seconds since 1970, and the value.
Points = Sequence[tuple[float, float]]


def of_queue(name: str, metric: str) -> Metric:
    """Return SQS's *metric* of the queue *name*."""
    return Metric("AWS/SQS", metric, (("QueueName", name),), "Maximum")


def of_function(name: str, metric: str, statistic: str = "Sum") -> Metric:
    """Return Lambda's *metric* of the function *name*, with all its versions."""
    return Metric("AWS/Lambda", metric, (("FunctionName", name),), statistic)


def read(
    reader: Reader, metrics: Iterable[Metric], start: datetime, end: datetime, period_seconds: int
) -> Mapping[Metric, Points]:
    """Return the points of *metrics*, in one request for all of them.

    What cannot be read is left out, and noted by *reader*.
    """
    wanted = list(dict.fromkeys(metrics))
    found: dict[Metric, Points] = {}
    for first in range(0, len(wanted), _MAXIMUM_QUERIES):
        part = wanted[first : first + _MAXIMUM_QUERIES]
        answer = reader.look(
            "cloudwatch",
            "get_metric_data",
            _THING,
            "cloudwatch:GetMetricData",
            MetricDataQueries=[_query(n, each, period_seconds) for n, each in enumerate(part)],
            StartTime=start,
            EndTime=end,
        )
        for each in answer.said.get("MetricDataResults", []) if answer is not None else []:
            times = (time.timestamp() for time in each["Timestamps"])
            found[part[int(each["Id"][1:])]] = list(zip(times, each["Values"], strict=True))
    return found


def _query(number: int, metric: Metric, period_seconds: int) -> dict[str, Any]:
    return {
        "Id": f"m{number}",
        "MetricStat": {
            "Metric": {
                "Namespace": metric.namespace,
                "MetricName": metric.name,
                "Dimensions": [{"Name": n, "Value": v} for n, v in metric.dimensions],
            },
            "Period": period_seconds,
            "Stat": metric.statistic,
        },
    }
