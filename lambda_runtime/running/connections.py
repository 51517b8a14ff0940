"""Connections that may not have survived the freeze between two invocations, or the last task."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from celery import Celery

from lambda_runtime.celery_hooks.broker_pool import renew_broker_connections
from lambda_runtime.celery_hooks.django_state import has_pool
from lambda_runtime.celery_hooks.restored import close_result_connections

logger = logging.getLogger(__name__)

#: Lambda freezes a process between invocations. A socket that has been frozen for longer
#: than this may be dead without knowing it, and a message written to it would be lost.
_SUSPECT_SECONDS = 10
#: How long a connection is waited for that the pool has just said to have.
_POOL_SECONDS = 1


def uses_django() -> bool:
    """Whether this process has Django, and settings for it.

    Some packages import ``django.db`` where they find Django installed, whether it is used or not.
    """
    if "django.db" not in sys.modules:
        return False
    from django.conf import settings

    return bool(settings.configured)


def close_database_connections() -> None:
    """Close Django's database connections of this thread."""
    if not uses_django():
        return
    from django.db import Error

    for each in (found := made()):
        with suppress(Error):  # the server may have closed it
            each.close()
    if found:
        drop_transactions()


def made() -> list[Any]:
    """Return what this thread has of Django's database connections, open or not."""
    from django.db import connections

    return list(connections.all(initialized_only=True))


def close_of_other_thread(made: Iterable[Any]) -> None:
    """Close *made*, Django's database connections of a thread that does nothing with them now."""
    from django.db import Error

    for each in made:
        each.inc_thread_sharing()
        try:
            with suppress(Error):
                each.close()
        finally:
            each.dec_thread_sharing()


def make_ready() -> None:
    """Close Django's connections of this thread that are not fit for a task, and forget queries.

    As at a request's begin, but that ``CONN_MAX_AGE = 0`` closes none: where connections are kept,
    ``CELERY_DB_REUSE_MAX`` says so, and Django's default does not.
    """
    from django.db import connections

    for each in connections.all(initialized_only=True):
        close_at = each.close_at
        if not each.settings_dict["CONN_MAX_AGE"]:
            each.close_at = None
        each.close_if_unusable_or_obsolete()
        each.close_at = close_at
        # A test that counts queries forces them to be kept, and counts from where it began.
        if not each.force_debug_cursor:
            each.queries_log.clear()


def tidy(label: str, *, is_complete: bool) -> None:
    """End what *label*, a task, has left behind on Django's connections of this thread.

    :param is_complete: whether it was not interrupted. What interrupts a query is no error of the
        database's, and leaves a connection that still waits for the answer.
    """
    from django.db import connections

    if left := drop_transactions():
        logger.warning(
            "%s has left a transaction open, which is rolled back: %s. Use "
            "transaction.atomic() in a with statement.",
            label, ", ".join(left),
        )  # fmt: skip
    if not is_complete:
        for each in connections.all(initialized_only=True):
            each.errors_occurred = True  # so that it is asked whether it is usable


def close_caches() -> None:
    """Close Django's caches of this context, as at a request's end."""
    if uses_django() and (module := sys.modules.get("django.core.cache")) is not None:
        try:
            module.close_caches()
        except Exception:
            logger.exception("A cache could not be closed")


def drop_transactions() -> list[str]:
    """Let go of the connections of this thread on which a transaction is open.

    Django closes one in a transaction, and then refuses all that is done with it, for ever: who
    has begun the transaction is to notice. The next task has begun none.

    :returns: the aliases of the databases.
    """
    from django.db import Error, connections

    dropped = []
    for each in connections.all(initialized_only=True):
        if each.in_atomic_block:
            with suppress(Error):  # the server may have closed it
                each.close()
        if each.closed_in_transaction:
            del connections[each.alias]
            dropped.append(each.alias)
    return dropped


def close_databases() -> None:
    """Close Django's connections of this thread, and the pools of the whole process."""
    close_database_connections()
    for each in _with_pools():
        each.close_pool()


def _with_pools() -> list[Any]:
    """Return Django's connections of this thread, open or not, whose databases have a pool.

    The pools are the process's: another thread may have opened them.
    """
    if not uses_django():
        return []
    from django.db import connections

    databases = connections.settings
    pooled = [connections[each] for each in databases if databases[each]["OPTIONS"].get("pool")]
    return [each for each in pooled if has_pool(each)]


def _close_unusable() -> None:
    """Close the connections that do not answer: of this thread, and in the pools."""
    from django.db import connections

    for each in connections.all(initialized_only=True):
        is_open = each.connection is not None and not each.in_atomic_block
        if is_open and not each.is_usable():
            each.close()
    for each in _with_pools():
        # Oracle's pool asks its connections itself.
        if not each.settings_dict["CONN_HEALTH_CHECKS"] and hasattr(each.pool, "check_connection"):
            _replace_broken(each.pool, each.Database.Error)


def _replace_broken(pool: Any, error: type[Exception]) -> None:
    """Have psycopg's *pool* replace what does not answer; its own ``check()`` makes it grow."""
    for _ in range(pool.get_stats().get("pool_available", 0)):
        try:
            connection = pool.getconn(_POOL_SECONDS)
        except error:
            return  # a thread that was left to itself has been quicker
        with suppress(error):
            pool.check_connection(connection)
        pool.putconn(connection)


class Connections:
    """What a batch uses and does not make itself: Django's databases, the app's broker."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._idle_since = time.time()

    def before_batch(self) -> None:
        """Close what may be dead, so that it is made anew where it is needed."""
        is_suspect = time.time() - self._idle_since > _SUSPECT_SECONDS
        if is_suspect:
            close_databases()  # to ask them could take until a time-out
            renew_broker_connections(self._app)
        elif uses_django():
            _close_unusable()

    def close(self) -> None:
        """Close all, pools included, of Django's databases and caches, the broker and Redis."""
        close_databases()
        if uses_django():
            from django.core.cache import caches

            caches.close_all()
        renew_broker_connections(self._app)
        close_result_connections(self._app)
        self.after_batch()

    def after_batch(self) -> None:
        """Close what asynchronous tasks have opened; note when the process has become idle."""
        if (event_loop := sys.modules.get("lambda_runtime.running.event_loop")) is not None:
            event_loop.close_database_connections()
        self._idle_since = time.time()
