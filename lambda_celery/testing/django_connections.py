"""Django's database connections, which a test's transaction is on.

On Lambda they are closed around a task, as in a worker. To close the one that ``TestCase`` has
opened its transaction on would end the test's data.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lambda_runtime.running.connections import uses_django


@contextmanager
def kept_open() -> Iterator[None]:
    """Within the context, leave those open that are in a transaction: nobody can close them."""
    closed_by_nobody = [each for each in _opened() if each.in_atomic_block]
    with _without_close(closed_by_nobody):
        yield


@contextmanager
def hidden() -> Iterator[None]:
    """Within the context, have none: what a new process is told is to be done to no open one."""
    opened = _opened()
    made = [each.connection for each in opened]
    for each in opened:
        each.connection = None
    try:
        with _without_close(opened):
            yield
    finally:
        for each, connection in zip(opened, made, strict=True):
            each.connection = connection


def _opened() -> list[Any]:
    if not uses_django():
        return []
    from django.db import connections

    return list(connections.all(initialized_only=True))


@contextmanager
def _without_close(opened: list[Any]) -> Iterator[None]:
    # A task may call another: what is kept open for that one stays so for the first.
    closable = [each for each in opened if "close" not in vars(each)]
    for each in closable:
        each.close = _nothing
    try:
        yield
    finally:
        for each in closable:
            del each.close


def _nothing() -> None:
    """Leave it open."""
