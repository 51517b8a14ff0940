"""What follows from the inputs. Nobody has to know these rules, and nobody can break them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lambda_celery.infrastructure.inputs import Deployment, QueueInput, resource_name
from lambda_celery.message import MAXIMUM_SCHEDULE_SECONDS

SECONDS_PER_DAY = 86_400
#: Of six time-outs, Lambda can spend five on throttled attempts before the last one begins: "set
#: the queue's visibility timeout to at least six times the timeout that you configure on your
#: function", and the batching window more (AWS Lambda, "Creating and configuring an Amazon SQS
#: event source mapping").
VISIBILITY_TIMEOUTS = 6
#: Up to so many messages Lambda gathers without a window; with more, "you must set
#: MaximumBatchingWindowInSeconds to at least 1" (Lambda API, CreateEventSourceMapping).
LARGEST_BATCH_WITHOUT_WINDOW = 10
#: AWS has no default here. Most databases stand it, and so does an account: a new one may have no
#: more than 10 concurrent executions at first.
MAXIMUM_CONCURRENCY = 10
#: The key of the function that takes all queues.
ALL = "all"


@dataclass(frozen=True)
class QueueFigures:
    """A queue with all that holds for it. Times are in seconds.

    :ivar name: its name on AWS.
    :ivar function: the key of its function.
    :ivar record_life_seconds: how long a call's record must stand.
    """

    celery_name: str
    name: str
    dead_letter_queue_name: str
    function: str
    fifo: bool
    batch_size: int
    window_seconds: int
    maximum_concurrency: int | None
    visibility_timeout_seconds: int
    message_retention_seconds: int
    max_receive_count: int
    record_life_seconds: int
    queue_arn: str | None
    dead_letter_queue_arn: str | None


@dataclass(frozen=True)
class FunctionFigures:
    """A function: its name, its time-out in seconds, the Celery names of its queues."""

    key: str
    name: str
    timeout_seconds: int
    queues: tuple[str, ...]

    @property
    def log_group(self) -> str:
        """Where it logs: as Lambda would name it."""
        return f"/aws/lambda/{self.name}"

    @property
    def duration_alarm_milliseconds(self) -> int:
        """Nine tenths of its time-out, in the unit of the metric ``Duration``."""
        return 900 * self.timeout_seconds


@dataclass(frozen=True)
class Figures:
    """Everything that follows from a deployment's inputs."""

    queues: Mapping[str, QueueFigures]
    functions: Mapping[str, FunctionFigures]
    schedules: bool

    @property
    def record_life_seconds(self) -> int:
        """How long a record must stand: as long as the longest of its queues asks for."""
        return max(each.record_life_seconds for each in self.queues.values())

    @property
    def payload_days(self) -> int:
        """How long a body stays in the bucket: S3 counts in days."""
        return payload_days(self.record_life_seconds, self.schedules)


def compute(deployment: Deployment) -> Figures:
    """Return what follows from *deployment*."""
    each_has_one = deployment.functions == "each"
    timeouts = {
        name: queue.timeout or deployment.timeout for name, queue in deployment.queues.items()
    }
    if not each_has_one:
        # A function that takes all queues has the time-out of the slowest.
        timeouts = dict.fromkeys(timeouts, max(timeouts.values()))
    queues = {
        name: _queue(deployment, name, queue, timeouts[name])
        for name, queue in deployment.queues.items()
    }
    functions = {
        key: FunctionFigures(
            key=key,
            name=deployment.name if key == ALL else f"{deployment.name}-{resource_name(key)}",
            timeout_seconds=max(timeouts[name] for name in queues if queues[name].function == key),
            queues=tuple(name for name in queues if queues[name].function == key),
        )
        for key in dict.fromkeys(each.function for each in queues.values())
    }
    return Figures(queues, functions, deployment.schedules)


def visibility_timeout_seconds(timeout: int, window: int) -> int:
    """Return the least visibility time-out for a function's *timeout* and a mapping's *window*."""
    # 5,700 at most with what Lambda allows, of the 43,200 that SQS takes.
    return VISIBILITY_TIMEOUTS * timeout + window


def record_life_seconds(retention: int, dead_letter_retention: int) -> int:
    """Return how long a call's record must stand, for what queue and dead-letter queue keep."""
    # On the queue, parked, on the queue again after a redrive; and a day to spare.
    return 2 * retention + dead_letter_retention + SECONDS_PER_DAY


def payload_days(record_life: int, schedules: bool) -> int:
    """Return for how many whole days a body must stay, as S3 counts them.

    *record_life* is in seconds. With *schedules*, a message may have waited in EventBridge
    Scheduler before its record was made, while its body waits in the bucket.
    """
    waiting = MAXIMUM_SCHEDULE_SECONDS if schedules else 0
    return math.ceil((record_life + waiting) / SECONDS_PER_DAY)


def _queue(deployment: Deployment, name: str, queue: QueueInput, timeout: int) -> QueueFigures:
    batch_size = queue.batch_size or deployment.batch_size
    # A FIFO queue gives ten messages at most, and Lambda does not wait for more of them.
    batch_size = min(batch_size, 10) if queue.fifo else batch_size
    window = max(
        deployment.maximum_batching_window_in_seconds,
        1 if batch_size > LARGEST_BATCH_WITHOUT_WINDOW else 0,
    )
    window = 0 if queue.fifo else window
    retention = queue.message_retention_seconds or deployment.message_retention_seconds
    concurrency = queue.maximum_concurrency or deployment.maximum_concurrency or MAXIMUM_CONCURRENCY
    suffix = ".fifo" if queue.fifo else ""
    own = f"{deployment.name}-{resource_name(name)}"
    return QueueFigures(
        celery_name=name,
        name=_last(queue.queue_arn) or f"{own}{suffix}",
        dead_letter_queue_name=_last(queue.dead_letter_queue_arn) or f"{own}-dead-letters{suffix}",
        function=name if deployment.functions == "each" else ALL,
        fifo=queue.fifo,
        batch_size=batch_size,
        window_seconds=window,
        maximum_concurrency=None if deployment.provisioned_pollers else concurrency,
        visibility_timeout_seconds=visibility_timeout_seconds(timeout, window),
        message_retention_seconds=retention,
        max_receive_count=queue.max_receive_count or deployment.max_receive_count,
        record_life_seconds=record_life_seconds(
            retention, deployment.dlq_message_retention_seconds
        ),
        queue_arn=queue.queue_arn,
        dead_letter_queue_arn=queue.dead_letter_queue_arn,
    )


def _last(arn: str | None) -> str:
    return arn.rpartition(":")[2] if arn else ""
