"""By which name other processes find the Celery app that a Django project has loaded."""

from __future__ import annotations

import sys

from celery import Celery
from celery.app import app_or_default
from celery.app.utils import find_app


def loaded_app_name() -> str | None:
    """Return what stands for the current app after ``celery -A``; ``None`` if there is none.

    Celery's default app, which is there where a project has loaded none, is in no module of a
    project.
    """
    app = app_or_default()
    found = [
        (name, attribute)
        for name, module in list(sys.modules.items())
        if name != "__main__" and name.partition(".")[0] != "celery"
        # What stands there is not always a module: None forbids an import.
        for attribute, value in list(getattr(module, "__dict__", {}).items())
        if value is app
    ]
    if not found:
        return None
    # The package that imports its app is what people name, not the module that makes it.
    module, variable = min(found, key=lambda each: each[0].count("."))
    return module if _is_found(app, module) else f"{module}:{variable}"


def _is_found(app: Celery, module: str) -> bool:
    """Whether Celery takes *app* if *module* alone is named: the name that people give."""
    try:
        return find_app(module) is app
    except (AttributeError, ImportError):
        return False
