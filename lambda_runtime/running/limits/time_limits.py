"""Time limits of what runs on a thread: a task's body, and all of a task."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

from lambda_runtime.running.limits import watchdog
from lambda_runtime.running.limits.limit import InvocationEnds
from lambda_runtime.running.limits.watchdog import Kept


def call_within(
    soft_seconds: float | None,
    hard_seconds: float | None,
    body: Callable[[], Any],
    on_result: Kept | None = None,
) -> Any:
    """Return ``body()``, called on this thread; ``None`` is no limit.

    :param on_result: where the result is kept from the moment on at which the body has ended.
    :raises SoftTimeLimitExceeded: raised in the body, after *soft_seconds*.
    :raises HardTimeLimit: raised in the body, after *hard_seconds*.
    """
    if not (soft_seconds or hard_seconds):
        return body()
    return watchdog.call(soft_seconds, hard_seconds, body, on_result=on_result)


def call_until(
    seconds: float, function: Callable[[], Any], when_late: Callable[[], None] | None = None
) -> Any:
    """Return ``function()``, called on this thread; end it after *seconds*.

    On other threads than the main one, what waits for a socket is out of reach: *when_late* is
    called, on another thread.

    :raises InvocationEnds: raised in *function*.
    """
    if math.isinf(seconds):
        return function()
    if threading.current_thread() is threading.main_thread():
        when_late = None
    return watchdog.call(None, seconds, function, InvocationEnds, when_late=when_late)
