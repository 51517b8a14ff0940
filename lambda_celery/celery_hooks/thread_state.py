"""What Celery keeps for each thread, carried from one thread to another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from celery import _state
from celery.utils import threads


def worker_task() -> Any:
    """Return the task that a worker, or the function, is running on this thread; else ``None``."""
    return _state.get_current_worker_task()


def current_task() -> Any:
    """Return the task that is running on this thread, eagerly or not; else ``None``."""
    return _state.get_current_task()


def has_stacks_for_greenlets() -> bool:
    """Whether Celery keeps tasks and requests for each greenlet, and not for each thread."""
    is_by_greenlet = threads.get_ident.__module__ == "greenlet._greenlet"
    return is_by_greenlet and threads.LocalStack is threads._LocalStack


class CeleryState:
    """What Celery keeps for this thread: the app, the tasks under way and their requests.

    Made in one thread and entered in others.
    """

    def __init__(self) -> None:
        tasks = list(_state._task_stack.stack)
        self._app = _state._tls.current_app
        self._items = [(_state._task_stack, task) for task in tasks]
        for stack in {id(task): task.request_stack for task in tasks}.values():
            self._items += [(stack, request) for request in stack.stack]

    def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Return ``function(*args, **kwargs)``, called in this state."""
        app = self._enter()
        try:
            return function(*args, **kwargs)
        finally:
            self._leave(app)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Give this thread the state within the context."""
        app = self._enter()
        try:
            yield
        finally:
            self._leave(app)

    def _enter(self) -> Any:
        app, _state._tls.current_app = _state._tls.current_app, self._app
        for stack, item in self._items:
            stack.push(item)
        return app

    def _leave(self, app: Any) -> None:
        for stack, _ in self._items:
            stack.pop()
        _state._tls.current_app = app
