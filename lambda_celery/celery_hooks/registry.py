"""The task registry of an app, where every task comes by."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from celery import Celery

from lambda_celery.celery_hooks.async_tasks import make_synchronous
from lambda_celery.celery_hooks.declared import note_declared

#: On a task's own ``apply_async``, the one that Celery has for it.
BY_CELERY = "by_celery"

#: Called with a task, what its ``apply_async`` is given, and what Celery does with that.
Call = Callable[[Any, tuple[Any, ...], dict[str, Any], Callable[..., Any]], Any]


class AsyncRegistry:
    """Mixin of :class:`celery.app.registry.TaskRegistry`: every task of an app comes by here."""

    #: The names of the tasks whose body is a coroutine function.
    async_names: set[str]
    #: What calls of tasks come by.
    call: Call

    def __setitem__(self, name: str, task: Any) -> None:
        """Register *task*."""
        note_declared(task)
        _call_by(task, self.call)
        self.async_names.discard(name)
        if make_synchronous(task):
            self.async_names.add(name)
        super().__setitem__(name, task)  # type: ignore[misc]


def install_registry(app: Celery, call: Call) -> bool:
    """Have *app* take coroutine functions for tasks, and calls of tasks come by *call*.

    The tasks that it has already are included. Return whether it did not do so before.
    """
    registry: Any = app._tasks
    if isinstance(registry, AsyncRegistry):
        return False
    registry.call = call
    for task in registry.values():
        note_declared(task)
        _call_by(task, call)
    registry.async_names = {name for name, task in registry.items() if make_synchronous(task)}
    registry.__class__ = type("TaskRegistry", (AsyncRegistry, type(registry)), {})
    return True


def async_names(app: Celery) -> set[str]:
    """Return the names of those tasks of *app*, which is installed, that are asynchronous."""
    return app._tasks.async_names  # type: ignore[no-any-return]


def _call_by(task: Any, call: Call) -> None:
    if "apply_async" in vars(task):
        return

    def by_celery(*args: Any, **options: Any) -> Any:
        # Looked up now: monitoring, or a test, may have put something there since.
        found: Any = type(task).apply_async
        if hasattr(found, "__get__"):
            found = found.__get__(task, type(task))
        return found(*args, **options)

    @wraps(type(task).apply_async)
    def apply_async(*args: Any, **options: Any) -> Any:
        return call(task, args, options, by_celery)

    setattr(apply_async, BY_CELERY, by_celery)
    task.apply_async = apply_async
