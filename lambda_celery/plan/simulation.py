"""The simulation: which batch starts when, on which environment.

Each batch starts at the earliest of these times, and what made it wait is what limits:

    an environment ends its batch     the ramp opens a new one (cold start first)
              └───────────────┬───────────────┘
                    the rate limit has a token
                              │
              the window of the one batch that is not full
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from lambda_celery.message import MAXIMUM_DELAY_SECONDS
from lambda_celery.plan.model import (
    Burst,
    Drain,
    Function,
    Limit,
    Limits,
    Point,
    Workers,
    WorkersDrain,
)

_CURVE_POINTS = 200
#: The rate limiter's: how long a task waits for its token inside the invocation, and how long one
#: waits on average that was sent on for longer than SQS can delay a message.
PATIENCE_SECONDS = 2.0
_LONG_DELAY_SECONDS = 675.0


def simulate(burst: Burst, function: Function, limits: Limits) -> Drain:
    """Return how *burst* drains through the function.

    Raises:
        ConfigurationError: a batch takes longer than the function's time-out, or the limits
            leave no environment.
    """
    cap, cap_limit = limits.cap(function)
    limited: dict[Limit, float] = defaultdict(float)
    warm: list[float] = []  # when the environments that exist are free, a heap
    environments = 0
    ends: list[tuple[float, int]] = []
    billed = now = next_token = 0.0
    left = burst.messages
    while left:
        size = min(left, function.batch_size)
        left -= size
        freed = warm[0] if warm else math.inf
        opens = limits.opens_at(environments) if environments < cap else math.inf
        place = min(freed, opens)
        start = max(place, next_token)
        if start == place:
            waited_for = cap_limit if environments == cap else Limit.RAMP
        else:
            waited_for = Limit.RATE_LIMIT
        limited[waited_for] += start - now
        now = start
        seconds = function.batch_seconds(size, burst.duration_seconds)
        if limits.tasks_per_second is not None:
            interval = 1 / limits.tasks_per_second
            next_token = start + size * interval
            # Its tasks take their tokens one by one; the environment waits, but not for long.
            paced = min(interval, PATIENCE_SECONDS + burst.duration_seconds)
            seconds = max(seconds, (size - 1) * paced + burst.duration_seconds)
        if freed <= start:
            heapq.heappop(warm)
        else:
            environments += 1
            seconds += function.cold_start_seconds
        if size < function.batch_size and function.batch_window_seconds:
            limited[Limit.BATCH_ASSEMBLY] += function.batch_window_seconds
            start = now = start + function.batch_window_seconds
        heapq.heappush(warm, start + seconds)
        ends.append((start + seconds, size))
        billed += seconds
    ends.sort()
    total = ends[-1][0]
    limited[Limit.LAST_BATCHES] += total - now
    return Drain(
        seconds=total,
        invocations=len(ends),
        environments=environments,
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
    seconds = math.ceil(burst.messages / processes) * burst.duration_seconds
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
