"""The app's pool of broker connections."""

from __future__ import annotations

from celery import Celery


def renew_broker_connections(app: Celery) -> None:
    """Close the connections in the pool of *app*, which are made anew where they are needed."""
    if app._pool is not None:  # only where there is a pool: asking for it would make it
        # The app's alone, and the pool stays: other apps in the process have theirs.
        app._pool.force_close_all(close_pool=False)
        app._pool.setup()  # kombu leaves it empty, and who waits for one waits for ever
