"""Connections that may not have survived the freeze between two invocations."""

from __future__ import annotations

import sys
import time

from celery import Celery

from lambda_runtime.celery_hooks.broker_pool import renew_broker_connections
from lambda_runtime.celery_hooks.restored import close_result_connections

#: Lambda freezes a process between invocations. A socket that has been frozen for longer
#: than this may be dead without knowing it, and a message written to it would be lost.
_SUSPECT_SECONDS = 10


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
    if uses_django():
        from django.db import connections

        connections.close_all()


class Connections:
    """What a batch uses and does not make itself: Django's databases, the app's broker."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._idle_since = time.time()

    def before_batch(self) -> None:
        """Close what is old, so that it is made anew where it is needed."""
        if uses_django():
            from django.db import close_old_connections

            close_old_connections()
        idle = time.time() - self._idle_since
        if idle > _SUSPECT_SECONDS:
            renew_broker_connections(self._app)

    def close(self) -> None:
        """Close all, pools included, of Django's databases and caches, the broker and Redis."""
        if uses_django():
            from django.core.cache import caches
            from django.db import connections

            connections.close_all()
            for each in connections.all(initialized_only=True):
                if hasattr(each, "close_pool"):  # of Django 5.1, with psycopg and Oracle
                    each.close_pool()
            caches.close_all()
        renew_broker_connections(self._app)
        close_result_connections(self._app)
        self.after_batch()

    def after_batch(self) -> None:
        """Close what asynchronous tasks have opened; note when the process has become idle."""
        if (event_loop := sys.modules.get("lambda_runtime.running.event_loop")) is not None:
            event_loop.close_database_connections()
        self._idle_since = time.time()
