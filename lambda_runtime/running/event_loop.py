"""The event loop on which the bodies of asynchronous tasks run: one a process, on its own thread.

Celery's tracer is synchronous. Where nothing but the body takes time, it runs in a greenlet on the
loop's thread (:func:`start`). Else it runs on a thread of the pool. There it waits for the task's
coroutine, which runs here among the others. What Celery keeps for each thread, or greenlet, the
request for one, is therefore put in place before each step of a coroutine, and taken away after
it, as are X-Ray's subsegments::

    tracer            prerun |- - - - - - waits - - - - - -| success, chain, result, postrun
    loop's thread            | step |  ...  | step | step |
                               other bodies' steps in between

Time limits are timers of the loop, so that none can strike between a body's last line and the
keeping of its result. What does not await cannot be interrupted.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import math
import os
import threading
from collections.abc import Callable, Coroutine, Generator
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any
from weakref import WeakSet

from lambda_celery.celery_hooks.thread_state import CeleryState
from lambda_celery.trace_context import XRayEntities
from lambda_runtime.running import connections, greenlets, loop_threads
from lambda_runtime.running.left_behind import end_if_forked
from lambda_runtime.running.limits.by_loop import LoopLimits, limit_behind

logger = logging.getLogger(__name__)


def run(
    coroutine: Coroutine[Any, Any, Any],
    *,
    name: str,
    task_id: str,
    soft_seconds: float | None,
    hard_seconds: float | None,
    passed_seconds: float = 0.0,
    ends_in_seconds: float = math.inf,
) -> Any:
    """Run the *coroutine* of the task *name* on the loop, and return what it returns.

    Of both limits *passed_seconds* have passed already, in what made the coroutine.

    :raises SoftTimeLimitExceeded: raised in the coroutine, after *soft_seconds*.
    :raises HardTimeLimit: raised in the coroutine, after *hard_seconds*.
    :raises InvocationEnds: raised in the coroutine, after *ends_in_seconds*.
    """
    is_here = _thread.is_current()
    limits = LoopLimits(soft_seconds, hard_seconds, passed_seconds, ends_in_seconds)
    loop = _thread.loop()
    # Who gives way on the loop needs no lock.
    finished: _Finished = loop.create_future() if is_here else concurrent.futures.Future()
    body = _Body(coroutine, name, task_id, limits, finished)
    try:
        if is_here:
            greenlets.give_way(partial(body.begin, loop))
            return body.finished.result()
        loop.call_soon_threadsafe(body.start, loop)  # in a copy of this context
        return body.finished.result()
    except BaseException:
        if not body.finished.done():  # a signal has raised it here, on the main thread
            loop.call_soon_threadsafe(body.cancel)
        raise
    finally:
        del body  # else it and the exception, by its traceback, would hold each other


def start(step: Callable[[], None]) -> None:
    """Have *step* called on the loop's thread, in a greenlet.

    It must not wait for anything but coroutines, by :func:`run`.
    """
    _thread.start(step)


def close_database_connections() -> None:
    """Close the connections of the threads in which bodies have done what is synchronous."""
    if connections.uses_django():
        _thread.close_database_connections()


#: Where a body's result is waited for.
_Finished = asyncio.Future[Any] | concurrent.futures.Future[Any]


class _Body:
    """One run of a task's coroutine."""

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        name: str,
        task_id: str,
        limits: LoopLimits,
        finished: _Finished,
    ) -> None:
        self.state = CeleryState()
        self.entities = XRayEntities.under_way()
        self.finished = finished
        self.children: WeakSet[asyncio.Task[Any]] | None = None
        self._coroutine = coroutine
        self._name = name
        self._task_id = task_id
        self.limits = limits
        self._task: asyncio.Task[None] | None = None

    @property
    def _label(self) -> str:
        return f"Task {self._name}[{self._task_id}]"

    def begin(self, loop: asyncio.AbstractEventLoop, then: Callable[[], None]) -> None:
        """Begin, in a copy of this context; call *then*, on the loop, at the end."""
        self.finished.add_done_callback(lambda _: then())
        copy_context().run(self.start, loop)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin; in the loop's thread, in a context of its own."""
        _current.set(self)
        # Whatever the loop's task factory is by now: an eager one would begin right here.
        steps = _BodySteps(self._run(), self, self.entities)
        self._task = asyncio.Task(steps, loop=loop, name=self._task_id)
        self._task.add_done_callback(self._let_go)

    def _let_go(self, _task: asyncio.Task[None]) -> None:
        # It has this in its context. As garbage of thousands of bodies, which hold each other, it
        # costs more than the bodies: each full collection stops the loop for a tenth of a second.
        self._task = None
        self.limits.let_go()
        if not self.finished.done():  # somebody has cancelled it before its first step
            self._coroutine.close()
            self.finished.set_exception(asyncio.CancelledError())

    def cancel(self) -> None:
        """End it where it awaits, if it has begun."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        result: Any = None
        failure: BaseException | None = None
        thread = _thread.bodies.of_body(self._label)
        # Here: a task that is cancelled before its first step never comes to its end.
        assert self._task is not None
        self.limits.start(self._task)
        process_id = os.getpid()
        try:
            result = await self._coroutine
        except asyncio.CancelledError as exc:
            failure = limit_behind(exc) or exc
        except BaseException as exc:  # noqa: BLE001 - for the tracer to judge; the loop is everybody's
            failure = exc
        end_if_forked(process_id, self._label)
        self.limits.stop()
        try:
            await self._end_children()
            # Those of the loop's thread, which Django permits if told to, are the context's.
            connections.close_database_connections()
            connections.close_caches()
        finally:
            if thread is not None:
                thread.end(is_complete=failure is None)
            if failure is None:
                self.finished.set_result(result)
            else:
                self.finished.set_exception(failure)
            failure = None  # else it and this frame would hold each other

    async def _end_children(self) -> None:
        left = [each for each in self.children or () if not each.done()]
        if not left:
            return
        logger.warning(
            "Task %s[%s] has ended and left %d asyncio tasks behind, which are cancelled, because "
            "Lambda would freeze them: await what the task starts.",
            self._name, self._task_id, len(left),
        )  # fmt: skip
        for each in left:
            each.cancel()
        await asyncio.wait(left, timeout=loop_threads.CLEAN_UP_SECONDS)


#: The body that what runs on the loop belongs to.
_current: ContextVar[_Body | None] = ContextVar("lambda_runtime_async_body", default=None)


class _Steps(Coroutine[Any, Any, Any]):
    """A coroutine each of whose steps finds the state of the task that it belongs to."""

    __slots__ = ("_body", "_coroutine", "_entities")

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any], body: _Body, entities: XRayEntities | None
    ) -> None:
        self._coroutine = coroutine
        self._body = body
        self._entities = entities

    def send(self, value: Any) -> Any:
        """Go on with *value*."""
        return self._step(self._coroutine.send, value)

    def throw(self, *exception: Any) -> Any:
        """Go on with an exception."""
        return self._step(self._coroutine.throw, *exception)

    def close(self) -> None:
        """End."""
        self._step(self._coroutine.close)

    def _step(self, function: Callable[..., Any], *args: Any) -> Any:
        if self._entities is None:
            return self._body.state.call(function, *args)
        return self._entities.call(self._body.state.call, function, *args)

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()

    def __getattr__(self, name: str) -> Any:
        # cr_frame and its like, for asyncio's representations and stacks
        return getattr(self._coroutine, name)


class _BodySteps(_Steps):
    """A body's own coroutine: its time limits come as cancellations."""

    __slots__ = ()

    def send(self, value: Any) -> Any:
        """Go on with *value*."""
        # A limit is swallowed, if there is one, by what the body has awaited: as its cancellation.
        # It has a result, and that must not be lost.
        self._body.limits.take()
        return super().send(value)

    def throw(self, *exception: Any) -> Any:
        """Go on with an exception."""
        limit = self._body.limits.take()
        thrown = exception[-1] if len(exception) == 1 else exception[1]
        if limit is not None and isinstance(thrown, asyncio.CancelledError):
            return super().throw(limit)
        return super().throw(*exception)


def _make_task(
    loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
) -> asyncio.Task[Any]:
    """Make an asyncio task: the loop's task factory."""
    body = _current.get()
    if body is None or isinstance(coroutine, _BodySteps):
        return asyncio.Task(coroutine, loop=loop, **options)
    task = asyncio.Task(_Steps(coroutine, body, XRayEntities.under_way()), loop=loop, **options)
    if body.children is None:
        body.children = WeakSet()
    body.children.add(task)
    return task


class _LoopThread:
    """The thread of the loop, started at first use."""

    def __init__(self) -> None:
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._steps: list[Callable[[], None]] = []
        self._adding = threading.Lock()
        self._executor: loop_threads.LoopExecutor | None = None
        #: The threads of bodies.
        self.bodies = loop_threads.Threads()

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop, which is running."""
        with self._starting:
            # No thread survives a fork.
            if self._loop is None or self._thread is None or not self._thread.is_alive():
                self._steps = []
                self._loop = asyncio.new_event_loop()
                self._loop.set_task_factory(_make_task)
                self.bodies = loop_threads.Threads()
                self._executor = loop_threads.LoopExecutor()
                self._loop.set_default_executor(self._executor)
                self._thread = threading.Thread(
                    target=_serve, args=(self._loop,), name="lambda-celery-event-loop", daemon=True
                )
                self._thread.start()
            return self._loop

    def is_current(self) -> bool:
        """Whether this is the loop's thread."""
        return self._thread is threading.current_thread()

    def close_database_connections(self) -> None:
        """Close the connections of all threads that bodies use."""
        if self._loop is None or self._executor is None:
            return
        self._executor.close_connections()
        if self.bodies.close_connections():
            logger.warning(
                "What a task has left in the thread of Django's asynchronous methods blocks it. "
                "It is left to itself: give what blocks, such as a query, a time-out of its own."
            )

    def start(self, step: Callable[[], None]) -> None:
        loop = self.loop()
        with self._adding:
            self._steps.append(step)
            is_first = len(self._steps) == 1
        if is_first:  # else it is called already
            loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        with self._adding:
            steps, self._steps = self._steps, []
        for step in steps:
            greenlets.start(step)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    while True:
        try:
            loop.run_forever()
        except BaseException as exc:  # noqa: BLE001
            # asyncio lets KeyboardInterrupt and SystemExit of a task through to here. Who awaits
            # that task gets it too; the others go on.
            logger.error("An asyncio task of a task's raised %r", exc)


_thread = _LoopThread()
