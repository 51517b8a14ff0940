"""Which of Django's own doors lead to the queue, by the project's settings: mail, and tasks.

Django is looked at where it is loaded, and is not loaded for that.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any


def mailers_to_queue() -> list[str]:
    """Return the aliases of the mailers whose mail goes to the queue.

    Without ``MAILERS``, ``EMAIL_BACKEND`` is the one called ``default``.
    """
    return [alias for alias, each in _mailers() if getattr(each, "publishes_mails", False) is True]


def tasks_in_use() -> list[str]:
    """Return the names of the Celery tasks that a call by one of the doors is a call of."""
    backends = [each for _, each in [*_mailers(), *_loaded(_setting("TASKS"))]]
    return sorted({name for each in backends if (name := getattr(each, "celery_task", None))})


def _mailers() -> Iterator[tuple[str, Any]]:
    mailers = _setting("MAILERS") or {"default": {"BACKEND": _setting("EMAIL_BACKEND")}}
    return _loaded(mailers)


def _setting(name: str) -> Any:
    if "django.conf" not in sys.modules:
        return None
    from django.conf import settings

    return getattr(settings, name, None) if settings.configured else None


def _loaded(configured: Mapping[str, Mapping[str, Any]] | None) -> Iterator[tuple[str, Any]]:
    for alias, each in (configured or {}).items():
        if path := each.get("BACKEND"):
            from django.utils.module_loading import import_string

            try:
                yield alias, import_string(path)
            except ImportError:
                continue  # Django says so itself, when it is used
