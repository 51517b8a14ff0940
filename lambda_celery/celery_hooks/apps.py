"""Celery's apps, those still to be made included, and the tasks they have so far."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

from celery import Celery, _state

from lambda_celery.exceptions import ConfigurationError

#: How the names and the modules of tasks begin that are nobody's: Celery's, and this project's.
_NOBODYS = ("celery.", "lambda_celery.")
#: The one task that every app has of this project. It works off bulk actions on failed tasks.
WORK_OFF = "lambda_celery.failures.work_off"


def is_nobodys(task: Any) -> bool:
    """Whether *task* is Celery's or this project's, and not the app's own."""
    # The one for django-celery-email's messages has that one's name.
    return str(task.name).startswith(_NOBODYS) or str(task.__module__).startswith(_NOBODYS)


def on_every_app(function: Callable[[Celery], None]) -> None:
    """Call *function* with each app of this process: now, and with those yet to come."""
    _state.connect_on_app_finalize(function)  # a set: once
    for each in _state._get_active_apps():
        function(each)


def is_made_by_celery(app: Celery) -> bool:
    """Whether *app* is Celery's own, which is there where nobody has made one.

    It has read no configuration, and never will.
    """
    return app.main == "default" and not app.set_as_current


def find_task(app: Celery, name: str | None) -> Any:
    """Return the task *name* of *app*; ``None`` if it has none.

    A task published by name must not take another way because its module's tasks are not
    registered yet.
    """
    tasks = app.tasks if app.finalized or app.autofinalize else app._tasks
    return tasks.get(name)


def import_tasks(app: Celery) -> None:
    """Import the task modules of *app*, as the function does.

    A command's process has none of the tasks that ``autodiscover_tasks`` finds until then.

    :raises ConfigurationError: a module cannot be imported. The sentence has the place.
    """
    try:
        app.loader.import_default_modules()
    except Exception as exc:
        where = traceback.extract_tb(exc.__traceback__)[-1]
        raise ConfigurationError(
            f"The app's task modules cannot be imported: {type(exc).__name__}: {exc} "
            f"({where.filename}, line {where.lineno}). Mend that: the function could not start."
        ) from exc


def extend_control(app: Celery, make: Callable[..., Any]) -> None:
    """Have *make* make the remote control of *app*: it is given its class, and its arguments."""
    if not (isinstance(app.control_cls, partial) and app.control_cls.func is make):
        # Not made here: that would read the app's configuration before it is complete.
        app.control_cls = partial(make, app.control_cls)
        app.__dict__.pop("control", None)
