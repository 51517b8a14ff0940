"""How much of the invocation is left, and what fits into it."""

from __future__ import annotations

import logging
import time
from typing import Any

logger = logging.getLogger(__name__)

#: With less than this left, nothing more is asked of AWS: the answer has to leave.
ANSWER_SECONDS = 0.5
#: How long the answer waits for what AWS refuses, when nothing else is to be done.
_PATIENCE_SECONDS = 3.0
#: No more than this part of an invocation is kept for settling, however short it is.
_MAXIMUM_RESERVE = 0.2

#: What an invocation is assumed to have whose context says nothing.
_ASSUMED_SECONDS = 30.0


class Deadline:
    """The end of one invocation, as the Lambda context tells it."""

    def __init__(self, context: Any, reserve_seconds: float) -> None:
        total = _remaining_seconds(context)
        #: When it began, in seconds since the epoch.
        self.began = time.time()
        self.epoch: float = self.began + total
        self.reserve_seconds: float = min(reserve_seconds, total * _MAXIMUM_RESERVE)
        self._for_tasks = total - self.reserve_seconds

    def seconds(self) -> float:
        """Return the seconds until the invocation ends."""
        return self.epoch - time.time()

    def passed_seconds(self) -> float:
        """Return the seconds since the invocation began."""
        return time.time() - self.began

    def patience_ends(self) -> float:
        """Return until when the answer waits for what AWS refuses (``time.monotonic``)."""
        left = self.seconds() - 2 * ANSWER_SECONDS
        return time.monotonic() + min(_PATIENCE_SECONDS, left)

    def seconds_for_tasks(self) -> float:
        """Return the seconds that tasks may still take; the reserve is not theirs."""
        return self.seconds() - self.reserve_seconds

    def seconds_for_all(self) -> float:
        """Return the seconds that a task, and what goes before it and follows it, may take."""
        return max(self.seconds() - self.reserve_seconds / 2, 0.001)

    def seconds_for_threads(self) -> float:
        """Return the seconds after which threads that hang are left to themselves.

        A little after the tasks on them had to be over.
        """
        return self.seconds() - self.reserve_seconds * 0.4

    def allows(self, seconds: float) -> bool:
        """Whether a task that may take *seconds* should start.

        What not even a fresh invocation could grant does not count: the task would
        never start.
        """
        needed = seconds if seconds <= self._for_tasks * 0.95 else 0.0
        return self.seconds_for_tasks() > needed


def _remaining_seconds(context: Any) -> float:
    ask = getattr(context, "get_remaining_time_in_millis", None)
    if ask is None:
        logger.warning(
            "The context does not tell how much time is left: %g s are assumed.", _ASSUMED_SECONDS
        )
        return _ASSUMED_SECONDS
    return float(ask()) / 1000
