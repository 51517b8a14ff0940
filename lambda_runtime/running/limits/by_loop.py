"""Time limits of coroutines: timers of their loop, which cancel.

So none can strike between a body's last line and the keeping of its result. What does not await
cannot be interrupted.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextvars import Context
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded

from lambda_runtime.running.limits.limit import HardTimeLimit, InvocationEnds


class _SoftLimit(SoftTimeLimitExceeded, asyncio.CancelledError):
    """The soft limit as it is raised in a coroutine.

    Being a cancellation too, it ends what the coroutine awaits: asyncio's task groups and
    time-outs take nothing else for a wish from outside.
    """

    def __reduce__(self) -> Any:
        return SoftTimeLimitExceeded, self.args


class _HardLimit(HardTimeLimit, asyncio.CancelledError):
    """The hard limit as it is raised in a coroutine."""


class _End(InvocationEnds, asyncio.CancelledError):
    """The invocation's end as it is raised in a coroutine that has swallowed its soft limit."""


# Results and logs name it as they do everywhere.
_SoftLimit.__name__ = _SoftLimit.__qualname__ = SoftTimeLimitExceeded.__name__
_SoftLimit.__module__ = SoftTimeLimitExceeded.__module__


def limit_behind(exc: asyncio.CancelledError) -> Any:
    """Return the limit, as it is raised elsewhere, that *exc* is or came of."""
    cause: BaseException | None = exc
    while cause is not None:  # asgiref answers a cancellation with one of its own
        if isinstance(cause, _SoftLimit):
            return SoftTimeLimitExceeded(*cause.args).with_traceback(exc.__traceback__)
        if isinstance(cause, _End):
            return InvocationEnds(cause.seconds).with_traceback(exc.__traceback__)
        if isinstance(cause, _HardLimit):
            return HardTimeLimit(cause.seconds).with_traceback(exc.__traceback__)
        cause = cause.__context__
    return None


#: In which timers call. The loop keeps a timer that was cancelled, with its context, for as long
#: as others are due before, and a body's context has all that the body had.
_empty = Context()


class LoopLimits:
    """The limits of one coroutine, of which *passed_seconds* have passed before it began."""

    def __init__(
        self,
        soft_seconds: float | None,
        hard_seconds: float | None,
        passed_seconds: float,
        ends_in_seconds: float = math.inf,
    ) -> None:
        self._soft = soft_seconds
        self._hard = hard_seconds
        self._passed = passed_seconds
        self._ends_in = ends_in_seconds
        self._task: asyncio.Task[None] | None = None
        self._timers: list[asyncio.TimerHandle] = []
        #: The limit that has struck and not yet been raised, and the cancellations for it.
        self._limit: BaseException | None = None
        self._cancellations = 0

    def start(self, task: asyncio.Task[None]) -> None:
        """Strike *task* from now on, when it is time; in the loop's thread."""
        self._task = task
        soft, hard = self._soft, self._hard
        if soft and not (hard and hard <= soft):
            self._later(soft - self._passed, self._strike, _SoftLimit(soft))
        if hard:
            self._later(hard - self._passed, self._strike_again, _HardLimit, hard)
        if not math.isinf(self._ends_in):
            self._later(self._ends_in, self._strike_again, _End, self._ends_in)

    def stop(self) -> None:
        """Strike no more."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def let_go(self) -> None:
        """Forget the asyncio task, which has ended."""
        self._task = None

    def take(self) -> BaseException | None:
        """Return the limit that is to be raised, once, and take its cancellations back."""
        if not self._cancellations:
            return None
        limit, self._limit = self._limit, None
        if (uncancel := getattr(self._task, "uncancel", None)) is not None:  # Python 3.11
            for _ in range(self._cancellations):
                uncancel()
        self._cancellations = 0
        return limit

    def _strike(self, limit: BaseException) -> None:
        assert self._task is not None
        self._limit = limit
        self._cancellations += 1
        self._task.cancel()

    def _strike_again(self, limit: type[_HardLimit | _End], seconds: float) -> None:
        self._strike(limit(seconds))
        # Again: a bare except may swallow it.
        self._later(limit.again_seconds, self._strike_again, limit, seconds)

    def _later(self, seconds: float, strike: Callable[..., None], *args: Any) -> None:
        loop = asyncio.get_running_loop()
        self._timers.append(loop.call_later(seconds, strike, *args, context=_empty))
