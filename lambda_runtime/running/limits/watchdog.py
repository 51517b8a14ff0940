"""Time limits of what runs on a thread: exceptions set by another thread, the watchdog.

One watchdog a process sets the exception, and CPython raises it in the body as soon as that is
back in Python code. What waits in C (a socket, ``time.sleep``) is woken on the main thread, where
Lambda calls the handler: a signal interrupts the call, and its handler is Python code. On other
threads, where no signal handler runs, the limit strikes when the call returns. A limit that strikes
in a finalizer is swallowed there; the hard one comes again.

The signal only wakes. So a task may have alarms of its own, and a task that blocks signals, or
changes their handlers, escapes in C alone.

The race is with the end of the body, whose result must not be lost: a mail has been sent. So the
body is called by a mapping that makes what it lacks, ``kept``, and its result is there as soon as
it has ended::

    body's thread   |------- body: kept[thread] is made -------|- finally -|
    watchdog           for the thread, if it is not in kept: set the exception

Both run in C from end to end, and the interpreter's lock changes hands between byte codes
only: so each happens before the other or after it, and never in its middle.
"""

from __future__ import annotations

import ctypes
import logging
import math
import os
import signal
import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import filterfalse
from types import FrameType
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded

from lambda_runtime.python_hooks import signal_handler, unblock_signal
from lambda_runtime.running.limits.limit import HardTimeLimit

_set_async_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_async_exception.argtypes = (ctypes.c_ulong, ctypes.py_object)
_LIMITS = (SoftTimeLimitExceeded, HardTimeLimit)
#: How late a limit may strike. Most end with the invocation, at about the same moment: waking
#: the watchdog for each that ends a little earlier costs more than a task.
_TOLERANCE_SECONDS = 0.02
#: Nobody else's: a function has no terminal whose size changes, and by default nothing comes of it.
#: (Nothing comes of SIGURG either, but libraries that are written in Go take that for themselves.)
WAKE = signal.SIGWINCH
_WAKE_AGAIN_SECONDS = 1.0
#: How soon it is tried again where a limit would be swallowed, and for how long.
_SPARED_SECONDS = 0.0005
_MOST_SPARED_SECONDS = 1.0
#: A body that logs a lot gives the interpreter up while it writes, and there alone, unless it is
#: asked to more often.
_SHORT_INTERVAL_SECONDS = 1e-5
#: In the place of a result, where a body has raised.
_NOTHING = object()


def call(
    soft_seconds: float | None,
    hard_seconds: float | None,
    body: Callable[[], Any],
    hard_limit: type[HardTimeLimit] = HardTimeLimit,
    *,
    on_result: Kept | None = None,
    when_late: Callable[[], None] | None = None,
) -> Any:
    """Return ``body()``, which runs on this thread under the limits.

    It may call others under limits of their own.

    :param on_result: where the result is kept from the moment on at which the body has ended.
    :param when_late: called on another thread when the hard limit strikes first.
    :raises SoftTimeLimitExceeded: raised in the body, after *soft_seconds*.
    :raises HardTimeLimit: a *hard_limit*, raised in the body, after *hard_seconds*.
    """
    thread_id = threading.get_ident()
    on_main_thread = thread_id == threading.main_thread().ident
    if on_main_thread:
        _make_wakeable()
    kept = on_result if on_result is not None else Kept()
    kept.default_factory = body
    watch = _Watch(
        kept, thread_id, soft_seconds, hard_seconds, hard_limit, on_main_thread, when_late
    )
    try:
        try:
            _watchdog.add(watch)
            kept[thread_id]
        finally:
            # CPython looks for an exception when a call has returned: so this one is always made,
            # and what has been set before it is raised here. (To take it back would be a trap:
            # CPython goes on to look for it, after each call, for the life of the process.)
            try:
                kept.setdefault(thread_id, _NOTHING)
                _watchdog.remove(watch)
            except _LIMITS:
                _watchdog.remove(watch)
    except _LIMITS:
        if kept[thread_id] is _NOTHING:
            raise
    return kept[thread_id]


class Kept(defaultdict[int, Any]):
    """The result of a body, by the thread that it ran on; nothing before it has ended."""

    @property
    def results(self) -> list[Any]:
        """The result, if the body has returned one."""
        return [each for each in self.values() if each is not _NOTHING]


def _make_wakeable() -> None:
    """See that the signal interrupts this thread, the main one, whatever a task has left."""
    if signal_handler(WAKE) is not _do_nothing:
        signal.signal(WAKE, _do_nothing)
    unblock_signal(WAKE)


def _do_nothing(*_: Any) -> None:
    """Be Python code, at the beginning of which CPython raises what is set on the thread."""


class _Watch:
    """The limits of one running body."""

    __slots__ = (
        "_hard", "_hard_at", "_hard_limit", "_kept", "_on_main_thread", "_soft", "_spared_until",
        "_thread_ids", "_when_late", "due", "is_spared",
    )  # fmt: skip

    def __init__(
        self,
        kept: Kept,
        thread_id: int,
        soft: float | None,
        hard: float | None,
        hard_limit: type[HardTimeLimit],
        on_main_thread: bool,
        when_late: Callable[[], None] | None,
    ) -> None:
        now = time.monotonic()
        self._kept = kept
        self._thread_ids = (thread_id,)
        self._soft = soft if soft and not (hard and hard <= soft) else None
        self._hard = hard
        self._hard_limit = hard_limit
        self._hard_at = now + hard if hard else math.inf
        self._on_main_thread = on_main_thread
        self._when_late = when_late
        self.due = now + self._soft if self._soft else self._hard_at
        #: Whether its soft limit waits for a better moment, and until when it may.
        self.is_spared = False
        self._spared_until = self.due + _MOST_SPARED_SECONDS

    @property
    def has_ended(self) -> bool:
        """Whether the body has ended."""
        return self._thread_ids[0] in self._kept

    def strike(self) -> None:
        """Raise the limit that is due in the body, if that still runs."""
        now = time.monotonic()
        if self._soft:
            if now < self._spared_until and self._would_be_swallowed():
                self.is_spared = True
                self.due = now + _SPARED_SECONDS
                return
            self.is_spared = False
            made_of = partial(self._note_raised, self._soft)
            self._set(_class_making(SoftTimeLimitExceeded, self._soft, made_of))
            self._soft = None
        elif now >= self._hard_at:
            self._set(_class_making(self._hard_limit, self._hard))
            self._hard_at = now + self._hard_limit.again_seconds
            self._tell()
        self.due = self._hard_at
        if self._on_main_thread:
            # When the body has ended by now, this wakes nobody, or what then goes on to wait.
            # Again, for it may have come just before the thread began to wait.
            deque(map(signal.pthread_kill, self._running(), (WAKE,)), maxlen=0)
            self.due = min(self.due, now + _WAKE_AGAIN_SECONDS)

    def _would_be_swallowed(self) -> bool:
        """Whether the thread is in logging, which reports what is raised there, and goes on."""
        frame = sys._current_frames().get(self._thread_ids[0])
        while frame is not None and frame.f_code.co_filename != logging.__file__:
            frame = frame.f_back
        return frame is not None

    def _note_raised(self, seconds: float) -> None:
        """Strike once more if the limit is raised, on this thread, where a log line is written.

        The look at the thread and the strike are two steps, and it may have gone on in between.
        """
        frame: FrameType | None = sys._getframe()
        while frame is not None and not _is_log_line(frame):
            frame = None if frame.f_code is call.__code__ else frame.f_back
        if frame is not None:
            self._soft = seconds
            self.due = time.monotonic() + _SPARED_SECONDS
            _watchdog.look()

    def _tell(self) -> None:
        when_late, self._when_late = self._when_late, None
        if when_late is not None:  # not on this thread: others wait for it
            threading.Thread(target=when_late, name="lambda-celery-late", daemon=True).start()

    def _running(self) -> Iterator[int]:
        return filterfalse(self._kept.__contains__, self._thread_ids)

    def _set(self, limit: type[BaseException]) -> None:
        deque(map(_set_async_exception, self._running(), (limit,)), maxlen=0)


class _Watchdog:
    """The thread that strikes, and the bodies that it watches.

    A body is added, and removed, without a lock: each is one step in C. What must not be missed is
    one that ends before all others, while the watchdog works out when to wake::

        watchdog        |- wakes_at = never -|- copy the watches -|- wakes_at = … -|- wait
        body's thread       put the watch in, then read wakes_at: wake it, if that is later

    Put in after the copy, it either reads *never*, or what has been worked out without it.
    """

    def __init__(self) -> None:
        # A bare lock: entered by Python code, it would stay locked if a limit struck in there.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._watches: dict[_Watch, None] = {}
        self._wakes_at = math.inf
        self._thread: threading.Thread | None = None
        #: The interpreter's switch interval, while another one is set.
        self._interval: float | None = None

    def add(self, watch: _Watch) -> None:
        self._watches[watch] = None
        if self._thread is None or not self._thread.is_alive():
            self._start()
        if watch.due < self._wakes_at - _TOLERANCE_SECONDS:
            self._wake(watch.due)

    def remove(self, watch: _Watch) -> None:
        self._watches.pop(watch, None)

    def look(self) -> None:
        """See now what is due."""
        self._wake(time.monotonic())

    def _start(self) -> None:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._run, name="lambda-celery-time-limits", daemon=True
                )
                self._thread.start()

    def _wake(self, due: float) -> None:
        with self._lock:
            # First: should a limit strike in here, nobody relies on what is not so.
            self._changed.notify()
            self._wakes_at = min(self._wakes_at, due)

    def _hurry(self, hurry: bool) -> None:
        """Have bodies give the interpreter up sooner, if *hurry*; else as before."""
        if hurry and self._interval is None:
            self._interval = sys.getswitchinterval()
            sys.setswitchinterval(_SHORT_INTERVAL_SECONDS)
        elif not hurry and self._interval is not None:
            sys.setswitchinterval(self._interval)
            self._interval = None

    def _run(self) -> None:
        with self._lock:
            while True:
                self._hurry(False)  # between the look and the strike nobody else is to go on
                now = time.monotonic()
                # What ended before its limit leaves the moment behind: the next body's limit is
                # about the same, and would wake this thread once more.
                ahead = self._wakes_at if self._wakes_at > now else math.inf
                self._wakes_at = math.inf
                watches = list(self._watches)
                for watch in watches:
                    if watch.has_ended:  # and a limit struck where it was to be removed
                        self.remove(watch)
                    elif watch.due <= now:
                        watch.strike()
                watches = [each for each in watches if not each.has_ended]
                self._wakes_at = min([ahead, *(each.due for each in watches)])
                self._hurry(any(each.is_spared for each in watches))
                left = self._wakes_at - time.monotonic()
                self._changed.wait(None if math.isinf(left) else max(left, 0))


def _is_log_line(frame: FrameType) -> bool:
    """Whether *frame* is where a handler writes a log line, and reports what is raised."""
    is_emit = frame.f_code.co_name == "emit"
    return is_emit and isinstance(frame.f_locals.get("self"), logging.Handler)


def _class_making(
    limit: type[BaseException], seconds: float | None, when_raised: Callable[[], None] | None = None
) -> type[BaseException]:
    """Return a class that makes ``limit(seconds)``: a class is all that can be set on a thread."""

    def make(*_: Any) -> BaseException:
        if when_raised is not None:
            when_raised()
        return limit(seconds)

    return type(limit.__name__, (limit,), {"__new__": make})


_watchdog = _Watchdog()


def _begin_anew() -> None:
    """Have a watchdog of one's own, in a forked child.

    Its parent's may hold the lock; and who waits there, and is no more, would be woken in the
    place of the child's.
    """
    global _watchdog
    _watchdog = _Watchdog()


os.register_at_fork(after_in_child=_begin_anew)
