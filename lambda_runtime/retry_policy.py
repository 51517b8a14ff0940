"""What comes back, and when: the back-off, and the last receive."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta

from lambda_celery.conf import Settings
from lambda_celery.message import MAXIMUM_VISIBILITY_SECONDS
from lambda_runtime.messages.outcome import Forwarded, Parked, Returned


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


def not_run(reason: str, last_attempt: bool, delay_seconds: int = 0) -> Returned | Forwarded:
    """Return what becomes of a message that nothing is wrong with, but that was not run.

    It comes back. At its last receive SQS would take it for spent and move it to the
    dead-letter queue, so then it is sent on as a new message.
    """
    if last_attempt:
        return Forwarded(datetime.now(UTC) + timedelta(seconds=delay_seconds))
    return Returned(reason, delay_seconds)
