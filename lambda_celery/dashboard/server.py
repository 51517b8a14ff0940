"""Serving the page on this machine, in a thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from celery import Celery

from lambda_celery import serving as loopback
from lambda_celery.dashboard.answers import Answers
from lambda_celery.dashboard.web import application

if TYPE_CHECKING:
    from lambda_celery.status.source import Source

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
    listening = loopback.listen(
        port,
        remedy=", which may be another page: choose another port by --port, and for "
        "`lambda local` by --dashboard-port.",
    )
    site = application(Answers(app, source), name=str(app.main or "app"), allow_retry=allow_retry)
    with loopback.serving(
        site, listening, name="lambda-celery-dashboard", grace_seconds=_GRACE_SECONDS
    ):
        yield f"{loopback.url_of(listening)}/"
