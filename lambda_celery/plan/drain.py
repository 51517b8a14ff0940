"""How a burst drains: what comes out of the simulation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lambda_celery.plan.limits import Limit


@dataclass(frozen=True)
class Point:
    """A point of a curve: so many messages are left after so many seconds."""

    seconds: float
    messages_left: int


@dataclass(frozen=True)
class Drain:
    """How a burst drains.

    Attributes:
        seconds: until the last message is done.
        invocations: batches that were run.
        environments: execution environments that were started.
        billed_seconds: time of all environments together, cold starts included.
        returns: how often messages are sent on, as it is not their turn by the rate limit.
        limited_seconds: what held the burst back, and for how long; together they are *seconds*.
        curve: messages left over time, from all of them to none.
    """

    seconds: float
    invocations: int
    environments: int
    billed_seconds: float
    returns: int
    limited_seconds: Mapping[Limit, float]
    curve: tuple[Point, ...]

    @property
    def main_limit(self) -> Limit:
        """What held the burst back for the longest time."""
        return max(self.limited_seconds, key=lambda each: self.limited_seconds[each])


@dataclass(frozen=True)
class WorkersDrain:
    """How the same burst drains through always-on workers, *concurrency* tasks at a time."""

    seconds: float
    concurrency: int
    curve: tuple[Point, ...]
