"""Who takes direct calls in the place of Lambda: in the tests of projects, and nowhere else."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from lambda_celery.aws.invoking import Reply


class Client(Protocol):
    """What :class:`~lambda_celery.aws.invoking.AsyncLambda` does for those who call."""

    async def invoke(self, function: str, payload: bytes, invocation_type: str) -> Reply:
        """Call *function* with *payload*, which is JSON."""

    def time(self) -> float:
        """Return the time in seconds, by the clock that :meth:`pause` goes by."""

    async def pause(self, seconds: float) -> None:
        """Return *seconds* later."""

    async def close(self) -> None:
        """End the connections."""


class StandIn(Client, Protocol):
    """A client that needs no connection, and runs the function in this process."""

    def run(self, coroutine: Coroutine[Any, Any, Any], *, hides_loop: bool = False) -> Any:
        """Run *coroutine*, which calls, to its end on this thread.

        :param hides_loop: an event loop may run on this thread, which waits meanwhile.
        :raises RuntimeError: one runs, and it is not to be hidden.
        """


_current: StandIn | None = None


def current() -> StandIn | None:
    """Return who stands in, if anybody does."""
    return _current


@contextmanager
def standing_in(client: StandIn) -> Iterator[None]:
    """Have *client* take all direct calls of this process within the context."""
    global _current
    before, _current = _current, client
    try:
        yield
    finally:
        _current = before
