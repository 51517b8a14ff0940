"""What Celery keeps that two copies of one process must not share."""

from __future__ import annotations

from celery import Celery
from kombu import common


def close_result_connections(app: Celery) -> None:
    """End the connections of Redis's result back end, which connects anew where it is needed."""
    # Of the back ends, it alone keeps any; asking it for its client would make one.
    backend = app._backend
    client = None if backend is None else vars(backend).get("client")
    if (pool := getattr(client, "connection_pool", None)) is not None:
        pool.disconnect()


def renew_ids(app: Celery) -> None:
    """Have ids of its own for *app* and its threads: what is answered to it is sent there."""
    common._node_id = None  # drawn at random, once a process
    vars(app).pop("oid", None)
    vars(app._local).pop("oid", None)
