"""Tasks whose body is a coroutine function, ``async def``, which Celery does not have.

Celery calls ``task.run`` and takes what it returns for the result. So where a task comes into
the registry of an app, ``run`` is replaced, on that task alone, by a function that runs the
coroutine to its end: on the function's event loop where the runtime runs an attempt, and else
on one made for it.

A decorator that is an ordinary function can hide a coroutine function. It may run the coroutine
itself or hand it on: only what comes back from a call tells. Where :func:`functools.wraps` has
left its trace, ``run`` is replaced too; of what has left none, the runtime looks at the result.

asyncio is imported where the first of them runs, and not before.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import ContextVar, copy_context
from functools import partial, wraps
from types import AsyncGeneratorType, CoroutineType
from typing import Any, Protocol

from lambda_celery.celery_hooks.declared import is_pydantic
from lambda_celery.celery_hooks.thread_state import CeleryState
from lambda_celery.celery_hooks.wrappers import RUNS_COROUTINES, with_validation

#: What a call that has not run anything yet returns.
UNFINISHED = frozenset({CoroutineType, AsyncGeneratorType})


class Runner(Protocol):
    """Runs what a task consists of, in the place of a call and a loop made for it."""

    def call(self, function: Callable[[], Any]) -> Any:
        """Return what *function* returns, which may be a coroutine."""

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run *coroutine* to its end and return what it returns."""


_runner: ContextVar[Runner | None] = ContextVar("lambda_celery_async_runner", default=None)


def make_synchronous(task: Any) -> bool:
    """Have ``task.run`` run its coroutine, if it may make one; return whether it surely does."""
    # With autoretry_for, run is Celery's own function, which calls this one.
    name = "_orig_run" if hasattr(task, "_orig_run") else "run"
    body: Any = getattr(task, name, None)
    if hasattr(body, RUNS_COROUTINES):
        return bool(getattr(body, RUNS_COROUTINES))
    function = task._decorated_fun if is_pydantic(task) else body
    is_certain = inspect.iscoroutinefunction(function)
    if is_certain:
        run = _synchronous(task, function)
    elif _is_async(inspect.unwrap(function, stop=_is_async)):
        run = _perhaps_asynchronous(task, function)
    else:
        return False
    if is_pydantic(task):
        run = with_validation(task, body, run)
    wraps(body)(run)
    setattr(run, RUNS_COROUTINES, is_certain)
    setattr(task, name, run)
    return is_certain


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _synchronous(task: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        return finish(task, function(*args, **kwargs))

    return run


def _perhaps_asynchronous(task: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        runner = _runner.get()
        if runner is None:
            result = function(*args, **kwargs)
        else:
            with RunBy(None):
                result = runner.call(partial(function, *args, **kwargs))
        return finish(task, result) if type(result) in UNFINISHED else result

    return run


def is_async(task: Any) -> bool:
    """Whether the body of *task* is a coroutine function, or a decorator's around one."""
    return hasattr(getattr(task, "_orig_run", task.run), RUNS_COROUTINES)


class RunBy:
    """A context in which *runner* runs the next asynchronous task."""

    __slots__ = ("_given", "_token")

    def __init__(self, runner: Runner | None) -> None:
        self._given = runner

    def __enter__(self) -> None:
        self._token = _runner.set(self._given)

    def __exit__(self, *_: object) -> None:
        _runner.reset(self._token)


def finish(task: Any, unfinished: Any) -> Any:
    """Run the coroutine that a call of *task* has made, and return what it returns.

    :raises TypeError: it is an asynchronous generator.
    """
    if isinstance(unfinished, AsyncGeneratorType):
        raise TypeError(
            f"The task {task.name} is an asynchronous generator, which nobody would iterate over: "
            "take the yield out of it and return a list, or loop over it in a coroutine."
        )
    import asyncio
    from concurrent.futures import CancelledError

    try:
        runner = _runner.get()
        if runner is None:
            return _run_on_own_loop(unfinished)
        with RunBy(None):  # this one alone: what the body calls directly is no attempt
            return runner.run(unfinished)
    except asyncio.CancelledError as exc:
        # A BaseException, which would end a worker's process, and be no failure in autoretry_for.
        raise CancelledError(f"The coroutine of the task {task.name} was cancelled.") from exc


def _run_on_own_loop(coroutine: Coroutine[Any, Any, Any]) -> Any:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run_in_this_thread(coroutine)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1, thread_name_prefix="async-task") as thread:
        state = CeleryState()
        run = copy_context().run
        return thread.submit(run, state.call, _run_in_this_thread, coroutine).result()


def _run_in_this_thread(coroutine: Coroutine[Any, Any, Any]) -> Any:
    import asyncio

    asgiref = sys.modules.get("asgiref.sync")
    if asgiref is None:
        return asyncio.run(coroutine)
    # As Django does it: what its asynchronous methods do synchronously they do in this thread,
    # with this thread's database connection and transaction. The coroutine is in another.
    state = CeleryState()
    started: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

    async def run() -> Any:
        started.append((asyncio.get_running_loop(), asyncio.current_task()))  # type: ignore[arg-type]
        with state.entered():  # the thread has nothing else to do
            return await coroutine

    try:
        return asgiref.async_to_sync(run, force_new_loop=True)()
    except BaseException:
        # Where a signal has raised it in this thread, the coroutine is to end as well.
        for loop, running in started:
            with suppress(RuntimeError):  # closed: it has ended
                loop.call_soon_threadsafe(running.cancel)
        raise
