"""What holds a burst back."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from lambda_celery.exceptions import ConfigurationError
from lambda_celery.message import MAXIMUM_ENTRIES
from lambda_celery.plan.figures import figure
from lambda_celery.plan.model import Burst, Function

#: The claim of a publication, and its completion.
WRITES_PER_TASK = 2
WRITES_PER_TOKEN = 1
_BYTES_PER_MEGABYTE = 1_000_000
_SECONDS_OF_FUNCTION_RAMP = 10


class Limit(Enum):
    """What keeps a burst from draining faster."""

    RAMP = "the event source mapping's ramp"
    MAXIMUM_CONCURRENCY = "MaximumConcurrency"
    EVENT_SOURCE_MAPPING = "the event source mapping's own maximum"
    POLLERS = "the event source mapping's pollers"
    ACCOUNT_CONCURRENCY = "the account's concurrency quota"
    DATABASE_CONNECTIONS = "database connections"
    IN_FLIGHT_MESSAGES = "SQS's messages in flight"
    INVOCATION_RATE = "invocations a second in each environment"
    CPU = "the CPU of each environment"
    TABLE_WRITES = "writes to the idempotency table"
    SCHEDULER = "EventBridge Scheduler"
    RATE_LIMIT = "the rate limit"
    BATCH_ASSEMBLY = "batch assembly"
    LAST_BATCHES = "the last batches"


@dataclass(frozen=True)
class Pollers:
    """The event pollers of an event source mapping in provisioned mode.

    Attributes:
        minimum: MinimumPollers: there, and paid for, at any time.
        maximum: MaximumPollers.
    """

    minimum: int = 2
    maximum: int = 200

    def __post_init__(self) -> None:
        if self.minimum > self.maximum:
            raise ConfigurationError(
                f"There are {self.minimum} pollers at least, but {self.maximum} at most: raise the "
                "maximum, or lower the minimum."
            )

    def concurrency(self, pollers: int) -> int:
        """Return how many invocations so many pollers run at the same time."""
        return pollers * int(figure("poller_concurrency"))

    def opens_at(self, environment: int) -> float:
        """Return when there are pollers for environment number *environment*, from 0."""
        added = max(0, environment + 1 - self.concurrency(self.minimum))
        # And Lambda adds no more to the function in ten seconds.
        per_ten_seconds = figure("function_ramp_per_ten_seconds")
        function_adds = max(0, environment + 1 - per_ten_seconds)
        return max(
            added / (figure("poller_ramp_per_minute") / 60),
            function_adds / (per_ten_seconds / _SECONDS_OF_FUNCTION_RAMP),
        )

    def messages_per_second(self, seconds: float, burst: Burst, function: Function) -> float:
        """Return how many messages the pollers fetch, *seconds* after the burst has begun.

        A receive is taken to bring what goes into a batch, up to the ten that SQS gives.
        """
        added = seconds * figure("poller_ramp_per_minute") / 60 / figure("poller_concurrency")
        pollers = min(self.minimum + added, self.maximum)
        by_receives = figure("poller_receives_per_second") * min(
            function.batch_size, MAXIMUM_ENTRIES
        )
        by_bytes = figure("poller_megabytes_per_second") * _BYTES_PER_MEGABYTE / burst.message_bytes
        return pollers * min(by_receives, by_bytes)


@dataclass(frozen=True)
class Limits:
    """What holds a burst back. ``None`` means that there is no such limit.

    Attributes:
        maximum_concurrency: the event source mapping's MaximumConcurrency.
        pollers: those of its provisioned mode, which AWS takes in place of MaximumConcurrency.
        account_concurrency: what the account's quota leaves for this function.
        database_connections: what the database takes; each task that runs holds one.
        tasks_per_second: what a provider takes, kept by the task's ``rate_limit``.
        table_writes_per_second: what the idempotency table takes.
        initial_concurrency: invocations that the event source mapping starts with.
        ramp_per_second: invocations that it adds in a second.
    """

    maximum_concurrency: int | None = None
    pollers: Pollers | None = None
    account_concurrency: int = field(default_factory=lambda: int(figure("account_concurrency")))
    database_connections: int | None = None
    tasks_per_second: float | None = None
    table_writes_per_second: float = field(
        default_factory=lambda: figure("table_writes_per_second")
    )
    initial_concurrency: int = field(default_factory=lambda: int(figure("initial_concurrency")))
    ramp_per_second: float = field(
        default_factory=lambda: min(
            figure("ramp_per_minute") / 60,
            figure("function_ramp_per_ten_seconds") / _SECONDS_OF_FUNCTION_RAMP,
        )
    )

    def __post_init__(self) -> None:
        if self.tasks_per_second is not None and self.tasks_per_second <= 0:
            raise ConfigurationError(
                "The rate limit lets no task through: give more than 0, or leave it out."
            )
        if self.pollers is not None and self.maximum_concurrency is not None:
            raise ConfigurationError(
                "An event source mapping has MaximumConcurrency or provisioned pollers, and not "
                "both: leave one of them out."
            )

    @property
    def writes_per_task(self) -> int:
        """How often a task writes to the idempotency table."""
        return WRITES_PER_TASK + (WRITES_PER_TOKEN if self.tasks_per_second is not None else 0)

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
        if self.pollers is not None:
            caps.append((self.pollers.concurrency(self.pollers.maximum), Limit.POLLERS))
        elif self.maximum_concurrency is not None:
            caps.append((self.maximum_concurrency, Limit.MAXIMUM_CONCURRENCY))
        else:
            maximum = int(figure("event_source_mapping_concurrency"))
            caps.append((maximum, Limit.EVENT_SOURCE_MAPPING))
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
        if self.pollers is not None:
            return self.pollers.opens_at(environment)
        return max(0, environment + 1 - self.initial_concurrency) / self.ramp_per_second
