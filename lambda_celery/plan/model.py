"""What goes into the simulation, and what comes out of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from lambda_celery.exceptions import ConfigurationError
from lambda_celery.plan.figures import figure


@dataclass(frozen=True)
class Burst:
    """Messages that are on the queue all at once.

    Attributes:
        messages: how many.
        duration_seconds: how long one task takes in the function, its writes to
            DynamoDB included.
    """

    messages: int
    duration_seconds: float

    def __post_init__(self) -> None:
        if self.messages < 1:
            raise ConfigurationError("The burst has no messages: plan for one or more.")
        if self.duration_seconds <= 0:
            raise ConfigurationError(
                f"The duration of a task is {self.duration_seconds:g} s: give more than 0."
            )


@dataclass(frozen=True)
class Function:
    """The Lambda function and how it is fed.

    Attributes:
        batch_size: messages in an invocation at most.
        batch_window_seconds: how long a batch that is not full is waited for.
        concurrency: tasks at the same time in one environment.
        memory_mb: the function's memory.
        timeout_seconds: the function's time-out.
        cold_start_seconds: how long a new environment takes before its first batch; billed.
        architecture: ``x86_64`` or ``arm64``.
    """

    batch_size: int = 10
    batch_window_seconds: float = 0
    concurrency: int = 1
    memory_mb: int = 512
    timeout_seconds: float = 30
    cold_start_seconds: float = 1.0
    architecture: str = "x86_64"

    def batch_seconds(self, messages: int, task_seconds: float) -> float:
        """Return how long an environment works on a batch of *messages*.

        Raises :exc:`ConfigurationError` if that is longer than the function's time-out.
        """
        seconds = math.ceil(messages / self.concurrency) * task_seconds
        if seconds > self.timeout_seconds:
            raise ConfigurationError(
                f"A batch of {messages} tasks of {task_seconds:g} s takes {seconds:g} s, but the "
                f"function's time-out is {self.timeout_seconds:g} s: make the batch smaller, the "
                "concurrency in an environment larger, or the time-out longer (900 s at most)."
            )
        return seconds


class Limit(Enum):
    """What keeps a burst from draining faster."""

    RAMP = "the event source mapping's ramp"
    MAXIMUM_CONCURRENCY = "MaximumConcurrency"
    EVENT_SOURCE_MAPPING = "the event source mapping's own maximum"
    ACCOUNT_CONCURRENCY = "the account's concurrency quota"
    DATABASE_CONNECTIONS = "database connections"
    IN_FLIGHT_MESSAGES = "SQS's messages in flight"
    RATE_LIMIT = "the rate limit"
    BATCH_ASSEMBLY = "batch assembly"
    LAST_BATCHES = "the last batches"


@dataclass(frozen=True)
class Limits:
    """What holds a burst back. ``None`` means that there is no such limit.

    Attributes:
        maximum_concurrency: the event source mapping's MaximumConcurrency.
        account_concurrency: what the account's quota leaves for this function.
        database_connections: what the database takes; each task that runs holds one.
        tasks_per_second: what a provider takes, kept by the task's ``rate_limit``.
        initial_concurrency: invocations that the event source mapping starts with.
        ramp_per_second: invocations that it adds in a second.
    """

    maximum_concurrency: int | None = None
    account_concurrency: int = field(default_factory=lambda: int(figure("account_concurrency")))
    database_connections: int | None = None
    tasks_per_second: float | None = None
    initial_concurrency: int = field(default_factory=lambda: int(figure("initial_concurrency")))
    ramp_per_second: float = field(
        default_factory=lambda: min(
            figure("ramp_per_minute") / 60, figure("function_ramp_per_ten_seconds") / 10
        )
    )

    def __post_init__(self) -> None:
        if self.tasks_per_second is not None and self.tasks_per_second <= 0:
            raise ConfigurationError(
                "The rate limit lets no task through: give more than 0, or leave it out."
            )

    def cap(self, function: Function) -> tuple[int, Limit]:
        """Return how many environments there are at most, and what says so.

        Raises :exc:`ConfigurationError` if the database has too few connections for one.
        """
        caps = [
            (self.account_concurrency, Limit.ACCOUNT_CONCURRENCY),
            (
                int(figure("in_flight_messages")) // function.batch_size,
                Limit.IN_FLIGHT_MESSAGES,
            ),
        ]
        if self.maximum_concurrency is None:
            maximum = int(figure("event_source_mapping_concurrency"))
            caps.append((maximum, Limit.EVENT_SOURCE_MAPPING))
        else:
            caps.append((self.maximum_concurrency, Limit.MAXIMUM_CONCURRENCY))
        if self.database_connections is not None:
            environments = self.database_connections // function.concurrency
            if not environments:
                raise ConfigurationError(
                    f"One environment needs {function.concurrency} database connections, but "
                    f"there are {self.database_connections}: lower the concurrency in an "
                    "environment, or put a connection pooler before the database."
                )
            caps.append((environments, Limit.DATABASE_CONNECTIONS))
        return min(caps, key=lambda each: each[0])

    def opens_at(self, environment: int) -> float:
        """Return when the ramp allows environment number *environment*, counted from 0."""
        return max(0, environment + 1 - self.initial_concurrency) / self.ramp_per_second


@dataclass(frozen=True)
class Workers:
    """Always-on Celery workers to compare with.

    Attributes:
        count: workers, each a Fargate task.
        processes: tasks at the same time in each worker.
        vcpu: vCPUs of each worker.
        memory_gb: memory of each worker.
    """

    count: int = 10
    processes: int = 4
    vcpu: float = 1.0
    memory_gb: float = 2.0


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
