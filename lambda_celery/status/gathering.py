"""Gathering the figures of one look from SQS, Lambda and CloudWatch.

Queues, mappings and functions are found as the check of what is deployed finds them.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from celery import Celery

from lambda_celery.check.deployed.deployment import Deployed, Function, Queue
from lambda_celery.conf import Settings, setting_names, settings_of
from lambda_celery.exceptions import ConfigurationError
from lambda_celery.plan.cost import lambda_items
from lambda_celery.status import metrics, tasks
from lambda_celery.status.figures import (
    Deployment,
    FunctionStatus,
    MappingStatus,
    Status,
    by_minute,
    latest,
)
from lambda_celery.status.metrics import Metric, Points
from lambda_celery.status.queues import Queues, look, unseen

#: What is drawn.
MINUTES = 60
#: To choose among tasks asks CloudWatch for one figure of each of them, which it bills: so long it
#: is what it was.
_CHOSEN_MINUTES = 10
_WAITING = "ApproximateNumberOfMessagesVisible"
_OLDEST = "ApproximateAgeOfOldestMessage"


@dataclass
class _Measured:
    """What CloudWatch said in a minute: it has no newer figures before the next one."""

    minute: int
    wanted: frozenset[Metric]
    pairs: Sequence[tasks.Pair]
    last_hour: Mapping[Metric, Points]
    today: Mapping[Metric, Points]
    left_out: list[str]

    def of_queue(self, queue: Queue | None, metric: str) -> Points:
        """Return what there is of the last hour."""
        return self.last_hour.get(metrics.of_queue(queue.name, metric), []) if queue else []


@dataclass(frozen=True)
class _Chosen:
    """The tasks with the most messages, of more than are shown."""

    until: datetime
    queues: frozenset[str]
    pairs: Sequence[tasks.Pair]
    others: int


@dataclass
class Gatherer:
    """Looks again and again; what it has seen of the queues before makes the trend.

    :ivar has_durations: whether to ask how long single runs of the busiest tasks took: that is
        twice as many metrics.
    :raises ConfigurationError: the settings name no queue.
    """

    app: Celery
    has_durations: bool = False
    settings: Settings = field(init=False)
    _queues: Queues = field(init=False)
    _measured: _Measured | None = field(default=None, init=False)
    _chosen: _Chosen | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.settings = settings_of(self.app)
        if not self.settings.queue_urls:
            raise ConfigurationError(
                f"The settings name no queue: set {setting_names('queue_url')}."
            )
        self._queues = Queues(self.settings)

    def gather(self) -> Status:
        """Return the figures as they are now. What cannot be read is left out in a sentence."""
        deployed = Deployed(self.app, self.settings)
        now = time.time()
        left_out: list[str] = []
        queues: list[tuple[str, Queue | None]] = []
        functions: dict[str, Function | None] = {}
        mappings: dict[str, tuple[MappingStatus, ...]] = {}
        for url, thing in deployed.queue_things():
            queue = look(deployed, url, thing, left_out)
            queues.append((url, queue))
            if queue is not None:
                found = deployed.mappings_of(queue)
                mappings[url] = tuple(_mapping(each.said) for each in found or ())
                if found == []:
                    left_out.append(f"No event source mapping takes from the queue {queue.name}.")
                for mapping in found or ():
                    # CloudWatch knows it by its name alone.
                    name = str(mapping.said["FunctionArn"]).split(":")[6]
                    functions[name] = functions.get(name) or deployed.function_of(mapping)
        left_out += unseen(deployed)
        measured = self._measure(deployed, [q for _, q in queues if q], functions, now)
        made = tuple(
            self._queues.status(
                deployed,
                url,
                queue,
                now,
                samples=measured.of_queue(queue, _WAITING),
                oldest_seconds=latest(measured.of_queue(queue, _OLDEST)),
                waiting_by_minute=by_minute(measured.of_queue(queue, _WAITING), now, MINUTES),
                mappings=mappings.get(url, ()),
            )
            for url, queue in queues
        )
        left_out += unseen(deployed)  # of dead-letter queues
        time_ = datetime.fromtimestamp(now, UTC)
        namespace = self.settings.metrics_namespace
        return Status(
            time_,
            made,
            tuple(_function_status(*each, measured, now) for each in functions.items()),
            tuple(dict.fromkeys([*left_out, *measured.left_out])),
            tasks=tuple(
                tasks.statuses(namespace, measured.pairs, measured.last_hour, now, MINUTES)
            ),
            deployments=tuple(_deployments(functions.values())),
            started=_first_minute(time_),
        )

    def _measure(
        self,
        deployed: Deployed,
        queues: list[Queue],
        functions: Collection[str],
        now: float,
    ) -> _Measured:
        wanted = [
            *(metrics.of_queue(q.name, each) for q in queues for each in (_WAITING, _OLDEST)),
            *(each for name in functions for each in _metrics_of_function(name)),
        ]
        minute = int(now // 60)
        known = self._measured
        names = {each.name for each in queues}
        if known and known.minute == minute and known.wanted == frozenset(wanted):
            return known
        left_out: list[str] = []
        end = datetime.fromtimestamp(now, UTC)
        midnight = end.replace(hour=0, minute=0, second=0, microsecond=0)
        last_hour: dict[Metric, Points] = {}
        pairs: Sequence[tasks.Pair] = ()
        today: Mapping[Metric, Points] = {}
        if wanted:
            start = _first_minute(end)
            pairs = self._busiest_tasks(deployed, names, start, end, left_out)
            namespace = self.settings.metrics_namespace
            of_tasks = tasks.wanted(namespace, pairs)
            last_hour |= metrics.read(deployed.reader, [*wanted, *of_tasks], start, end, 60)
            if self.has_durations and last_hour:
                # By themselves: what plays AWS may not know the statistic.
                durations = tasks.durations(namespace, pairs)
                last_hour |= metrics.read(deployed.reader, durations, start, end, 60)
            # One range of time a request: the day's sums are another one.
            sums = [each for name in functions for each in _billed(name)]
            if sums and last_hour:
                today = metrics.read(deployed.reader, sums, midnight, end, 3600)
            if refused := unseen(deployed):
                left_out += refused
            elif not any(last_hour.values()):
                left_out.append("CloudWatch has no figures of the last hour.")
        self._measured = _Measured(minute, frozenset(wanted), pairs, last_hour, today, left_out)
        return self._measured

    def _busiest_tasks(
        self,
        deployed: Deployed,
        queues: Collection[str],
        start: datetime,
        end: datetime,
        left_out: list[str],
    ) -> Sequence[tasks.Pair]:
        namespace = self.settings.metrics_namespace
        if not namespace:
            left_out.append(
                f"There are no figures by task: {setting_names('metrics_namespace')} is off."
            )
            return ()
        known = self._chosen
        if known and known.queues == frozenset(queues) and end < known.until:
            pairs, others = known.pairs, known.others
        else:
            pairs, others = tasks.busiest(deployed.reader, namespace, queues, start, end)
            until = end + timedelta(minutes=_CHOSEN_MINUTES)
            chosen = _Chosen(until, frozenset(queues), pairs, others)
            self._chosen = chosen if others else None
        if others:
            left_out.append(
                f"{others} more tasks have run: the {len(pairs)} with the most messages are shown."
            )
        return pairs


def _first_minute(now: datetime) -> datetime:
    return now.replace(second=0, microsecond=0) - timedelta(minutes=MINUTES)


def _deployments(functions: Iterable[Function | None]) -> Iterator[Deployment]:
    for each in functions:
        if each is not None and (modified := each.configuration.get("LastModified")):
            time_ = datetime.fromisoformat(modified).astimezone(UTC)
            yield Deployment(time_, each.name, each.configuration.get("Version", "$LATEST"))


def _mapping(said: Mapping[str, object]) -> MappingStatus:
    scaling = said.get("ScalingConfig") or {}
    assert isinstance(scaling, Mapping)
    return MappingStatus(
        str(said["UUID"]),
        str(said.get("State", "unknown")),
        str(said["FunctionArn"]).split(":", 6)[-1],
        scaling.get("MaximumConcurrency"),
    )


def _billed(name: str) -> tuple[Metric, Metric]:
    return metrics.of_function(name, "Invocations"), metrics.of_function(name, "Duration")


def _metrics_of_function(name: str) -> Iterator[Metric]:
    for each in ("Invocations", "Errors", "Throttles"):
        yield metrics.of_function(name, each)
    yield metrics.of_function(name, "Duration", "Average")
    yield metrics.of_function(name, "Duration", "Maximum")
    yield metrics.of_function(name, "ConcurrentExecutions", "Maximum")


def _function_status(
    name: str, function: Function | None, measured: _Measured, now: float
) -> FunctionStatus:
    hour = measured.last_hour

    def counts(metric: str) -> tuple[float, ...]:
        return by_minute(hour.get(metrics.of_function(name, metric), []), now, MINUTES)

    def points(metric: str, statistic: str) -> Points:
        return hour.get(metrics.of_function(name, metric, statistic), [])

    longest = [value for _, value in points("Duration", "Maximum")]
    return FunctionStatus(
        name,
        memory_mb=int(function.configuration["MemorySize"]) if function else None,
        invocations=counts("Invocations"),
        errors=counts("Errors"),
        throttles=counts("Throttles"),
        duration_ms=latest(points("Duration", "Average")),
        duration_maximum_ms=max(longest, default=None),
        concurrent=latest(points("ConcurrentExecutions", "Maximum")),
        usd_today=_usd_today(function, measured) if function else None,
    )


def _usd_today(function: Function, measured: _Measured) -> float | None:
    invocations, milliseconds = (measured.today.get(e, []) for e in _billed(function.name))
    if not invocations:
        return None
    [architecture] = function.configuration.get("Architectures") or ["x86_64"]
    items = lambda_items(
        sum(value for _, value in invocations),
        sum(value for _, value in milliseconds) / 1000,
        int(function.configuration["MemorySize"]),
        architecture,
    )
    return sum(each.usd for each in items)
