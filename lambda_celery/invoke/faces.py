"""The functions that others call, for asyncio and without it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from functools import partial
from typing import Any

from lambda_celery.celery_hooks.running_loop import hidden_loop
from lambda_celery.direct_calls import InvocationType
from lambda_celery.invoke import stand_in
from lambda_celery.invoke.background import begin
from lambda_celery.invoke.calling import (
    MAX_CONNECTIONS,
    TIMEOUT_SECONDS,
    Calling,
    Options,
    check_files,
    is_eager,
)
from lambda_celery.invoke.calls import CallResult
from lambda_celery.invoke.gathering import Progress, results, signatures_of, taken_by

_AWAITED = InvocationType.REQUEST_RESPONSE.value


def invoke(
    signature: Any,
    *,
    function: str | None = None,
    timeout: float = TIMEOUT_SECONDS,
    invocation_type: str = _AWAITED,
) -> Any:
    """Call the task of *signature* on the function, and return what it returns.

    The same as ``task.invoke(…)``, for which Celery's options can be given: a signature has them,
    as in ``add.s(2, 3).set(expires=60)``.

    :param function: the function's name or ARN, in the place of the setting ``function``.
    :param timeout: after how many seconds it is given up, all attempts and waiting included.
    :param invocation_type: ``"Event"`` waits for nothing: it returns Celery's ``AsyncResult`` when
        Lambda has taken the call. A call that fails then goes on by the task's queue.
    :raises celery.exceptions.TimeoutError: there was no answer in time. The task may still run.
    :raises celery.exceptions.TimeLimitExceeded: the function's time has run out.
    :raises celery.exceptions.WorkerLostError: the function's process has died.
    :raises CallFailedError: Lambda refused the call, or there is no result for another reason.

    Whatever the task raises is raised again here, with the traceback of the function as its cause.
    """
    options = Options(function, timeout, InvocationType(invocation_type))
    if (called := stand_in.current()) is not None and not is_eager(signature):
        return called.run(_alone(signature, options), hides_loop=True)
    begun = begin(signature, options)
    if isinstance(begun, CallResult):
        return begun.get()
    try:
        return begun.result()
    finally:
        begun.cancel()  # for who is interrupted, by Ctrl-C or a time limit


async def ainvoke(
    signature: Any,
    *,
    function: str | None = None,
    timeout: float = TIMEOUT_SECONDS,
    invocation_type: str = _AWAITED,
) -> Any:
    """Call the task of *signature* as :func:`invoke` does, without blocking the event loop."""
    options = Options(function, timeout, InvocationType(invocation_type))
    if stand_in.current() is not None:  # on the caller's loop
        return await _alone(signature, options)
    begun = begin(signature, options)
    return begun.get() if isinstance(begun, CallResult) else await asyncio.wrap_future(begun)


def gather(
    signatures: Iterable[Any],
    *,
    max_connections: int = MAX_CONNECTIONS,
    return_exceptions: bool = False,
    progress: Progress | None = None,
    function: str | None = None,
    timeout: float = TIMEOUT_SECONDS,
    invocation_type: str = _AWAITED,
) -> list[Any]:
    """Call all *signatures* on the function, and return what they return, in their order.

    :param signatures: of single tasks: any iterable, which is consumed as calls come to an end; or
        a group.
    :param max_connections: how many calls are under way at a time. Each takes an environment of
        the function's; where it has no more of them, the calls wait, and try again.
    :param return_exceptions: an exception stands in the place of its result, as in
        :func:`asyncio.gather`. Else the first one is raised, and the calls that are under way are
        not waited for. Those run to their end all the same.
    :param progress: called with how many calls are through, and how many there are (``None`` for
        an iterable without a length).
    :param timeout: in seconds, of each call: see :func:`invoke`, for the rest as well.

    In a coroutine, await :func:`agather` instead.

    :raises RuntimeError: an event loop runs on this thread.
    """
    called = stand_in.current()
    run = asyncio.run if called is None else called.run
    options = Options(function, timeout, InvocationType(invocation_type), hidden_loop)
    return run(_gathered(signatures, max_connections, return_exceptions, progress, options))


async def agather(
    signatures: Iterable[Any],
    *,
    max_connections: int = MAX_CONNECTIONS,
    return_exceptions: bool = False,
    progress: Progress | None = None,
    function: str | None = None,
    timeout: float = TIMEOUT_SECONDS,
    invocation_type: str = _AWAITED,
) -> list[Any]:
    """Call all *signatures* as :func:`gather` does, on the event loop that runs."""
    options = Options(function, timeout, InvocationType(invocation_type))
    return await _gathered(signatures, max_connections, return_exceptions, progress, options)


async def stream(
    signatures: Iterable[Any],
    *,
    max_connections: int = MAX_CONNECTIONS,
    ordered: bool = False,
    progress: Progress | None = None,
    function: str | None = None,
    timeout: float = TIMEOUT_SECONDS,
    invocation_type: str = _AWAITED,
) -> AsyncGenerator[CallResult]:
    """Call all *signatures*, and yield what has become of each as it comes: ``async for``.

    What is in memory is bounded by *max_connections*, however many signatures there are: no more
    are called while nobody takes what there is. A loop that is left early leaves the calls that
    are under way to be cancelled when the iterator is closed: use :func:`contextlib.aclosing`.

    :param ordered: in the order of the signatures. One slow call then holds up to
        *max_connections* results behind it.

    The rest is as :func:`gather` has it.
    """
    options = Options(function, timeout, InvocationType(invocation_type))
    answers = _streamed(signatures, max_connections, ordered, progress, options)
    async with aclosing(answers) as taken:
        async for each in taken:
            yield each


async def _alone(signature: Any, options: Options) -> Any:
    [value] = await _gathered([signature], MAX_CONNECTIONS, False, None, options)
    return value


async def _gathered(
    signatures: Iterable[Any],
    max_connections: int,
    return_exceptions: bool,
    progress: Progress | None,
    options: Options,
) -> list[Any]:
    gathered: dict[int, Any] = {}
    answers = _streamed(signatures, max_connections, False, progress, options)
    async with aclosing(answers) as taken:
        async for each in taken:
            if each.exception is not None and not return_exceptions:
                raise each.exception
            gathered[each.index] = each.result if each.exception is None else each.exception
    return [gathered[index] for index in range(len(gathered))]


async def _streamed(
    signatures: Iterable[Any],
    max_connections: int,
    ordered: bool,
    progress: Progress | None,
    options: Options,
) -> AsyncGenerator[CallResult]:
    found, total = signatures_of(signatures)
    check_files(max_connections)
    through = 0
    async with Calling(max_connections) as calling:
        call = partial(calling.result, options)
        answers = results(
            taken_by(found, options.outside), call, width=max_connections, ordered=ordered
        )
        async with aclosing(answers) as taken:
            async for each in taken:
                through += 1
                if progress is not None:
                    with options.outside():
                        progress(through, total)
                yield each
