"""A task of Django's, where it runs.

It runs once: Django's tasks know no retry, so one that raises has failed, and its message is
parked. What a process did not end, because it was lost, runs again, as every task does.
"""

from __future__ import annotations

import logging
import sys
from asyncio import CancelledError
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from celery import Celery
from celery import Task as CeleryTask
from celery.exceptions import TaskPredicate
from django.utils import timezone

from lambda_celery.django.tasks import store
from lambda_celery.django.tasks.api import (
    Task,
    TaskContext,
    TaskResult,
    TaskResultStatus,
    normalize_json,
    signals,
)
from lambda_celery.django.tasks.documents import change, failed, to_document, to_error, to_result
from lambda_celery.exceptions import LambdaCeleryError

logger = logging.getLogger(__name__)

#: The result of the call that this context makes, where Celery runs tasks in their callers.
eager_result: ContextVar[TaskResult | None] = ContextVar("lambda_celery_eager", default=None)


class UnknownDjangoTaskError(LambdaCeleryError):
    """The message names a task of Django's that this deployment does not have."""


class TaskExitedError(LambdaCeleryError):
    """A task of Django's has raised what ends a process, a coroutine or a task of Celery's."""


def run(self: CeleryTask, call: Mapping[str, Any]) -> None:
    """Run the task of *call*, the arguments of the Celery task *self*.

    :raises UnknownDjangoTaskError: no module that is loaded has it.
    """
    result = _begin(self, call)
    if result.is_finished:
        return  # it had been kept when its process was lost
    # Where it is found when it fails.
    self.request.django_result = result
    task = result.task
    given = [TaskContext(task_result=result)] if task.takes_context else []
    try:
        try:
            value = normalize_json(task.call(*given, *result.args, **result.kwargs))
        except (SystemExit, CancelledError, TaskPredicate) as exc:
            # Celery would take it for a lost process, or for its own Ignore, Reject or Retry.
            raise TaskExitedError(f"The task has raised {exc!r}.") from exc
    except Exception as exc:  # noqa: BLE001 - it is raised again
        # Celery puts another in the place of one that cannot be pickled.
        cause = exc.__cause__ if isinstance(exc, TaskExitedError) else None
        self.request.django_error = to_error(cause or exc)
        # Nothing is to try it again: Celery's word for that is a retry too many.
        self.retry(exc=exc, max_retries=0)
    status = TaskResultStatus.SUCCESSFUL
    change(result, _return_value=value, status=status, finished_at=timezone.now())
    _keep(self.app, result)
    signals.task_finished.send_robust(type(task.get_backend()), task_result=result)


def fail(
    celery_task: CeleryTask, task_id: str, call: Mapping[str, Any], exc: BaseException
) -> None:
    """Note that the task of *call*, the arguments of *celery_task*, has failed for good."""
    result = getattr(celery_task.request, "django_result", None)
    error = getattr(celery_task.request, "django_error", None)
    if result is None or result.id != task_id:
        error = None
        try:
            result = _read(celery_task.app, task_id, call)
        except Exception as unknown:  # noqa: BLE001 - a message may hold anything
            logger.error("Its signal is not sent for %s: %s", call.get("task"), unknown)
            _keep_failure(celery_task.app, task_id, exc)
            return
    if result.status == TaskResultStatus.SUCCESSFUL:
        return  # it had been kept, and told, when its process was lost
    result.errors.append(error or to_error(exc))
    change(result, status=TaskResultStatus.FAILED, finished_at=timezone.now())
    _keep(celery_task.app, result)
    signals.task_finished.send_robust(type(result.task.get_backend()), task_result=result)


def _begin(self: CeleryTask, call: Mapping[str, Any]) -> TaskResult:
    """Return the result, of which it is known that its task runs."""
    result = eager_result.get()
    if result is None or result.id != self.request.id:
        result = _read(self.app, self.request.id, call)
    if result.status == TaskResultStatus.SUCCESSFUL:
        return result
    now = timezone.now()
    change(
        result,
        status=TaskResultStatus.RUNNING,
        started_at=result.started_at or now,
        last_attempted_at=now,
        finished_at=None,
    )
    result.worker_ids.append(self.request.hostname or "")
    _keep(self.app, result)
    signals.task_started.send_robust(type(result.task.get_backend()), task_result=result)
    return result


def _read(app: Celery, task_id: str, call: Mapping[str, Any]) -> TaskResult:
    """Return the result of *call* as it is known: with its earlier attempts, where it is kept."""
    result = to_result(call, task_id, _find(call["task"]))
    if not result.task.get_backend().supports_get_result:
        return result
    try:
        kept = store.read(app, task_id)
    except Exception:
        logger.exception("The earlier attempts of %s are not known.", task_id)
        return result
    return result if kept is None else to_result(kept, task_id, result.task)


def _keep(app: Celery, result: TaskResult) -> None:
    """Keep *result*, if it can be: what has run is not run again for that."""
    if not result.task.get_backend().supports_get_result:
        return
    try:
        store.write(app, result.id, to_document(result))
    except Exception:
        logger.exception("The result %s, %s, could not be stored.", result.id, result.status)


def _keep_failure(app: Celery, task_id: str, exc: BaseException) -> None:
    """Keep that a task has failed which is not known here, if its result is kept."""
    try:
        kept = store.read(app, task_id) if store.keeps_results(app) else None
        if kept is not None:
            store.write(app, task_id, failed(kept, exc))
    except Exception:
        logger.exception("The result %s, FAILED, could not be stored.", task_id)


def _find(path: str) -> Task:
    """Return the task at *path*, of a module that is loaded: a message causes no import."""
    module, _, name = path.rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    if not isinstance(found, Task):
        raise UnknownDjangoTaskError(
            f"No module that is loaded has a task of Django's by the name {path!r}: deploy the "
            "code that has it, and name its module in Celery's setting imports, unless it is an "
            "app's tasks.py, which autodiscover_tasks() finds."
        )
    return found
