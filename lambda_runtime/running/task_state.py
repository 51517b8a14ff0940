"""What each task finds as the first one did, whatever those before it have left behind.

What Django keeps for a request (the language, the time zone) is in context variables, and each
task has a context of its own. A web server's signals do the rest between two requests; no
request is begun here.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, TypeVar

from lambda_runtime.celery_hooks import django_state
from lambda_runtime.running.attempt import Attempt
from lambda_runtime.running.connections import make_ready, tidy, uses_django

logger = logging.getLogger(__name__)

T = TypeVar("T")


class TaskState:
    """The state of this process, around its tasks."""

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._running: list[Attempt] = []
        self._settings: Any = None

    def call(self, attempt: Attempt, function: Callable[[], T]) -> T:
        """Return ``function()``, which runs the task of *attempt*, in a context of its own."""
        if not uses_django():
            return copy_context().run(function)
        caches: dict[str, Any] = {}
        try:
            with self._kept(attempt):
                return copy_context().run(_call, attempt, function, caches)
        finally:
            _keep(caches)

    @contextmanager
    def _kept(self, attempt: Attempt) -> Iterator[None]:
        """Within the context, the task runs; put back what is the whole process's afterwards.

        Only when no other runs: it would be put back under that one's feet.
        """
        with self._changing:
            if self._is_quiet():
                self._settings = django_state.settings_in_force()
            self._running.append(attempt)
        try:
            yield
        finally:
            with self._changing:
                self._running.remove(attempt)
                if self._is_quiet():
                    self._put_back(attempt)

    def _is_quiet(self) -> bool:
        return all(each.is_abandoned for each in self._running)

    def _put_back(self, attempt: Attempt) -> None:
        if ended := django_state.end_overrides(self._settings):
            logger.warning(
                "Task %s has left settings overridden, which is ended: %s. Use override_settings "
                "in a with statement.",
                attempt.task_id, ", ".join(ended),
            )  # fmt: skip
        if (sites := sys.modules.get("django.contrib.sites.models")) is not None:
            sites.Site.objects.clear_cache()


def _call(attempt: Attempt, function: Callable[[], T], caches: dict[str, Any]) -> T:
    make_ready()
    began = time.monotonic()
    try:
        return function()
    finally:
        limit = attempt.soft_time_limit
        is_in_time = limit is None or time.monotonic() - began < limit
        # A body that catches its limit and returns was interrupted as well.
        tidy(f"Task {attempt.task_id}", is_complete=attempt.body_finished and is_in_time)
        caches.update(django_state.caches_of_context())


def _keep(made: dict[str, Any]) -> None:
    """Have the next tasks of this thread use the same caches: with their open connections."""
    if made:
        from django.core.cache import caches

        for alias, cache in made.items():
            caches[alias] = cache
