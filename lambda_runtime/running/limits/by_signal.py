"""Soft and hard time limits around a task's body.

On the main thread, which is where Lambda calls the handler, by ``SIGALRM``: it interrupts
what waits in C as well. A signal handler runs there alone; for the other threads see
:mod:`~lambda_runtime.running.limits.by_thread`, and for coroutines
:mod:`~lambda_runtime.running.event_loop`.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded

#: How soon an alarm comes again that came at a moment when nothing may be raised.
_AGAIN_SECONDS = 0.005
#: How soon a hard limit comes again: a bare ``except`` may have swallowed it.
HARD_AGAIN_SECONDS = 1.0


class HardTimeLimit(BaseException):
    """Ends a task's body. Not an :exc:`Exception`, so that ``except Exception`` lets it pass."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds

    def as_failure(self) -> TimeLimitExceeded:
        """Return what Celery calls it in results and callbacks."""
        return TimeLimitExceeded(self.seconds)


class TimeLimits:
    """Calls a body under *soft_seconds* and *hard_seconds*; ``None`` is no limit."""

    def __init__(self, soft_seconds: float | None, hard_seconds: float | None) -> None:
        self._soft = soft_seconds
        self._hard = hard_seconds
        self._started = 0.0
        self._over = False

    def call(self, body: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return ``body(*args, **kwargs)``.

        :raises SoftTimeLimitExceeded: raised in the body, after *soft_seconds*.
        :raises HardTimeLimit: raised in the body, after *hard_seconds*.
        """
        if not (self._soft or self._hard):
            return body(*args, **kwargs)
        if threading.current_thread() is not threading.main_thread():
            from lambda_runtime.running.limits import by_thread as watchdog

            return watchdog.call(self._soft, self._hard, body, *args, **kwargs)
        self._started = time.monotonic()
        previous = signal.signal(signal.SIGALRM, self._on_alarm)
        try:
            signal.setitimer(signal.ITIMER_REAL, min(filter(None, (self._soft, self._hard))))
            return body(*args, **kwargs)
        finally:
            self._over = True
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)

    def _on_alarm(self, signum: int, frame: FrameType | None) -> None:
        if self._over:
            return
        if frame is not None and frame.f_code is _CALL:
            # Before the body's first line, or after its last: raised here, it would leave
            # the timer and this handler armed, to strike anywhere.
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)
            return
        if self._soft and not (self._hard and self._hard <= self._soft):
            soft, self._soft = self._soft, None
            if self._hard:
                left = self._started + self._hard - time.monotonic()
                signal.setitimer(signal.ITIMER_REAL, max(left, _AGAIN_SECONDS))
            raise SoftTimeLimitExceeded(soft)
        signal.setitimer(signal.ITIMER_REAL, HARD_AGAIN_SECONDS)
        raise HardTimeLimit(self._hard or 0.0)


_CALL = TimeLimits.call.__code__
