"""Celery gives each app the shared tasks of all others: in a test, of other tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from celery import _state


@contextmanager
def none_of_others() -> Iterator[None]:
    """Have apps that are finalised within the context get Celery's own tasks alone."""
    finalizers = _state._on_app_finalizers
    _state._on_app_finalizers = {
        each for each in finalizers if each.__module__ == "celery.app.builtins"
    }
    try:
        yield
    finally:
        _state._on_app_finalizers = finalizers
