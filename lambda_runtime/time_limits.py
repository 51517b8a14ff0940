"""Soft and hard time limits, by ``SIGALRM``, around a task's body.

A signal handler runs on the main thread alone, which is where Lambda calls the
handler. On another thread the limits are not enforced; that is said once.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from types import FrameType, TracebackType

from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded

logger = logging.getLogger(__name__)


class HardTimeLimit(BaseException):
    """Ends a task's body. Not an :exc:`Exception`, so that ``except Exception`` lets it pass."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds

    def as_failure(self) -> TimeLimitExceeded:
        """Return what Celery calls it in results and callbacks."""
        return TimeLimitExceeded(self.seconds)


class TimeLimits:
    """A context in which *soft_seconds* and *hard_seconds* are enforced; ``None`` is no limit."""

    def __init__(self, soft_seconds: float | None, hard_seconds: float | None) -> None:
        self._soft = soft_seconds
        self._hard = hard_seconds
        self._finished = False

    def finish(self) -> None:
        """Say that the body is through: an alarm from now on is late and raises nothing."""
        self._finished = True

    def __enter__(self) -> TimeLimits:
        self._armed = bool(self._soft or self._hard) and _on_main_thread()
        if self._armed:
            self._started = time.monotonic()
            self._previous = signal.signal(signal.SIGALRM, self._on_alarm)
            first = min(filter(None, (self._soft, self._hard)))
            signal.setitimer(signal.ITIMER_REAL, first)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._finished = True
        if self._armed:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._previous)

    def _on_alarm(self, signum: int, frame: FrameType | None) -> None:
        if self._finished:
            return
        if self._soft and not (self._hard and self._hard <= self._soft):
            soft, self._soft = self._soft, None
            if self._hard:
                left = self._started + self._hard - time.monotonic()
                signal.setitimer(signal.ITIMER_REAL, max(left, 0.001))
            raise SoftTimeLimitExceeded(soft)
        # Again and again, in case a bare ``except`` swallows it.
        signal.setitimer(signal.ITIMER_REAL, 1.0)
        raise HardTimeLimit(self._hard or 0.0)


_said = False


def _on_main_thread() -> bool:
    global _said
    if threading.current_thread() is threading.main_thread():
        return True
    if not _said:
        _said = True
        logger.warning(
            "Time limits are not enforced here: the handler does not run on the main thread."
        )
    return False
