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

from lambda_celery.invoke.calling import (
    MAX_CONNECTIONS,
    Calling,
    Options,
    most_connections,
    prepare,
)
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
        self.calling = Calling(int(max(1, min(MAX_CONNECTIONS, most_connections()))))
        threading.Thread(
            target=self._loop.run_forever, name="lambda-celery-calls", daemon=True
        ).start()

    def submit(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Run *coroutine* on the loop; whoever cancels the future cancels it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    async def close(self) -> None:
        """End what is under way, and the connections."""
        under_way = asyncio.all_tasks() - {asyncio.current_task()}
        for each in under_way:
            each.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await self.calling.close()


def begin(signature: Any, options: Options) -> CallResult | Future[Any]:
    """Begin to call *signature*.

    What is sent is made here, in the caller's context, which has its batch, its trace and the task
    that runs. If it is called at once (``task_always_eager``), what became of it is returned.
    """
    prepared = prepare(0, signature, Captured())
    if isinstance(prepared, CallResult):
        return prepared
    loop = background()
    return loop.submit(loop.calling.call(options, signature.app, *prepared))


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
