"""What the app says of itself: its queues, how long its tasks may take, which of them may move."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from celery import Celery, Task
from celery.app.routes import MapRoute

from lambda_celery.celery_hooks.apps import is_nobodys
from lambda_celery.conf import Settings
from lambda_celery.infrastructure.inputs import Deployment
from lambda_celery.init.errors import InitError
from lambda_celery.publishing.routing import TASK_ATTRIBUTE

#: Lambda ends an invocation then, at the latest.
MAXIMUM_SECONDS = 900
#: What an invocation does before its first task begins, in seconds: it claims, and reads a body.
_START_SECONDS = 5
_LIMITS = ("time_limit", "soft_time_limit")


@dataclass(frozen=True)
class AppFacts:
    """What was read of an app.

    :ivar queues: Celery's names of its queues, the default one first.
    :ivar timeout: what the function needs for the longest of the tasks' limits, in seconds.
    :ivar tasks: globs of the tasks that may go to Lambda.
    :ivar notes: sentences on what was passed over.
    """

    queues: tuple[str, ...]
    timeout: int
    tasks: tuple[str, ...]
    notes: tuple[str, ...]


def read(app: Celery) -> AppFacts:
    """Import the tasks of *app*, and read what the infrastructure follows from.

    Tasks that are declared with ``lambda_celery=False`` stay where they are: nothing is read of
    them.

    Raises:
        InitError: a module of the project cannot be imported.
        ConfigurationError: a setting of Lambda Celery is wrong.
    """
    try:
        app.loader.import_default_modules()
        app.finalize()
    except Exception as exc:
        raise InitError(
            f"The app's modules cannot be imported: {type(exc).__name__}: {exc}. "
            "Make `celery -A … report` work first."
        ) from exc
    tasks = [
        task
        for _, task in sorted(app.tasks.items())
        if not is_nobodys(task) and getattr(task, TASK_ATTRIBUTE, None) is not False
    ]
    notes: list[str] = []
    queues = tuple(dict.fromkeys(_queues(app, tasks, notes)))
    return AppFacts(queues, _timeout(app, tasks), _globs(app, tasks, notes), tuple(notes))


def is_fifo(queue: str) -> bool:
    """Whether the Celery queue *queue* is to be a FIFO queue: SQS tells these by their names."""
    return queue.endswith(".fifo")


# ---------------------------------------------------------------------- queues
def _queues(app: Celery, tasks: Iterable[Task], notes: list[str]) -> Iterator[str]:
    # What no route names goes there, and so do chords' and other tasks of Celery's own.
    yield str(app.conf.task_default_queue)
    for queue in app.amqp.queues.values():
        if queue.exchange is not None and queue.exchange.type == "fanout":
            notes.append(
                f"The queue {queue.name} is for broadcasts, which SQS has none of: it is left out."
            )
        else:
            yield str(queue.name)
    for router in app.amqp.routes:
        if isinstance(router, MapRoute):
            for route in (*router.map.values(), *router.patterns.values()):
                yield from _named(route if isinstance(route, str) else dict(route).get("queue"))
        else:
            yield from _asked(app, router, tasks, notes)
    for task in tasks:
        yield from _named(getattr(task, "queue", None))


def _asked(app: Celery, router: Any, tasks: Iterable[Task], notes: list[str]) -> Iterator[str]:
    """Ask a *router* of the project's own where each task goes."""
    for task in tasks:
        try:
            route = app.amqp.router.query_router(router, task.name, (), {}, {}, task)
            named = route if route is None or isinstance(route, str) else dict(route).get("queue")
        except Exception as exc:  # noqa: BLE001 - it may want arguments that a call would have
            notes.append(
                f"A router in task_routes does not say where {task.name} goes: "
                f"{type(exc).__name__}: {exc}. Name its queue in queues if it is missing there."
            )
        else:
            yield from _named(named)


def _named(queue: Any) -> Iterator[str]:
    name = getattr(queue, "name", queue)
    if isinstance(name, str) and name:
        yield name


# ---------------------------------------------------------------------- limits
def _timeout(app: Celery, tasks: Iterable[Task]) -> int:
    limits = [*_limits(app.conf, "task_")]
    for task in tasks:
        limits += _limits(task)
    fitting = [each for each in limits if each <= MAXIMUM_SECONDS]
    if not fitting:
        return Deployment.timeout
    # The reserve is the end of the invocation, in which no task runs.
    needed = math.ceil(max(fitting) + Settings.from_app(app).time_reserve_seconds) + _START_SECONDS
    return min(max(needed, Deployment.timeout), MAXIMUM_SECONDS)


def _limits(of: Any, prefix: str = "") -> Iterator[float]:
    for name in _LIMITS:
        limit = getattr(of, prefix + name, None)
        if isinstance(limit, int | float) and not isinstance(limit, bool) and limit > 0:
            yield limit


# ----------------------------------------------------------------------- tasks
def _globs(app: Celery, tasks: Iterable[Task], notes: list[str]) -> tuple[str, ...]:
    """Return a glob for each module all of whose tasks fit, and else the names of those that do."""
    by_module: dict[str, dict[str, bool]] = {}
    for task in tasks:
        longest = max([*_limits(task)] or [*_limits(app.conf, "task_")], default=0.0)
        module = task.name.rpartition(".")[0]
        by_module.setdefault(module, {})[task.name] = longest <= MAXIMUM_SECONDS
        if longest > MAXIMUM_SECONDS:
            notes.append(
                f"{task.name} may take {longest:g} s, but Lambda ends an invocation after "
                f"{MAXIMUM_SECONDS} s: keep it with its "
                "workers, by leaving it out of lambda_tasks."
            )
    return tuple(_globs_of(by_module))


def _globs_of(by_module: Mapping[str, Mapping[str, bool]]) -> Iterator[str]:
    for module, tasks in by_module.items():
        # A glob reaches into the modules below, too.
        reached = [
            fits
            for other, names in by_module.items()
            if other == module or other.startswith(f"{module}.")
            for fits in names.values()
        ]
        if module and all(reached):
            yield f"{module}.*"
        else:
            yield from (name for name, fits in tasks.items() if fits)
