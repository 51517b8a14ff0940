"""What a test of a project's does with Celery: a process that is a worker for a moment only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from celery import Celery, Task, _state
from celery.app.trace import reset_worker_optimizations

#: Where ``autoretry_for`` keeps the body; else it is ``run`` itself.
_UNDER_AUTORETRY = "_orig_run"


@contextmanager
def as_in_worker() -> Iterator[None]:
    """Refuse ``result.get()`` within the context, as a worker's process does, and not after it."""
    before = _state.task_join_will_block()
    _state._set_task_join_will_block(True)
    try:
        yield
    finally:
        _state._set_task_join_will_block(before)


@contextmanager
def process_given_back(app: Celery) -> Iterator[None]:
    """Take back after the context what a worker's start does to the process, for *app*.

    It is the current app of this thread, and of threads that have none; and direct calls of tasks
    pass Celery's protection of its stack.
    """
    default, own = _state.default_app, vars(_state._tls)
    current = own.get("current_app")
    was_protected, was_fast = hasattr(Task, "_stackprotected"), app.use_fast_trace_task
    try:
        yield
    finally:
        if not was_protected:
            reset_worker_optimizations(app)
        app.use_fast_trace_task = was_fast
        # Another one is of an app that a test has made, or imported.
        if _state.default_app is app:
            _state.set_default_app(default)
        if own.get("current_app") is app:
            own["current_app"] = current


@contextmanager
def body_replaced(task: Task, make: Callable[[Callable[..., Any]], Any]) -> Iterator[None]:
    """Have *task* run what *make* makes of its body, within the context.

    What Celery does around the body, ``autoretry_for`` included, it does around that.
    """
    name = _UNDER_AUTORETRY if hasattr(task, _UNDER_AUTORETRY) else "run"
    body = getattr(task, name)
    own = vars(task).get(name)
    setattr(task, name, wraps(body)(make(body)))
    try:
        yield
    finally:
        if own is None:
            delattr(task, name)
        else:
            setattr(task, name, own)
