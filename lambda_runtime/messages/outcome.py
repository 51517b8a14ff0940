"""What becomes of a message, apart from doing it: one value for each way out."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from datetime import datetime, timezone

from lambda_celery.conf import Settings
from lambda_celery.message import MAXIMUM_VISIBILITY_SECONDS


@dataclass(frozen=True)
class Deleted:
    """The message is settled: Lambda deletes it, and we its body in S3, if it has one there."""

    reason: str
    #: Whether another message still needs that body.
    keep_payload: bool = False


@dataclass(frozen=True)
class Returned:
    """The message stays on its queue and is hidden for *delay_seconds*."""

    reason: str
    delay_seconds: int


@dataclass(frozen=True)
class Parked:
    """The message moves to the dead-letter queue, with the reason as message attributes."""

    reason: str
    exception: BaseException | None = None


@dataclass(frozen=True)
class Forwarded:
    """The message is sent on as a new one, to arrive again at *eta*, or nearer to it."""

    eta: datetime
    #: The task's id, where *eta* is the task's own and may be far off.
    task_id: str | None = None

    def seconds_ahead(self) -> int:
        """Return the seconds until it is due, rounded up."""
        return max(0, math.ceil((self.eta - datetime.now(timezone.utc)).total_seconds()))


Outcome = Deleted | Returned | Parked | Forwarded


def backoff_seconds(settings: Settings, receive_count: int) -> int:
    """Return how long a message is hidden after its *receive_count*-th receive failed.

    It doubles from ``retry_backoff_seconds`` to ``retry_backoff_max_seconds``. Jitter
    draws from the upper half: a burst that failed together must not come back together,
    and must not come back at once either.
    """
    ceiling = min(
        settings.retry_backoff_max_seconds,
        settings.retry_backoff_seconds * 2.0 ** min(receive_count - 1, 60),
        MAXIMUM_VISIBILITY_SECONDS,
    )
    if settings.retry_jitter:
        ceiling = random.uniform(ceiling / 2, ceiling)
    return math.ceil(ceiling)


def spent(reason: str, delay_seconds: int, last_attempt: bool) -> Returned | Parked:
    """Return the outcome of an attempt that failed before a task could be run."""
    return Parked(reason) if last_attempt else Returned(reason, delay_seconds)
