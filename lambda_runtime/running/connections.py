"""Connections that may not have survived the freeze between two invocations."""

from __future__ import annotations

import sys
import time

from celery import Celery

#: Lambda freezes a process between invocations. A socket that has been frozen for longer
#: than this may be dead without knowing it, and a message written to it would be lost.
_SUSPECT_SECONDS = 10


def close_database_connections() -> None:
    """Close Django's database connections of this thread."""
    if "django.db" in sys.modules:
        from django.db import connections

        connections.close_all()


class Connections:
    """What a batch uses and does not make itself: Django's databases, the app's broker."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._idle_since = time.time()

    def before_batch(self) -> None:
        """Close what is old, so that it is made anew where it is needed."""
        if "django.db" in sys.modules:
            from django.db import close_old_connections

            close_old_connections()
        idle = time.time() - self._idle_since
        # Only where there is a pool: asking for it would make it.
        if idle > _SUSPECT_SECONDS and self._app._pool is not None:
            # The app's alone, and the pool stays: other apps in the process have theirs.
            self._app._pool.force_close_all(close_pool=False)
            self._app._pool.setup()  # kombu leaves it empty, and who waits for one waits for ever

    def after_batch(self) -> None:
        """Close what asynchronous tasks have opened; note when the process has become idle."""
        if (event_loop := sys.modules.get("lambda_runtime.running.event_loop")) is not None:
            event_loop.close_database_connections()
        self._idle_since = time.time()
