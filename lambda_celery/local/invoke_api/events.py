"""Invocations that nobody waits for: queued, and tried again after an error."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from lambda_celery.exceptions import LambdaCeleryError
from lambda_celery.local.runtime_api import Outcome, Request

logger = logging.getLogger(__name__)


class EventQueue:
    """Runs requests in their order, as places get free. All of it is of one event loop.

    Arguments:
        run: runs one request, and waits for a place.
        at_a_time: how many are run at the same time at most.
        retry_delays_seconds: how long each of the further attempts is waited for after an error.
    """

    def __init__(
        self,
        run: Callable[[Request], Awaitable[Outcome]],
        at_a_time: int,
        retry_delays_seconds: Sequence[float],
    ) -> None:
        self._run = run
        self._places = asyncio.Semaphore(at_a_time)
        self._retry_delays_seconds = tuple(retry_delays_seconds)
        self._waiting: set[asyncio.Task[None]] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._is_closing = False

    def put(self, request: Request) -> None:
        """Take *request*, which is run soon."""
        self._waiting.add(asyncio.create_task(self._deliver(request)))

    async def close(self) -> None:
        """Let those that run finish, and drop the others, each with a line of the log."""
        self._is_closing = True
        everything = self._waiting | self._running
        for each in self._waiting:
            each.cancel()
        await asyncio.gather(*everything, return_exceptions=True)

    async def _deliver(self, request: Request) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            error = await self._attempts(request, task)
        except asyncio.CancelledError:
            error = "the local function ends"
        finally:
            self._waiting.discard(task)
            self._running.discard(task)
        if error is not None:
            logger.error("The event of the call %s was dropped: %s", request.request_id, error)

    async def _attempts(self, request: Request, task: asyncio.Task[None]) -> str | None:
        """Return why the last attempt has failed, or ``None`` if it has not."""
        for delay_seconds in (*self._retry_delays_seconds, None):
            async with self._places:
                self._waiting.discard(task)
                self._running.add(task)
                try:
                    outcome = await self._run(request)
                except LambdaCeleryError as exc:
                    return str(exc)
                finally:
                    self._running.discard(task)
            if outcome.error is None or delay_seconds is None or self._is_closing:
                return outcome.error
            logger.warning(
                "The event of the call %s failed, and is tried again in %g s: %s",
                request.request_id,
                delay_seconds,
                outcome.error,
            )
            self._waiting.add(task)
            await asyncio.sleep(delay_seconds)
        raise AssertionError("unreachable")
