"""From a task's body into what it uses: the functions, methods and classes of the project.

A function counts as used where its name stands, called or not, since it may be handed on. Of a
class that is used, the methods count whose names are used anywhere on the way, and those that
Python itself calls. So more is looked at than runs: what does run is not to be missed.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import Any

from celery import Task

from lambda_celery.check.bodies import Bodies, Body, Instance, Meaning, is_a
from lambda_celery.check.sources import is_of_project

#: A task that reaches more functions than these is not followed to its end.
MAXIMUM_BODIES = 1500
#: Of a list or a table of functions, so many are followed.
MAXIMUM_CONTAINED = 500
#: What Python calls of an object whose class's name is all that stands there.
_IMPLICIT = {
    "__init__", "__new__", "__post_init__", "__call__", "__enter__", "__exit__", "__aenter__",
    "__aexit__", "__iter__", "__next__", "__del__", "__setattr__", "__getattr__",
}  # fmt: skip
#: What of a task's class is run in the function.
TASK_METHODS = (
    "run", "__call__", "before_start", "after_return", "on_success", "on_failure", "on_retry",
    "on_replace", "__init__",
)  # fmt: skip
#: Whose code is no project's, wherever it lies.
_FRAMEWORKS = {"celery", "kombu", "billiard", "django", "lambda_celery", "lambda_runtime"}


@dataclass(frozen=True)
class Step:
    """A body that a task reaches, and by way of which others."""

    body: Body
    route: tuple[str, ...]


@dataclass(frozen=True)
class Followed:
    """What a task's body reaches.

    :ivar steps: the bodies, the nearest first.
    :ivar is_whole: whether these are all.
    """

    steps: tuple[Step, ...]
    is_whole: bool


class Follower:
    """Follows the tasks of one app; what a body refers to is found out once."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._references: dict[Body, tuple[list[tuple[FunctionType, type | None]], set[type]]] = {}

    def follow(self, task: Task) -> Followed:
        """Return what the body of *task*, and the methods of its class, reach."""
        package = (type(task).__module__ or "").partition(".")[0]
        return _Walk(self, self._bodies, package).walk(list(_begin(task)))

    def references(self, body: Body) -> tuple[list[tuple[FunctionType, type | None]], set[type]]:
        """Return the functions that *body* refers to, with the class of each, and the classes."""
        if body not in self._references:
            self._references[body] = _references(body)
        return self._references[body]


class _Walk:
    """One task's way."""

    def __init__(self, follower: Follower, bodies: Bodies, package: str) -> None:
        self._follower = follower
        self._bodies = bodies
        self._package = package
        self._steps: dict[Body, Step] = {}
        self._pending: deque[tuple[FunctionType, type | None, tuple[str, ...]]] = deque()
        self._classes: dict[type, tuple[str, ...]] = {}
        self._attributes: set[str] = set(_IMPLICIT)

    def walk(self, begin: list[tuple[FunctionType, type | None]]) -> Followed:
        self._pending.extend((function, owner, ()) for function, owner in begin)
        while self._pending:
            while self._pending:
                if len(self._steps) >= MAXIMUM_BODIES:
                    return Followed(tuple(self._steps.values()), is_whole=False)
                self._take(*self._pending.popleft())
            self._add_methods()
        return Followed(tuple(self._steps.values()), is_whole=True)

    def _take(self, function: FunctionType, owner: type | None, route: tuple[str, ...]) -> None:
        wrapped = getattr(function, "__wrapped__", None)
        if isinstance(wrapped, FunctionType):
            self._pending.append((wrapped, owner, route))
        if not self._is_ours(function.__code__.co_filename, function.__module__):
            return
        body = self._bodies.of(function, owner)
        if body is None or body in self._steps:
            return
        self._steps[body] = Step(body, route)
        functions, classes = self._follower.references(body)
        self._attributes |= body.attributes
        onward = (*route, body.name)
        self._pending.extend((each, its_owner, onward) for each, its_owner in functions)
        for cls in classes:
            self._classes.setdefault(cls, onward)

    def _add_methods(self) -> None:
        """Queue the methods of the classes on the way whose names are used on the way."""
        for cls, route in list(self._classes.items()):
            for base in cls.__mro__:
                module = sys.modules.get(base.__module__ or "")
                if not self._is_ours(getattr(module, "__file__", None) or "", base.__module__):
                    continue
                for name, value in vars(base).items():
                    function = _function_of(value)
                    if name in self._attributes and function is not None:
                        body = self._bodies.of(function, cls)
                        if body is not None and body not in self._steps:
                            self._pending.append((function, cls, (*route, cls.__name__)))

    def _is_ours(self, filename: str, module: str | None) -> bool:
        package = (module or "").partition(".")[0]
        if package in _FRAMEWORKS or not filename:
            return False
        return package == self._package or is_of_project_cached(filename)


@functools.cache
def is_of_project_cached(filename: str) -> bool:
    """Whether a file is of the project, asked often of the same few."""
    return is_of_project(filename)


def _begin(task: Task) -> Iterator[tuple[FunctionType, type | None]]:
    cls = type(task)
    run = _function_of(task.run)
    if run is not None:
        yield run, cls
    for base in cls.__mro__:
        if (base.__module__ or "").partition(".")[0] in _FRAMEWORKS and "run" not in vars(base):
            continue
        if base is Task or base is object:
            continue
        for name in TASK_METHODS:
            function = _function_of(vars(base).get(name))
            if function is not None and function is not run:
                yield function, cls


def _function_of(value: Any) -> FunctionType | None:
    """Return the function of Python's that *value* is, or is made of."""
    for _ in range(8):
        if is_a(value, FunctionType):
            function: FunctionType = value
            return function
        if is_a(value, MethodType, staticmethod, classmethod):
            value = value.__func__
        elif is_a(value, functools.partial, functools.partialmethod):
            value = value.func
        elif is_a(value, property):
            value = value.fget
        elif type(value).__name__ in ("cached_property", "_lru_cache_wrapper"):
            value = getattr(value, "func", None) or getattr(value, "__wrapped__", None)
        else:
            return None
    return None


def _references(body: Body) -> tuple[list[tuple[FunctionType, type | None]], set[type]]:
    functions: dict[tuple[FunctionType, type | None], None] = {}
    classes: set[type] = set()
    called = {id(each.func) for each in body.nodes if isinstance(each, ast.Call)}
    for node in body.nodes:
        if not isinstance(node, ast.Name | ast.Attribute) or not isinstance(node.ctx, ast.Load):
            continue
        meaning = body.meaning(node)
        if not meaning.is_known:
            continue
        for value in _contained(meaning.value):
            if is_a(value, Task):
                if id(node) in called:  # called as a function: it runs here
                    functions.update(dict.fromkeys(_begin(value)))
            elif is_a(value, Instance):
                classes.add(value.cls)
            elif is_a(value, type):
                classes.add(value)
            elif (function := _function_of(value)) is not None:
                functions[function, _owner(body, node)] = None
            elif (type(value).__module__ or "").partition(".")[0] not in (*_FRAMEWORKS, "builtins"):
                classes.add(type(value))
    return list(functions), {each for each in classes if each.__module__ != "builtins"}


def _contained(value: Any) -> Iterator[Any]:
    """Yield *value*; of a list, a table and their kin, what is in it, as in one of handlers."""
    pending, count = [value], 0
    while pending and count < MAXIMUM_CONTAINED:
        each, count = pending.pop(), count + 1
        if is_a(each, dict):
            pending += list(each.values())[:MAXIMUM_CONTAINED]
        elif is_a(each, list, tuple, set, frozenset):
            pending += list(each)[:MAXIMUM_CONTAINED]
        elif not is_a(each, str, bytes, int, float):
            yield each


def _owner(body: Body, node: ast.expr) -> type | None:
    if not isinstance(node, ast.Attribute):
        return None
    base: Meaning = body.meaning(node.value)
    owner: type | None = None
    if is_a(base.value, Instance):
        owner = base.value.cls
    elif is_a(base.value, type):
        owner = base.value
    return owner
