"""The task registry of an app, where every task comes by."""

from __future__ import annotations

from typing import Any

from celery import Celery

from lambda_celery.celery_hooks.async_tasks import make_synchronous
from lambda_celery.celery_hooks.declared import note_declared


class AsyncRegistry:
    """Mixin of :class:`celery.app.registry.TaskRegistry`: every task of an app comes by here."""

    #: The names of the tasks whose body is a coroutine function.
    async_names: set[str]

    def __setitem__(self, name: str, task: Any) -> None:
        """Register *task*."""
        note_declared(task)
        self.async_names.discard(name)
        if make_synchronous(task):
            self.async_names.add(name)
        super().__setitem__(name, task)  # type: ignore[misc]


def install_registry(app: Celery) -> None:
    """Have *app* take coroutine functions for tasks, those that it has already included."""
    registry: Any = app._tasks
    if not isinstance(registry, AsyncRegistry):
        for task in registry.values():
            note_declared(task)
        registry.async_names = {name for name, task in registry.items() if make_synchronous(task)}
        registry.__class__ = type("TaskRegistry", (AsyncRegistry, type(registry)), {})


def async_names(app: Celery) -> set[str]:
    """Return the names of those tasks of *app*, which is installed, that are asynchronous."""
    return app._tasks.async_names  # type: ignore[no-any-return]
