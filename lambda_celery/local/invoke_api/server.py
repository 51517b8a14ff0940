"""Serving the Invoke API on loopback."""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from lambda_celery import serving as loopback
from lambda_celery.local.function import FUNCTION_NAME
from lambda_celery.local.invoke_api.application import Function, InvokeApplication
from lambda_celery.local.runtime_api import Outcome

#: How long Lambda waits before each further attempt of an event.
RETRY_DELAYS_SECONDS = (60, 120)
#: Longer than clients keep a connection, which else might end just when they use it again.
_KEEP_ALIVE_SECONDS = 75


def listen(port: int) -> socket.socket:
    """Return a socket that listens on *port* of 127.0.0.1; 0 for any that is free.

    Raises :exc:`LambdaCeleryError` if the port is taken, or may not be used.
    """
    return loopback.listen(port, remedy=": choose another port by --invoke-port.")


@contextmanager
def serving(
    function: Function,
    listening: socket.socket | None = None,
    *,
    names: Collection[str] = (FUNCTION_NAME,),
    retry_delays_seconds: Sequence[float] = RETRY_DELAYS_SECONDS,
    on_outcome: Callable[[Outcome, float], None] | None = None,
) -> Iterator[str]:
    """Serve the Invoke API of *function* in a thread, and yield its endpoint URL.

    At the end, what runs may finish, and what is queued is dropped.

    Arguments:
        function: takes the calls. To have the end of its log, it must keep that.
        listening: where; default: any free port.
        names: of the function. Any qualifier is taken.
        retry_delays_seconds: how long each further attempt of an event is waited for.
        on_outcome: called with each outcome, and how many seconds it took.
    """
    listening = listening or listen(0)
    application = InvokeApplication(function, names, retry_delays_seconds, on_outcome)
    with loopback.serving(
        application.asgi,
        listening,
        name="lambda-celery-invoke",
        grace_seconds=None,
        keep_alive_seconds=_KEEP_ALIVE_SECONDS,
        has_lifespan=True,
    ):
        yield loopback.url_of(listening)
