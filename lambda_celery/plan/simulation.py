"""The simulation: which batch starts when, on which environment.

Each batch starts at the latest of these times, and what made it wait is what limits:

    an environment is free again      the ramp opens a new one (cold start first)
    (its batch has ended, and a tenth
    of a second since it began)
              └───────────────┬───────────────┘
        EventBridge Scheduler has put the messages on the queue
        the pollers have fetched them
        the rate limit has a token, and the table takes the writes
                              │
              the window of the one batch that is not full
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from lambda_celery.message import MAXIMUM_DELAY_SECONDS
from lambda_celery.plan.drain import Drain, Point, WorkersDrain
from lambda_celery.plan.figures import figure
from lambda_celery.plan.limits import Limit, Limits
from lambda_celery.plan.model import Burst, Function, Workers

_CURVE_POINTS = 200
#: The rate limiter's: how long a task waits for its token inside the invocation, and how long one
#: waits on average that was sent on for longer than SQS can delay a message.
PATIENCE_SECONDS = 2.0
_LONG_DELAY_SECONDS = 675.0
#: A schedule fires at least so much earlier than its message is due.
SCHEDULE_LEAD_SECONDS = 60.0


class _Environments:
    """The execution environments: when the next place is free, and what it was waited for."""

    def __init__(self, burst: Burst, function: Function, limits: Limits) -> None:
        self._limits = limits
        self._cap, self._cap_limit = limits.cap(function)
        self._invocation_seconds = 1 / figure("environment_invocations_per_second")
        self._is_cpu_bound = function.is_cpu_bound(function.batch_size, burst)
        self.count = 0
        #: When each that exists is free, its number, and whether it had had to wait.
        self._warm: list[tuple[float, int, bool]] = []

    def place(self) -> tuple[float, Limit]:
        """Return when there is a place for a batch, and what says that there is none earlier."""
        opens = self._limits.opens_at(self.count) if self.count < self._cap else math.inf
        if self._warm and (freed := self._warm[0])[0] <= opens:
            if freed[2]:
                return freed[0], Limit.INVOCATION_RATE
            if self._is_cpu_bound:
                return freed[0], Limit.CPU
            return freed[0], self._cap_limit if self.count == self._cap else Limit.RAMP
        return opens, Limit.RAMP

    def take(self, now: float) -> tuple[int, bool]:
        """Return the number of the environment that takes a batch now, and whether it is new."""
        if self._warm and self._warm[0][0] <= now:
            return heapq.heappop(self._warm)[1], False
        self.count += 1
        return self.count, True

    def give_back(self, number: int, started: float, ended: float) -> None:
        """Note that the batch of environment *number* has *started* and *ended*."""
        allowed = started + self._invocation_seconds
        heapq.heappush(self._warm, (max(ended, allowed), number, allowed > ended))


class _Pace:
    """What lets no more than so many messages a second through.

    What is told by the second lets a second's worth through at once.
    """

    def __init__(
        self, limit: Limit, per_second: Callable[[float], float], at_once_seconds: float
    ) -> None:
        self.limit = limit
        self._per_second = per_second
        self._at_once_seconds = at_once_seconds
        self._even = 0.0

    @property
    def opens(self) -> float:
        """When it lets the next message through."""
        return self._even - self._at_once_seconds

    def passed(self, now: float, messages: int) -> None:
        self._even = max(now, self._even) + messages / self._per_second(now)


def _paces(burst: Burst, function: Function, limits: Limits) -> Iterator[_Pace]:
    if (pollers := limits.pollers) is not None:
        yield _Pace(Limit.POLLERS, lambda now: pollers.messages_per_second(now, burst, function), 1)
    if (tasks_per_second := limits.tasks_per_second) is not None:
        yield _Pace(Limit.RATE_LIMIT, lambda _: tasks_per_second, 0)
    by_writes = limits.table_writes_per_second / limits.writes_per_task
    yield _Pace(Limit.TABLE_WRITES, lambda _: by_writes, 1)


def _arrives(burst: Burst, message: int) -> float:
    """Return how late message number *message* is on the queue, counted from 0."""
    if not burst.is_scheduled:
        return 0.0
    fires = message / figure("scheduler_invocations_per_second")
    return max(0.0, fires - SCHEDULE_LEAD_SECONDS)


def simulate(burst: Burst, function: Function, limits: Limits) -> Drain:
    """Return how *burst* drains through the function.

    Raises:
        ConfigurationError: a batch takes longer than the function's time-out, or the limits
            leave no environment.
    """
    environments = _Environments(burst, function, limits)
    paces = list(_paces(burst, function, limits))
    limited: dict[Limit, float] = defaultdict(float)
    ends: list[tuple[float, int]] = []
    billed = now = 0.0
    left = burst.messages
    while left:
        size = min(left, function.batch_size)
        left -= size
        # Of several that end at the same time, the first is named.
        start, waited_for = environments.place()
        if (arrives := _arrives(burst, burst.messages - left - 1)) > start:
            start, waited_for = arrives, Limit.SCHEDULER
        for pace in paces:
            if pace.opens > start:
                start, waited_for = pace.opens, pace.limit
        limited[waited_for] += start - now
        now = start
        seconds = function.batch_seconds(size, burst)
        for pace in paces:
            pace.passed(now, size)
        if limits.tasks_per_second is not None:
            interval = 1 / limits.tasks_per_second
            # Its tasks take their tokens one by one; the environment waits, but not for long.
            paced = min(interval, PATIENCE_SECONDS + burst.duration_seconds)
            seconds = max(seconds, (size - 1) * paced + burst.duration_seconds)
        number, is_new = environments.take(now)
        if is_new:
            seconds += function.cold_start_seconds
        if size < function.batch_size and function.batch_window_seconds:
            limited[Limit.BATCH_ASSEMBLY] += function.batch_window_seconds
            now += function.batch_window_seconds
        environments.give_back(number, now, now + seconds)
        ends.append((now + seconds, size))
        billed += seconds
    ends.sort()
    total = ends[-1][0]
    limited[Limit.LAST_BATCHES] += total - now
    return Drain(
        seconds=total,
        invocations=len(ends),
        environments=environments.count,
        billed_seconds=billed,
        returns=_returns(burst, function, limits, total),
        limited_seconds={limit: seconds for limit, seconds in limited.items() if seconds > 0},
        curve=_curve(burst.messages, ends),
    )


def simulate_workers(burst: Burst, workers: Workers, limits: Limits) -> WorkersDrain:
    """Return how *burst* drains through *workers*, with the same database and rate limit."""
    processes = workers.count * workers.processes
    if limits.database_connections is not None:
        processes = min(processes, limits.database_connections)
    seconds = max(
        math.ceil(burst.messages / processes) * burst.duration_seconds,
        burst.messages * burst.cpu_seconds / (workers.count * workers.vcpu),
    )
    if limits.tasks_per_second is not None:
        last = (burst.messages - 1) / limits.tasks_per_second
        seconds = max(seconds, last + burst.duration_seconds)
    return WorkersDrain(seconds, processes, (Point(0, burst.messages), Point(seconds, 0)))


def _returns(burst: Burst, function: Function, limits: Limits, seconds: float) -> int:
    """Return how often messages are sent on, if *burst* drains in *seconds*."""
    if limits.tasks_per_second is None:
        return 0
    # The last message waits for as much longer as the rate limit prolongs the whole.
    longest = seconds - simulate(burst, function, replace(limits, tasks_per_second=None)).seconds
    returns = 0
    waited = PATIENCE_SECONDS
    while waited < longest:
        # The turns are evenly spread: this part of the messages waits for longer still.
        returns += round(burst.messages * (1 - waited / longest))
        longer = waited + _LONG_DELAY_SECONDS
        waited = MAXIMUM_DELAY_SECONDS if waited < MAXIMUM_DELAY_SECONDS else longer
    return returns


def _curve(messages: int, ends: Sequence[tuple[float, int]]) -> tuple[Point, ...]:
    step = math.ceil(len(ends) / _CURVE_POINTS)
    points = [Point(0.0, messages)]
    for index, (seconds, size) in enumerate(ends, start=1):
        messages -= size
        if index % step == 0 or index == len(ends):
            points.append(Point(seconds, messages))
    return tuple(points)


def messages_left(curve: Sequence[Point], seconds: float) -> int:
    """Return how many messages are left after *seconds*, between two points by a straight line."""
    for before, after in pairwise(curve):
        if seconds < after.seconds:
            share = (seconds - before.seconds) / (after.seconds - before.seconds)
            return round(
                before.messages_left + share * (after.messages_left - before.messages_left)
            )
    return curve[-1].messages_left
