"""Time limits on a thread that no signal reaches: exceptions set by another thread.

One watchdog thread a process sets the exception, and CPython raises it in the body as soon as
that is back in Python code. What waits in C (a socket, ``time.sleep``, an extension)
is not interrupted: there the limit strikes when the call returns. A limit that strikes in a
finalizer is swallowed there, as one by a signal is; the hard one comes again.

The race is with the end of the body, whose result must not be lost: a mail has been sent.
``alive`` holds the thread's id for as long as its body runs::

    body's thread   |------- body -------| result kept, alive emptied |- finally -|
    watchdog              for each id in alive: set the exception

Both lines run in C from end to end, and the interpreter's lock changes hands between byte
codes only: so each happens before the other or after it, and never in its middle.
"""

from __future__ import annotations

import ctypes
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import chain, starmap
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded

from lambda_runtime.running.limits.limit import HARD_AGAIN_SECONDS, HardTimeLimit

_set_async_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_async_exception.argtypes = (ctypes.c_ulong, ctypes.py_object)
_clear_async_exception = ctypes.pythonapi[
    "PyThreadState_SetAsyncExc"
]  # one with NULL for an object
_clear_async_exception.argtypes = (ctypes.c_ulong, ctypes.c_void_p)

_LIMITS = (SoftTimeLimitExceeded, HardTimeLimit)
#: How late a limit may strike. Most end with the invocation, at about the same moment: waking
#: the watchdog for each that ends a little earlier costs more than a task.
_TOLERANCE_SECONDS = 0.02


def call(
    soft_seconds: float | None,
    hard_seconds: float | None,
    body: Callable[..., Any],
    /,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Return ``body(*args, **kwargs)``, which runs on this thread under the limits.

    :raises SoftTimeLimitExceeded: raised in the body, after *soft_seconds*.
    :raises HardTimeLimit: raised in the body, after *hard_seconds*.
    """
    thread_id = threading.get_ident()
    alive = [thread_id]
    watch = _Watch(alive, soft_seconds, hard_seconds)
    result: list[Any] = []
    run = partial(body, *args, **kwargs)
    try:
        try:
            _watchdog.add(watch)
            result.extend(chain(starmap(run, ((),)), starmap(alive.clear, ((),))))
        finally:
            # CPython looks for an exception when a call has returned, so that this first one
            # is always made; and after it there is one exception left at most.
            try:
                alive.clear()
                _watchdog.remove(watch)
                _clear_async_exception(thread_id, None)
            except _LIMITS:
                _watchdog.remove(watch)
    except _LIMITS:
        if not result:
            raise
    return result[0]


def call_until(seconds: float, function: Callable[[], Any], when_late: Callable[[], None]) -> Any:
    """Return ``function()``; call *when_late*, on a thread, if it has not returned in *seconds*."""
    notice = _Notice(seconds, when_late)
    _watchdog.add(notice)
    try:
        return function()
    finally:
        _watchdog.remove(notice)


class _Notice:
    """Somebody to be told of what takes too long."""

    def __init__(self, seconds: float, when_late: Callable[[], None]) -> None:
        self.due = time.monotonic() + seconds
        self._when_late = when_late

    def strike(self) -> None:
        """Tell it, once, and not on the watchdog's thread: others wait for that."""
        self.due = math.inf
        threading.Thread(target=self._when_late, name="lambda-celery-late", daemon=True).start()


class _Watch:
    """The limits of one running body."""

    def __init__(self, alive: list[int], soft: float | None, hard: float | None) -> None:
        now = time.monotonic()
        self._alive = alive
        self._soft = soft if soft and not (hard and hard <= soft) else None
        self._hard = hard
        self._hard_at = now + hard if hard else math.inf
        self.due = now + self._soft if self._soft else self._hard_at

    def strike(self) -> None:
        """Raise the limit that is due in the body, if that still runs."""
        if self._soft:
            limit = _class_making(SoftTimeLimitExceeded, self._soft)
            self._soft = None
            self.due = self._hard_at
        else:
            limit = _class_making(HardTimeLimit, self._hard)
            self.due = time.monotonic() + HARD_AGAIN_SECONDS
        deque(map(_set_async_exception, self._alive, (limit,)), maxlen=0)


class _Watchdog:
    """The thread that strikes, and the bodies that it watches."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._watches: set[_Watch | _Notice] = set()
        self._wakes_at = math.inf
        self._thread: threading.Thread | None = None

    def add(self, watch: _Watch | _Notice) -> None:
        with self._condition:
            self._watches.add(watch)
            if self._thread is None or not self._thread.is_alive():  # no thread survives a fork
                self._thread = threading.Thread(
                    target=self._run, name="lambda-celery-time-limits", daemon=True
                )
                self._thread.start()
            elif watch.due < self._wakes_at - _TOLERANCE_SECONDS:
                self._condition.notify()

    def remove(self, watch: _Watch | _Notice) -> None:
        with self._condition:
            self._watches.discard(watch)

    def _run(self) -> None:
        with self._condition:
            while True:
                now = time.monotonic()
                for watch in self._watches:
                    if watch.due <= now:
                        watch.strike()
                self._wakes_at = min((each.due for each in self._watches), default=math.inf)
                left = self._wakes_at - time.monotonic()
                self._condition.wait(None if math.isinf(left) else max(left, 0))


def _class_making(limit: type[BaseException], seconds: float | None) -> type[BaseException]:
    """Return a class that makes ``limit(seconds)``: a class is all that can be set on a thread."""
    return type(limit.__name__, (limit,), {"__new__": lambda *_: limit(seconds)})


_watchdog = _Watchdog()
