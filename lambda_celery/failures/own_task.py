"""The one task that every app has of this project: it works off bulk actions, a slice at a time.

It is declared where the app is installed, in each cold start: what it does is loaded when it runs.
"""

from __future__ import annotations

from typing import Any

from celery import Celery, Task

from lambda_celery.celery_hooks.apps import WORK_OFF
from lambda_celery.publishing.routing import TASK_ATTRIBUTE


def declare(app: Celery) -> None:
    """Declare the task in *app*."""

    def work_off(self: Any, name: str) -> None:
        from lambda_celery.failures.slices import work_off

        work_off(self.app, name, self.request.id)

    # Not of the app's own class of tasks, which may want what this one does not have.
    app.task(
        work_off, name=WORK_OFF, base=Task, bind=True, shared=False, ignore_result=True,
        **{TASK_ATTRIBUTE: True},
    )  # fmt: skip
