"""Serving an ASGI application on this machine's loopback address, in a thread."""

from __future__ import annotations

import errno
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from lambda_celery.exceptions import LambdaCeleryError

#: Nobody else reaches it.
_HOST = "127.0.0.1"


def listen(port: int, *, remedy: str) -> socket.socket:
    """Return a socket that listens on *port* of 127.0.0.1: whoever asks, waits until it is served.

    :param port: 0 for any that is free.
    :param remedy: what to do if it is taken.
    :raises LambdaCeleryError: the port is taken, or may not be used.
    """
    made = socket.socket()
    # Else a port that has just been left would be taken for a minute.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((_HOST, port))
        made.listen()
    except OverflowError as exc:  # of the one after the last, which the local runner may choose
        made.close()
        raise LambdaCeleryError(f"There is no port {port}: the last one is 65535.") from exc
    except OSError as exc:
        made.close()
        if exc.errno == errno.EADDRINUSE:
            raise LambdaCeleryError(
                f"Port {port} of {_HOST} is taken by another program{remedy}"
            ) from exc
        raise LambdaCeleryError(f"Port {port} of {_HOST} cannot be used: {exc.strerror}.") from exc
    return made


def url_of(listening: socket.socket) -> str:
    """Return the URL of what is served there, without a slash at the end."""
    return f"http://{_HOST}:{listening.getsockname()[1]}"


@contextmanager
def serving(
    application: Any,
    listening: socket.socket,
    *,
    name: str,
    grace_seconds: int | None,
    keep_alive_seconds: int = 5,
    has_lifespan: bool = False,
) -> Iterator[None]:
    """Serve *application* in a thread. The socket is closed at the end.

    :param name: the thread's.
    :param grace_seconds: how long what is being answered has at the end; ``None``: until it is.
    :param keep_alive_seconds: how long a connection is kept on which nothing is asked.
    :param has_lifespan: whether *application* is told of its beginning and its end.
    """
    server = uvicorn.Server(
        uvicorn.Config(
            application,
            http="h11",
            ws="none",
            lifespan="on" if has_lifespan else "off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=grace_seconds,
            timeout_keep_alive=keep_alive_seconds,
        )
    )
    thread = threading.Thread(target=server.run, args=([listening],), name=name, daemon=True)
    with listening:
        thread.start()
        try:
            yield
        finally:
            with _cut_off():
                server.should_exit = True
                thread.join()


@contextmanager
def _cut_off() -> Iterator[None]:
    """Have nothing told of answers that are slow: to end before these is no error."""
    uvicorns = logging.getLogger("uvicorn.error")

    def nothing(_: logging.LogRecord) -> bool:
        return False

    uvicorns.addFilter(nothing)
    try:
        yield
    finally:
        uvicorns.removeFilter(nothing)
