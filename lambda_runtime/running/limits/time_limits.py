"""Which way to strike: by signal on the main thread, and by another thread elsewhere."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

from lambda_runtime.running.limits import by_signal


class TimeLimits:
    """Calls a body under *soft_seconds* and *hard_seconds*; ``None`` is no limit."""

    def __init__(self, soft_seconds: float | None, hard_seconds: float | None) -> None:
        self._seconds = soft_seconds, hard_seconds

    def call(self, body: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Return ``body(*args, **kwargs)``.

        :raises SoftTimeLimitExceeded: raised in the body, after the soft limit.
        :raises HardTimeLimit: raised in the body, after the hard limit.
        """
        if not any(self._seconds):
            return body(*args, **kwargs)
        if threading.current_thread() is threading.main_thread():
            return by_signal.call(*self._seconds, body, *args, **kwargs)
        from lambda_runtime.running.limits import by_thread  # few functions have threads

        return by_thread.call(*self._seconds, body, *args, **kwargs)


def call_until(
    seconds: float, function: Callable[[], Any], when_late: Callable[[], None] = lambda: None
) -> Any:
    """Return ``function()``; on the main thread, end it after *seconds* if it runs no body then.

    Elsewhere what waits for a socket is out of reach: *when_late* is called, on another thread.

    :raises InvocationEnds: raised in *function*, on the main thread.
    """
    if math.isinf(seconds):
        return function()
    if threading.current_thread() is threading.main_thread():
        return by_signal.call_until(seconds, function)
    from lambda_runtime.running.limits import by_thread  # few functions have threads

    return by_thread.call_until(seconds, function, when_late)
