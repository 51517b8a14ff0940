"""The limits themselves: what strikes, and how soon it strikes again."""

from __future__ import annotations

from celery.exceptions import TimeLimitExceeded


class HardTimeLimit(BaseException):
    """Ends a task's body. Not an :exc:`Exception`, so that ``except Exception`` lets it pass."""

    #: How soon it comes again: a bare ``except`` may have swallowed it.
    again_seconds = 1.0

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds

    def as_failure(self) -> TimeLimitExceeded:
        """Return what Celery calls it in results and callbacks."""
        return TimeLimitExceeded(self.seconds)


class InvocationEnds(HardTimeLimit):
    """Ends what goes before a task's body, or follows it: a result back end, a broker, a hook.

    And a body that has swallowed its soft limit: the answer has to leave.
    """

    #: What cleans up gets some of the time that is left.
    again_seconds = 0.5
