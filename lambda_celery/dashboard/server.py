"""Serving the page on this machine, in a thread."""

from __future__ import annotations

import errno
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn
from celery import Celery

from lambda_celery.dashboard.answers import Answers
from lambda_celery.dashboard.web import application
from lambda_celery.exceptions import LambdaCeleryError

if TYPE_CHECKING:
    from lambda_celery.status.source import Source

#: Nobody else reaches it: a figure is no secret from who works here, but from everybody else.
_HOST = "127.0.0.1"
#: What is being answered has so long, when it ends.
_GRACE_SECONDS = 2


@contextmanager
def serving(app: Celery, source: Source, *, port: int, allow_retry: bool = False) -> Iterator[str]:
    """Serve the page on 127.0.0.1 in a thread, and yield its URL.

    :param source: where its figures are from.
    :param port: 0 for any that is free.
    :param allow_retry: whether failed tasks can be sent back and discarded there.
    :raises LambdaCeleryError: the port is taken, or may not be used.
    """
    listening = _listening(port)
    site = application(Answers(app, source), name=str(app.main or "app"), allow_retry=allow_retry)
    server = uvicorn.Server(
        uvicorn.Config(
            site,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
    )
    thread = threading.Thread(
        target=server.run, args=([listening],), name="lambda-celery-dashboard", daemon=True
    )
    with listening:
        thread.start()
        try:
            yield f"http://{_HOST}:{listening.getsockname()[1]}/"
        finally:
            with _cut_off():
                server.should_exit = True
                thread.join()


@contextmanager
def _cut_off() -> Iterator[None]:
    """Have nothing told of answers that AWS is slow with: to end before these is no error."""
    uvicorns = logging.getLogger("uvicorn.error")

    def nothing(_: logging.LogRecord) -> bool:
        return False

    uvicorns.addFilter(nothing)
    try:
        yield
    finally:
        uvicorns.removeFilter(nothing)


def _listening(port: int) -> socket.socket:
    made = socket.socket()
    # Else the port of a page that has just ended would be taken for a minute.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((_HOST, port))
        # Whoever asks before the thread is ready, waits.
        made.listen()
    except OverflowError as exc:  # of the one after the last, which the local runner may choose
        made.close()
        raise LambdaCeleryError(f"There is no port {port}: the last one is 65535.") from exc
    except OSError as exc:
        made.close()
        if exc.errno == errno.EADDRINUSE:
            raise LambdaCeleryError(
                f"Port {port} of {_HOST} is taken by another program, which may be another page: "
                "choose another port by --port, and for `lambda local` by --dashboard-port."
            ) from exc
        raise LambdaCeleryError(f"Port {port} of {_HOST} cannot be used: {exc.strerror}.") from exc
    return made
