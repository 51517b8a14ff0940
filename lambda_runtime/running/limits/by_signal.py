"""Time limits on the main thread, which is where Lambda calls the handler, by ``SIGALRM``.

A signal interrupts what waits in C as well, and a signal handler runs on the main thread alone.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded

from lambda_runtime.running.limits.limit import (
    HARD_AGAIN_SECONDS,
    HardTimeLimit,
    InvocationEnds,
)

#: How soon an alarm comes again that came at a moment when nothing may be raised.
_AGAIN_SECONDS = 0.005


def call(
    soft_seconds: float | None,
    hard_seconds: float | None,
    body: Callable[..., Any],
    /,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Return ``body(*args, **kwargs)``, which runs on the main thread under the limits.

    :raises SoftTimeLimitExceeded: raised in the body, after *soft_seconds*.
    :raises HardTimeLimit: raised in the body, after *hard_seconds*.
    """
    return _Alarm(soft_seconds, hard_seconds).call(body, *args, **kwargs)


def call_until(seconds: float, function: Callable[[], Any]) -> Any:
    """Return ``function()``, which may make calls under limits of their own.

    :raises InvocationEnds: raised in *function*, after *seconds*, or after such a call.
    """
    return _Alarm(None, seconds, InvocationEnds).call(function)


class _Alarm:
    """The limits of one body, and the signal's handler."""

    def __init__(
        self,
        soft_seconds: float | None,
        hard_seconds: float | None,
        hard_limit: type[HardTimeLimit] = HardTimeLimit,
    ) -> None:
        self._soft = soft_seconds
        self._hard = hard_seconds
        self._hard_limit = hard_limit
        self._started = 0.0
        self._over = False

    def call(self, body: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self._started = time.monotonic()
        # There is one timer: that of a call around this one goes on afterwards.
        left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
        previous = signal.signal(signal.SIGALRM, self._on_alarm)
        try:
            signal.setitimer(signal.ITIMER_REAL, min(filter(None, (self._soft, self._hard))))
            return body(*args, **kwargs)
        finally:
            self._over = True
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
            if left:
                passed = time.monotonic() - self._started
                signal.setitimer(signal.ITIMER_REAL, max(left - passed, _AGAIN_SECONDS))

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
        raise self._hard_limit(self._hard or 0.0)


_CALL = _Alarm.call.__code__
