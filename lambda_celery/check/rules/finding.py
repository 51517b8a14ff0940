"""What several rules ask of the facts."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any

from lambda_celery.check.bodies import Body, Call
from lambda_celery.check.facts import Facts, TaskFacts
from lambda_celery.check.following import Step
from lambda_celery.check.model import Place
from lambda_celery.publishing.routing import queue_name

#: The longest that a function may run.
MAXIMUM_SECONDS = 900
_TEMPORARY = ("/tmp", "/dev/null", "/dev/stdout", "/dev/stderr")  # noqa: S108 - names, not files
_OF_TEMPFILE = ("tempfile.*", "django.core.files.temp.*")
#: What keeps its content in memory, or writes to another descriptor.
_IN_MEMORY = ("io.BytesIO()", "io.StringIO()", "tempfile.*", "django.core.files.base.ContentFile()")
#: What returns a path in the folder that it is given.
_PATH_PRESERVING = ("os.path.*", "posixpath.*", "pathlib.*", "builtins.str", "os.fspath")


def task_calls(
    facts: Facts, patterns: Iterable[str], attributes: Iterable[str] = ()
) -> Iterator[tuple[TaskFacts, Step, Call]]:
    """Yield each call that a task reaches whose name is like one of *patterns*.

    :param attributes: names of methods that say enough, whatever they are methods of.
    """
    patterns, attributes = tuple(patterns), frozenset(attributes)
    for task in facts.tasks:
        for step, call in task.calls:
            is_named = call.receiver is not None and call.attribute in attributes
            if is_named or call.matches(patterns):
                yield task, step, call


def is_temporary(body: Body, node: ast.expr | None, depth: int = 0) -> bool:
    """Whether *node*, a path or a file, is surely in ``/tmp``, in memory, or nowhere."""
    if node is None or depth > 8:
        return False
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and node.value.startswith(_TEMPORARY)
    if isinstance(node, ast.JoinedStr):
        first = node.values[0] if node.values else None
        if isinstance(first, ast.FormattedValue):
            return is_temporary(body, first.value, depth + 1)
        return is_temporary(body, first, depth + 1) if isinstance(first, ast.expr) else False
    if isinstance(node, ast.BinOp):
        return is_temporary(body, node.left, depth + 1)
    if isinstance(node, ast.Subscript | ast.Attribute | ast.Starred):
        named = body.meaning(node).names
        if isinstance(node, ast.Attribute) and isinstance(body.constant(node), str):
            return str(body.constant(node)).startswith(_TEMPORARY)
        if _like(named, _OF_TEMPFILE):
            return True
        return is_temporary(body, node.value, depth + 1)
    if isinstance(node, ast.Call):
        names = body.meaning(node.func).names
        if _like(names, _OF_TEMPFILE) or _like({f"{n}()" for n in names}, _IN_MEMORY):
            return True
        if _like(names, _PATH_PRESERVING) and node.args:
            return is_temporary(body, node.args[0], depth + 1)
        if isinstance(node.func, ast.Attribute):
            return is_temporary(body, node.func.value, depth + 1)
        return False
    if isinstance(node, ast.Name):
        assigned = body.assigned.get(node.id, [])
        if assigned:
            return all(is_temporary(body, each, depth + 1) for each in assigned)
        value = body.constant(node)
        if isinstance(value, str):
            return value.startswith(_TEMPORARY)
        return _like(body.meaning(node).names, _IN_MEMORY)
    return False


def _like(names: Iterable[str], patterns: Iterable[str]) -> bool:
    patterns = tuple(patterns)
    return any(fnmatchcase(name, each) for name in names for each in patterns)


def seconds_of(value: Any) -> float | None:
    """Return *value*, a duration as Celery takes it, in seconds; ``None`` if it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    total = getattr(value, "total_seconds", None)
    return float(total()) if callable(total) else None


def shown_seconds(seconds: float) -> str:
    """Return *seconds* as they are shown in a sentence."""
    return f"{seconds:,.10g} s"


def option_place(facts: Facts, task: TaskFacts, option: str) -> Place | None:
    """Return where *option* stands in the declaration of *task*, or else the task's place."""
    source = facts.source_at(task.place) if task.place is not None else None
    if source is None or task.place is None:
        return task.place
    for functions in source.functions.values():
        for node in functions:
            if node.lineno != task.place.line:
                continue
            for decorator in getattr(node, "decorator_list", []):
                for keyword in getattr(decorator, "keywords", []):
                    if keyword.arg == option:
                        return source.place(keyword.value.lineno)
    return task.place


def queue_of(facts: Facts, task: Any) -> str | None:
    """Return the Celery queue that *task* is sent to; ``None`` if that cannot be told."""
    try:
        return routed(facts, task)
    except Exception:  # noqa: BLE001 - a router of the project's may raise anything
        return None


def routed(facts: Facts, task: Any) -> str:
    """Return the Celery queue of *task*; raise what the project's routers raise.

    :raises PublishError: there is none, or there are several.
    """
    amqp = facts.app.amqp
    # A task's own options are there once it is bound to its app.
    options = {
        each: value
        for each in ("queue", "exchange", "routing_key", "exchange_type")
        if (value := getattr(task, each, None)) is not None
    }
    way = amqp.router.route(options, task.name, (), {})
    return queue_name(amqp, way)
