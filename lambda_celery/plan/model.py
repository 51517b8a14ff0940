"""What is planned for: a burst, the function that runs it, the workers to compare with."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lambda_celery.exceptions import ConfigurationError
from lambda_celery.plan.figures import figure

#: What the runtime itself takes of a vCPU for each task, its claim, its completion and two log
#: lines included, with many at a time: ``benchmarks/run.py``. Not AWS's figure, but measured.
RUNTIME_CPU_SECONDS = 0.0007


@dataclass(frozen=True)
class Burst:
    """Messages that are on the queue all at once, or that are due at one moment.

    Attributes:
        messages: how many.
        duration_seconds: how long one task takes in the function, its writes to
            DynamoDB included.
        cpu_seconds: what the task's own code takes of a whole vCPU.
        message_bytes: how large a message is.
        is_scheduled: EventBridge Scheduler puts the messages on the queue, for an ETA that all
            of them have.
    """

    messages: int
    duration_seconds: float
    cpu_seconds: float = 0
    message_bytes: int = 1000
    is_scheduled: bool = False

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

    @property
    def vcpus(self) -> float:
        """What the process has of a vCPU: no more than one, as it has one interpreter lock."""
        return min(self.memory_mb / figure("vcpu_memory_mb"), 1.0)

    def cpu_tasks_per_second(self, burst: Burst) -> float:
        """Return how many tasks an environment has the CPU for."""
        return self.vcpus / (burst.cpu_seconds + RUNTIME_CPU_SECONDS)

    def is_cpu_bound(self, messages: int, burst: Burst) -> bool:
        """Whether it is the CPU that a batch of *messages* waits for, and not what tasks wait for.

        One task at a time is as long as it was measured to be, the runtime's share included.
        """
        return messages / self.cpu_tasks_per_second(burst) > self._waiting_seconds(messages, burst)

    def batch_seconds(self, messages: int, burst: Burst) -> float:
        """Return how long an environment works on a batch of *messages*.

        Raises :exc:`ConfigurationError` if that is longer than the function's time-out.
        """
        computing = messages / self.cpu_tasks_per_second(burst)
        seconds = max(self._waiting_seconds(messages, burst), computing)
        if seconds > self.timeout_seconds:
            remedy = (
                "the memory, and the CPU with it,"
                if seconds == computing
                else "the concurrency in an environment"
            )
            raise ConfigurationError(
                f"A batch of {messages} tasks of {burst.duration_seconds:g} s takes {seconds:g} s, "
                f"but the function's time-out is {self.timeout_seconds:g} s: make the batch "
                f"smaller, {remedy} larger, or the time-out longer (900 s at most)."
            )
        return seconds

    def _waiting_seconds(self, messages: int, burst: Burst) -> float:
        return math.ceil(messages / self.concurrency) * burst.duration_seconds


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
