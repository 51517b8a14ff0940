"""What the calls of one block have in common: the clients, and who calls for each app."""

from __future__ import annotations

import resource
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, NamedTuple

from celery import Celery, states

from lambda_celery.aws.invoking import AsyncLambda
from lambda_celery.conf import settings_of
from lambda_celery.direct_calls import InvocationType
from lambda_celery.exceptions import ConfigurationError
from lambda_celery.invoke import stand_in
from lambda_celery.invoke.calls import Caller, CallResult, function_of
from lambda_celery.invoke.stand_in import Client
from lambda_celery.publishing.captured import Captured, check_single
from lambda_celery.publishing.held_messages import Outgoing

#: A run of 15 minutes, and as long again for Lambda to have room for it.
TIMEOUT_SECONDS = 1800.0
MAX_CONNECTIONS = 200
#: Files that a process has open besides. The default fits into the 256 that macOS allows.
_OTHER_FILES = 50


class Options(NamedTuple):
    """What is said of calls: see :func:`lambda_celery.invoke.invoke`."""

    function: str | None = None
    timeout: float = TIMEOUT_SECONDS
    kind: InvocationType = InvocationType.REQUEST_RESPONSE
    #: Entered for the caller's own code, on the event loop's thread. To whoever called without
    #: asyncio, no loop runs there: Django's database methods would refuse to.
    outside: Callable[[], AbstractContextManager[None]] = nullcontext


class Calling:
    """Calls tasks, with connections that are open as long as the block is: on one event loop."""

    def __init__(self, max_connections: int) -> None:
        """See :func:`lambda_celery.invoke.gather`."""
        if max_connections < 1:
            raise ValueError("max_connections is at least 1.")
        self._max_connections = max_connections
        self._captured = Captured()
        self._clients: dict[Celery, Client] = {}
        self._callers: dict[tuple[Celery, str], Caller] = {}

    async def __aenter__(self) -> Calling:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connections."""
        for each in self._clients.values():
            await each.close()

    async def result(self, options: Options, index: int, signature: Any) -> CallResult:
        """Return what has become of the call of *signature*; raise nothing of the task's."""
        task_id = None
        try:
            with options.outside():
                prepared = prepare(index, signature, self._captured)
            if isinstance(prepared, CallResult):
                return prepared
            task_id, outgoing = prepared
            value = await self.call(options, signature.app, task_id, outgoing)
            return CallResult(index, task_id, value)
        except Exception as exc:  # noqa: BLE001 - the task's, or why it has none
            return CallResult(index, task_id, exception=exc)

    async def call(self, options: Options, app: Celery, task_id: str, outgoing: Outgoing) -> Any:
        """Return what the task returns that *outgoing* calls; or its handle, if nobody waits."""
        caller = self._caller(app, options.function)
        if options.kind is InvocationType.REQUEST_RESPONSE:
            return await caller.call(task_id, outgoing, options.timeout)
        await caller.send(task_id, outgoing, options.timeout)
        return app.AsyncResult(task_id)

    def _caller(self, app: Celery, given: str | None) -> Caller:
        settings = settings_of(app)
        function = function_of(settings, given)
        if (found := self._callers.get((app, function))) is not None:
            return found
        if (client := self._clients.get(app)) is None:
            client = stand_in.current() or AsyncLambda(settings, self._max_connections)
            self._clients[app] = client
        made = Caller(app, settings, client, function, self._max_connections)
        self._callers[app, function] = made
        return made


def prepare(index: int, signature: Any, captured: Captured) -> CallResult | tuple[str, Outgoing]:
    """Return the id and the message of a call; or its result, with ``task_always_eager``.

    Raises what :meth:`Captured.message_of` raises.
    """
    if is_eager(signature):
        return _eager(index, signature)
    return captured.message_of(signature)


def is_eager(signature: Any) -> bool:
    """Whether *signature* is called here, as Celery does with ``task_always_eager``.

    :raises TypeError: it is none of a single task.
    """
    check_single(signature)
    return bool(signature.app.conf.task_always_eager)


def _eager(index: int, signature: Any) -> CallResult:
    """Call *signature* here, as Celery does with ``task_always_eager``."""
    ended = signature.apply(throw=False)
    if ended.state == states.SUCCESS:
        return CallResult(index, ended.id, ended.result)
    exc = ended.result if isinstance(ended.result, BaseException) else Exception(ended.result)
    return CallResult(index, ended.id, exception=exc)


def most_connections() -> float:
    """Return how many connections this process may have, by the files that it may open."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return float("inf") if limit == resource.RLIM_INFINITY else limit - _OTHER_FILES


def check_files(connections: int) -> None:
    """Refuse more *connections* than this process may have files.

    :raises ConfigurationError: it may not have so many.
    """
    if connections > (most := most_connections()):
        raise ConfigurationError(
            f"max_connections is {connections}, but this process may have {most + _OTHER_FILES:g} "
            f"files open, and needs some {_OTHER_FILES} for others: raise the limit (ulimit -n), "
            "or give fewer."
        )
