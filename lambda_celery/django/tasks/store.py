"""Where results of Django's tasks are kept: in the Celery app's result back end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery import Celery
from celery.backends.base import DisabledBackend
from celery.states import SUCCESS

_SUCCESSFUL = "SUCCESSFUL"


def keeps_results(app: Celery) -> bool:
    """Whether *app* has a result back end that each process can read, and is to use it."""
    from celery.backends.rpc import RPCBackend  # loads what few need

    if app.conf.task_ignore_result or isinstance(app.backend, DisabledBackend | RPCBackend):
        return False
    return bool(not app.conf.task_always_eager or app.conf.task_store_eager_result)


def write(app: Celery, task_id: str, document: Mapping[str, Any]) -> None:
    """Keep *document*, the result of the task *task_id*."""
    # By Celery's own word for it: its back ends let no later state take the place of that.
    state = SUCCESS if document["status"] == _SUCCESSFUL else document["status"]
    app.backend.store_result(task_id, document, state)


def read(app: Celery, task_id: str) -> dict[str, Any] | None:
    """Return what is kept of the task *task_id*; ``None`` if that is nothing."""
    found = app.backend.get_task_meta(task_id, cache=False)["result"]
    # What another task of Celery's has returned may be anything.
    return found if isinstance(found, dict) and {"task", "worker_ids"} <= found.keys() else None
