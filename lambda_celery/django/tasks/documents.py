"""Results of Django's tasks, in JSON: what a message and a result store hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from traceback import format_exception
from typing import Any

from django.utils import timezone

from lambda_celery.django.tasks.api import Task, TaskError, TaskResult, TaskResultStatus

_TIMES = ("enqueued_at", "started_at", "finished_at", "last_attempted_at")


def to_call(result: TaskResult) -> dict[str, Any]:
    """Return the arguments of the Celery task that runs the task of *result*."""
    task = result.task
    return {
        "task": task.module_path,
        "args": result.args,
        "kwargs": result.kwargs,
        "backend": result.backend,
        "queue_name": task.queue_name,
        "priority": task.priority,
        "run_after": _to_text(task.run_after),
        "enqueued_at": _to_text(result.enqueued_at),
    }


def to_document(result: TaskResult) -> dict[str, Any]:
    """Return *result* as a store keeps it."""
    is_successful = result.status == TaskResultStatus.SUCCESSFUL
    return {
        **to_call(result),
        **{name: _to_text(getattr(result, name)) for name in _TIMES},
        "status": str(result.status),
        "errors": [asdict(each) for each in result.errors],
        "worker_ids": result.worker_ids,
        "return_value": result.return_value if is_successful else None,
    }


def to_result(document: Mapping[str, Any], task_id: str, task: Task) -> TaskResult:
    """Return the result that *document* is of: what a store keeps, or a message's arguments.

    :param task: the task as it is declared.
    :raises InvalidTask: the settings do not let it be called so.
    """
    run_after = _to_time(document["run_after"])
    called = task.using(
        priority=document["priority"], queue_name=document["queue_name"],
        backend=document["backend"], run_after=run_after,
    )  # fmt: skip
    result = TaskResult(
        task=called,
        id=task_id,
        status=TaskResultStatus(document.get("status", TaskResultStatus.READY)),
        **{name: _to_time(document.get(name)) for name in _TIMES},
        args=list(document["args"]),
        kwargs=dict(document["kwargs"]),
        backend=document["backend"],
        errors=[TaskError(**each) for each in document.get("errors", ())],
        worker_ids=list(document.get("worker_ids", ())),
    )
    change(result, _return_value=document.get("return_value"))
    return result


def failed(document: Mapping[str, Any], exc: BaseException) -> dict[str, Any]:
    """Return *document*, of a task that is not known here and has failed by *exc*."""
    return {
        **document,
        "status": str(TaskResultStatus.FAILED),
        "finished_at": _to_text(timezone.now()),
        "errors": [*document["errors"], asdict(to_error(exc))],
    }


def to_error(exc: BaseException) -> TaskError:
    """Return *exc* as a result has it."""
    kind = type(exc)
    return TaskError(
        exception_class_path=f"{kind.__module__}.{kind.__qualname__}",
        traceback="".join(format_exception(exc)),
    )


def change(result: TaskResult, **values: Any) -> None:
    """Set attributes of *result*, which is frozen for all but a back end."""
    for name, value in values.items():
        object.__setattr__(result, name, value)


def _to_text(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat()


def _to_time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
