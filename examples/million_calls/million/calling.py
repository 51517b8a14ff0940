"""Many calls at a time, and no more than a number of them: as many coroutines, one row each."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

import aiohttp
from celery.exceptions import SoftTimeLimitExceeded

from million.progress import Progress
from million.rows import Row

ATTEMPTS = 5
BACKOFF_SECONDS = 0.2
BACKOFF_MAX_SECONDS = 20.0
#: A run that is killed calls those rows again that were settled since then.
SAVE_SECONDS = 1.0

TOO_MANY_REQUESTS = 429
SERVER_ERROR = 500
ERROR = 400


class Answer(NamedTuple):
    """What a service has answered: the status, and how long it wants to be left alone."""

    status: int
    retry_after_seconds: float = 0.0


#: Takes a key that is the same whenever a row is called, and the row's fields.
Call = Callable[[str, list[str]], Awaitable[Answer]]


class Calling:
    """Calls every row of a slice.

    Arguments:
        call: makes one call.
        progress: has the rows.
        stop_seconds: how long calls under way may still take when the invocation's time runs out.
    """

    def __init__(self, call: Call, progress: Progress, stop_seconds: float) -> None:
        self._call = call
        self._progress = progress
        self._stop_seconds = stop_seconds
        self._stopping = asyncio.Event()
        self._over = asyncio.Event()

    async def run(self, in_flight: int) -> bool:
        """Make the calls, *in_flight* at a time; return whether all rows are settled.

        They are not if the soft time limit has struck, which an invocation's end does as well.
        Then nothing more is begun, and what is under way ends. Either way all is saved.
        """
        callers = [asyncio.create_task(self._work()) for _ in range(in_flight)]
        calls = asyncio.gather(*callers)
        saver = asyncio.create_task(self._save_now_and_then())
        # asyncio.wait() leaves alone what it waits for when the time limit ends the waiting.
        watched = partial(asyncio.wait, (calls, saver), return_when=asyncio.FIRST_COMPLETED)
        try:
            try:
                await watched()
            except SoftTimeLimitExceeded:
                self._stopping.set()
                await watched(timeout=self._stop_seconds)
            for each in (calls, saver):
                if each.done():
                    each.result()  # raises what it has raised
            await _cancel(callers)
            self._over.set()
            await saver  # never in the middle of a save
        finally:
            await _cancel([*callers, saver])
        await self._progress.save()
        return not self._stopping.is_set()

    async def _work(self) -> None:
        while not self._stopping.is_set() and (row := await self._progress.take()) is not None:
            status = await self._settle(row)
            if status is None:
                return  # it stays open
            if isinstance(status, int) and status < ERROR:
                self._progress.succeeded(row)
            else:
                self._progress.failed(row, status)

    async def _settle(self, row: Row) -> int | str | None:
        """Call until the answer is final; return its status, or ``None`` if time has run out."""
        key, fields = self._progress.call_of(row)
        attempt = 1
        while True:
            status: int | str
            try:
                status, wait_seconds = await self._call(key, fields)
            except (aiohttp.ClientError, TimeoutError, OSError) as exc:
                status, wait_seconds = type(exc).__name__, 0.0
            else:
                if status != TOO_MANY_REQUESTS and status < SERVER_ERROR:
                    return status
            if attempt == ATTEMPTS:
                return status
            wait_seconds = min(max(wait_seconds, backoff_seconds(attempt)), BACKOFF_MAX_SECONDS)
            if await _is_set_within(wait_seconds, self._stopping):
                return None
            attempt += 1

    async def _save_now_and_then(self) -> None:
        while not await _is_set_within(SAVE_SECONDS, self._over):
            await self._progress.save()


async def _is_set_within(seconds: float, event: asyncio.Event) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for each in tasks:
        each.cancel()
    await asyncio.wait(tasks)


def backoff_seconds(attempt: int) -> float:
    """Return how long to wait after *attempt*: drawn up to a bound that doubles each time."""
    bound = min(BACKOFF_SECONDS * 2 ** (attempt - 1), BACKOFF_MAX_SECONDS)
    return random.uniform(0.0, bound)
