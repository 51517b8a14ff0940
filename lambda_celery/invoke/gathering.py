"""Many calls at a time: no more than there are connections, and no more in memory."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from celery import group

from lambda_celery.invoke.calls import CallResult

#: Called with how many calls are through, and how many there are; ``None`` where nobody knows.
Progress = Callable[[int, int | None], None]
#: Given a number and a signature, returns what has become of the call.
Call = Callable[[int, Any], Awaitable[CallResult]]


def signatures_of(given: Any) -> tuple[Iterable[Any], int | None]:
    """Return the signatures in *given*, and how many they are, where that is known."""
    found = given.tasks if isinstance(given, group) else given
    return found, len(found) if hasattr(found, "__len__") else None


def taken_by(
    signatures: Iterable[Any], outside: Callable[[], AbstractContextManager[None]]
) -> Iterator[Any]:
    """Yield the *signatures*, each of which is made *outside*: it may be the caller's generator."""
    with outside():
        iterator = iter(signatures)
    while True:
        with outside():
            try:
                signature = next(iterator)
            except StopIteration:
                return
        yield signature


async def results(
    signatures: Iterable[Any], call: Call, *, width: int, ordered: bool
) -> AsyncGenerator[CallResult]:
    """Yield what has become of the calls of *signatures*, up to *width* of them at a time.

    The next signature is taken when a call is through and was taken from here: so no more than
    *width* are in memory. In the order of the signatures, if they are to be *ordered*: then up to
    as many more are kept that are through before one in front of them. Whoever stops taking has
    the others cancelled.
    """
    numbered = enumerate(signatures)
    through: asyncio.Queue[asyncio.Future[CallResult]] = asyncio.Queue()
    running: set[asyncio.Future[CallResult]] = set()
    kept: dict[int, CallResult] = {}
    due = 0
    try:
        while True:
            room = min(width - len(running), width - len(kept))
            for number, signature in itertools.islice(numbered, max(room, 0)):
                started = asyncio.ensure_future(call(number, signature))
                running.add(started)
                started.add_done_callback(through.put_nowait)
            if not running:
                return  # and nothing is kept: what is in front of it would be running
            ended = await through.get()
            running.discard(ended)
            result = ended.result()
            if not ordered:
                yield result
                continue
            kept[result.index] = result
            while due in kept:
                yield kept.pop(due)
                due += 1
    finally:
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)
