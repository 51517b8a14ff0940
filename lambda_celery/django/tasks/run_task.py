"""The Celery task that runs Django's. It is registered in each process, and loads nothing before.

Its arguments are the wire format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from celery import Task, signals

from lambda_celery.task import task

#: The name in messages.
NAME = "lambda_celery.django.run_task"


# Results are Django's, and kept in its form.
@task(
    bind=True, name=NAME, max_retries=None, ignore_result=True, store_errors_even_if_ignored=False
)
def run_task(
    self: Task,
    *,
    task: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    backend: str = "default",
    queue_name: str = "default",
    priority: int = 0,
    run_after: str | None = None,
    enqueued_at: str | None = None,
) -> None:
    """Run a task of Django's. The id of its result is that of this Celery task.

    :param task: the path of the task: its module and its name.
    :param args: what it is given.
    :param kwargs: what it is given by name.
    :param backend: the alias in ``TASKS``.
    :param queue_name: its queue, in Django's words.
    :param priority: its priority, in Django's words: -100 to 100.
    :param run_after: when it was to run at the earliest, in ISO 8601.
    :param enqueued_at: when it was enqueued, in ISO 8601.
    """
    from lambda_celery.django.tasks.running import run

    call = {
        "task": task, "args": args, "kwargs": kwargs or {}, "backend": backend,
        "queue_name": queue_name, "priority": priority, "run_after": run_after,
        "enqueued_at": enqueued_at,
    }  # fmt: skip
    run(self, call)


@signals.task_failure.connect
def _note_failure(
    sender: Task,
    task_id: str,
    exception: BaseException,
    kwargs: Mapping[str, Any] | None = None,
    **_: Any,
) -> None:
    """Have it known that it has failed, whoever says so: the process may have been lost."""
    if getattr(sender, "name", None) == NAME:
        from lambda_celery.django.tasks.running import fail

        fail(sender, task_id, kwargs or {}, exception)
