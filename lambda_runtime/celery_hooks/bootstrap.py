"""Cold start: from a name to an app that is ready to run tasks."""

from __future__ import annotations

import os
from collections.abc import Callable

from celery import Celery, signals
from celery._state import _set_task_join_will_block
from celery.app.trace import setup_worker_optimizations
from celery.app.utils import find_app
from celery.fixups.django import DjangoFixup
from celery.utils.nodenames import gethostname
from celery.utils.time import rate
from celery.worker import state as worker_state

from lambda_celery.celery_hooks.amqp import routing_of
from lambda_celery.conf import APP_VARIABLE
from lambda_celery.exceptions import ConfigurationError
from lambda_celery.installation import install
from lambda_celery.table.own_keys import check_key, check_options, options_of


def load_app(name: str | None) -> Celery:
    """Return the Celery app *name*, spelt as after ``celery -A``: ``proj``, ``proj.celery:app``.

    :raises ConfigurationError: there is no such app.
    """
    if not name:
        raise ConfigurationError(
            f"Set {APP_VARIABLE} to the Celery app of this function, as after `celery -A`: "
            "for example proj.celery:app."
        )
    install()  # before its tasks are made, for what they are declared with is seen then
    try:
        app = find_app(name)
    except (ModuleNotFoundError, AttributeError) as exc:
        raise ConfigurationError(
            f"{APP_VARIABLE} is {name!r}, but that is no Celery app: {exc}. "
            "Is the module in the function's package, and the name spelt as after `celery -A`?"
        ) from exc
    return app


def start(app: Celery, hostname: str, set_up_logging: Callable[[], None]) -> None:
    """Make *app* ready, as a worker does before it has children: Django, task modules, logging.

    No database, broker or result back end is connected.
    """
    # System checks are for the deployment, not for every cold start.
    os.environ.setdefault("CELERY_SKIP_CHECKS", "1")
    install(app)
    if (routing := routing_of(app)) is not None:
        routing.is_in_function = True
    app.loader.init_worker()  # Django is set up, and the task modules are imported
    # As in a worker: after Django's LOGGING, and before the tracers ask which levels are on.
    set_up_logging()
    setup_worker_optimizations(app, hostname)
    # As in a worker's process: a task that waits for another's result is told so at once.
    _set_task_join_will_block(True)
    for fixup in app._fixups:
        if isinstance(fixup, DjangoFixup):
            # A worker's signal would do it. It closes connections and caches around tasks.
            fixup.worker_fixup.install()
    check_tasks(app)


def start_process(app: Celery) -> None:
    """Tell that this process is one that runs the tasks of *app*, as a worker's child is told."""
    app.loader.init_worker_process()
    signals.worker_process_init.send(sender=None)


def start_child(app: Celery) -> None:
    """Make this process, a fork of one in which *app* is ready, one that runs its tasks."""
    worker_state.reset_state()
    start_process(app)


def check_tasks(app: Celery) -> None:
    """Raise :exc:`ConfigurationError` if an option of a task cannot be meant."""
    for task in app.tasks.values():
        check_options(options_of(task), task.name)
        check_key(task)
        try:
            rate(task.rate_limit)
        except (KeyError, TypeError, ValueError) as exc:
            raise ConfigurationError(
                f"rate_limit of the task {task.name} is {task.rate_limit!r}: give it a number of "
                'tasks a second, or text such as "100/m".'
            ) from exc


def node_name() -> str:
    """Return what tasks see as ``self.request.hostname``."""
    return f"lambda@{os.environ.get('AWS_LAMBDA_FUNCTION_NAME') or gethostname()}"
