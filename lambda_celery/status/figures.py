"""The figures of one look, and what is computed of them. Nothing here asks AWS."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

#: The last minutes, by which the time to drain is told.
TREND_SECONDS = 300
#: What is written for what is not known.
NOTHING = "-"
#: In milliseconds: how long runs take is told by how many took so long at most. The last of all is
#: above these.
DURATION_BOUNDS_MS = (10, 50, 100, 500, 1_000, 5_000, 30_000)
#: Fewer messages an hour than one are no trend.
_SMALLEST_TREND = 1 / 3600


class Sample(NamedTuple):
    """How many messages waited on a queue at a time, in seconds since 1970."""

    time: float
    waiting: float


@dataclass(frozen=True)
class MappingStatus:
    """An event source mapping.

    :ivar state: Lambda's word for it, such as ``Enabled``.
    :ivar function: the function's name, with the alias or version that the mapping names.
    :ivar maximum_concurrency: invocations at the same time at most; ``None`` if none is set.
    """

    uuid: str
    state: str
    function: str
    maximum_concurrency: int | None


@dataclass(frozen=True)
class QueueStatus:
    """A queue. What could not be read is ``None``.

    :ivar name: Celery's name of it, or SQS's where Celery has none.
    :ivar parked: messages on its dead-letter queue.
    :ivar oldest_seconds: the age of the oldest message.
    :ivar trend_per_minute: by how many the waiting messages grow.
    :ivar drain_seconds: how long it takes by this trend until none waits.
    :ivar waiting_by_minute: how many waited, minute by minute; the last is the latest.
    """

    name: str
    sqs_name: str
    waiting: int | None = None
    in_flight: int | None = None
    delayed: int | None = None
    parked: int | None = None
    oldest_seconds: float | None = None
    trend_per_minute: float | None = None
    drain_seconds: float | None = None
    waiting_by_minute: tuple[float, ...] = ()
    mappings: tuple[MappingStatus, ...] = ()


@dataclass(frozen=True)
class FunctionStatus:
    """A function. What could not be read is ``None``, or empty.

    The counts are by minute, of the last hour; the last is the latest.

    :ivar duration_ms: the mean of the latest minute in which it ran.
    :ivar duration_maximum_ms: the longest of the last hour.
    :ivar concurrent: the most at the same time in the latest minute that is known.
    :ivar usd_today: what Lambda has cost since midnight, UTC.
    """

    name: str
    memory_mb: int | None = None
    invocations: tuple[float, ...] = ()
    errors: tuple[float, ...] = ()
    throttles: tuple[float, ...] = ()
    duration_ms: float | None = None
    duration_maximum_ms: float | None = None
    concurrent: float | None = None
    usd_today: float | None = None


@dataclass(frozen=True)
class TaskStatus:
    """A task on one queue. What could not be read is ``None``, or empty.

    The counts are by minute, of the last hour; the last is the latest.

    :ivar queue: SQS's name of the queue.
    :ivar duration_ms: the mean of the latest minute in which it ran.
    :ivar durations: by minute, and then by :data:`DURATION_BOUNDS_MS`, how many runs took so long;
        the last of a minute are those above all bounds.
    """

    name: str
    queue: str
    succeeded: tuple[float, ...] = ()
    failed: tuple[float, ...] = ()
    retried: tuple[float, ...] = ()
    duration_ms: float | None = None
    durations: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class Deployment:
    """When a function became another one.

    :ivar version: ``$LATEST`` where no version was published.
    """

    time: datetime
    function: str
    version: str


@dataclass(frozen=True)
class Status:
    """All figures of one look.

    :ivar left_out: a sentence for each thing that could not be read.
    :ivar started: the first minute of what is told by minute; ``None`` if nothing is.
    """

    time: datetime
    queues: tuple[QueueStatus, ...]
    functions: tuple[FunctionStatus, ...]
    left_out: tuple[str, ...] = field(default=())
    tasks: tuple[TaskStatus, ...] = field(default=())
    deployments: tuple[Deployment, ...] = field(default=())
    started: datetime | None = field(default=None)

    @property
    def is_blind(self) -> bool:
        """Whether not one figure of a queue or a function could be read."""
        seen = any(each.waiting is not None or each.mappings for each in self.queues)
        return not seen and not self.functions

    def as_json(self) -> dict[str, Any]:
        """Return the figures as one JSON object."""
        return {
            **asdict(self),
            "time": _iso(self.time),
            "started": _iso(self.started) if self.started else None,
            "deployments": [{**asdict(e), "time": _iso(e.time)} for e in self.deployments],
            "duration_bounds_ms": list(DURATION_BOUNDS_MS),
        }


def _iso(time: datetime) -> str:
    return time.isoformat(timespec="seconds")


def trend_per_second(samples: Iterable[Sample]) -> float | None:
    """Return by how many the waiting messages grow in a second: the slope of the straight line.

    ``None`` if fewer than two samples are of the last :data:`TREND_SECONDS`.
    """
    ordered = sorted(samples)
    recent = [each for each in ordered if each.time >= ordered[-1].time - TREND_SECONDS]
    if len({each.time for each in recent}) < 2:
        return None
    mean_time = sum(each.time for each in recent) / len(recent)
    mean_waiting = sum(each.waiting for each in recent) / len(recent)
    spread = sum((each.time - mean_time) ** 2 for each in recent)
    return sum((each.time - mean_time) * (each.waiting - mean_waiting) for each in recent) / spread


def seconds_to_drain(waiting: float, trend: float | None) -> float | None:
    """Return how long it takes until none waits; ``None`` where they do not become fewer.

    :param trend: by how many they grow in a second.
    """
    if waiting == 0:
        return 0.0
    if trend is None or trend > -_SMALLEST_TREND:
        return None
    return waiting / -trend


def by_minute(points: Iterable[tuple[float, float]], now: float, minutes: int) -> tuple[float, ...]:
    """Return the values of *points* (seconds since 1970, value), one a minute, up to *now*.

    A minute without a point is 0: CloudWatch has none where nothing happened. No points at all
    are no minutes.
    """
    found = {int(time // 60): value for time, value in points}
    if not found:
        return ()
    last = int(now // 60)
    return tuple(found.get(minute, 0.0) for minute in range(last - minutes, last))


def latest(values: Sequence[tuple[float, float]]) -> float | None:
    """Return the value of the latest of *values* (seconds since 1970, value)."""
    return max(values)[1] if values else None


def span(seconds: float | None) -> str:
    """Return *seconds* as people say them: in the largest unit, and the next one."""
    if seconds is None:
        return NOTHING
    whole = round(seconds)
    for size, unit, small_size, small in (
        (86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"),
    ):  # fmt: skip
        if whole >= size:
            rest = whole % size // small_size
            return f"{whole // size} {unit}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"
