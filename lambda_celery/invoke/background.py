"""The event loop of this process for single calls: they share its connections.

It runs on a thread of its own, from the first call on: a caller may have a loop or none, and the
next caller another one.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from lambda_celery.invoke.calling import Calling, prepare
from lambda_celery.invoke.calls import CallResult
from lambda_celery.publishing.captured import Captured

#: How long the process's end waits for the connections to be closed.
_CLOSING_SECONDS = 2.0

_lock = threading.Lock()
#: By process: a forked child has neither the thread nor the connections.
_loops: dict[int, Background] = {}


class Background:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._callings: dict[Any, Calling] = {}
        threading.Thread(
            target=self._loop.run_forever, name="lambda-celery-calls", daemon=True
        ).start()

    def submit(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Run *coroutine* on the loop; whoever cancels the future cancels it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def calling(self, **options: Any) -> Calling:
        """Return what makes all calls with the same *options*: with the same connections."""
        key = tuple(options.items())
        if (found := self._callings.get(key)) is None:
            found = self._callings.setdefault(key, Calling(**options))
        return found

    async def close(self) -> None:
        """End the connections."""
        for each in self._callings.values():
            await each.close()


def begin(signature: Any, **options: Any) -> CallResult | Future[Any]:
    """Begin to call *signature*, with the *options* of :class:`Calling`.

    What is sent is made here, in the caller's context, which has its batch, its trace and the task
    that runs. If it is called at once (``task_always_eager``), what became of it is returned.
    """
    loop = background()
    calling = loop.calling(**options)
    prepared = prepare(0, signature, Captured())
    if isinstance(prepared, CallResult):
        return prepared
    return loop.submit(calling.call(signature.app, *prepared))


def background() -> Background:
    """Return this process's."""
    with _lock:
        if (found := _loops.get(os.getpid())) is None:
            found = _loops[os.getpid()] = Background()
            atexit.register(_close, os.getpid())
        return found


def _close(process_id: int) -> None:
    if os.getpid() == process_id:
        with suppress(Exception):  # the process ends
            made = _loops[process_id]
            made.submit(made.close()).result(_CLOSING_SECONDS)
