"""From a task's body into what it uses: the functions, methods and classes of the project.

A function counts as used where its name stands, called or not, since it may be handed on. Of a
class that is used, the methods count whose names are used anywhere on the way, and those that
Python itself calls. A Django model leads to its managers and to the models of its relations. Of an
object whose class is not known, each method of the project counts that has the name. So more is
looked at than runs: what does run is not to be missed.
"""

from __future__ import annotations

import ast
import datetime
import functools
import io
import logging
import re
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import Any

from celery import Signature, Task
from celery.result import AsyncResult

from lambda_celery.check import django_models
from lambda_celery.check.bodies import (
    Bodies,
    Body,
    Call,
    Instance,
    Meaning,
    is_a,
    is_project_module,
)
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
#: A name that more methods of the project have says nothing of which is called.
MAXIMUM_NAMESAKES = 30
#: What has many methods that are called on objects of unknown classes.
_COMMON = (dict, list, set, str, bytes, int, float, io.TextIOWrapper, io.BytesIO, logging.Logger,
           datetime.datetime, datetime.timedelta, re.Pattern, re.Match, threading.Thread, Task,
           AsyncResult, Signature)  # fmt: skip
_COMMON_OF_DJANGO = (("django.db.models", "Model"), ("django.db.models", "QuerySet"),
                     ("django.http", "HttpRequest"), ("django.http", "HttpResponse"))  # fmt: skip
#: Whose code is no project's, wherever it lies.
_FRAMEWORKS = {"celery", "kombu", "billiard", "django", "lambda_celery", "lambda_runtime"}


#: Names in a class, and what each leads to.
Members = Sequence[tuple[str, tuple[Any, ...]]]


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
        self._members: dict[type, tuple[Members, Members]] = {}

    def follow(self, task: Task) -> Followed:
        """Return what the body of *task*, and the methods of its class, reach."""
        package = (type(task).__module__ or "").partition(".")[0]
        return _Walk(self, self._bodies, package).walk(list(_begin(task)))

    def references(self, body: Body) -> tuple[list[tuple[FunctionType, type | None]], set[type]]:
        """Return the functions that *body* refers to, with the class of each, and the classes."""
        if body not in self._references:
            functions, classes = _references(body)
            for call in body.calls:
                if _is_of_unknown(call):
                    functions += self._methods.get(call.attribute, ())
            self._references[body] = functions, classes
        return self._references[body]

    def members(self, cls: type) -> tuple[Members, Members]:
        """Return the functions that stand in *cls* itself, by their names, and its relations."""
        if cls not in self._members:
            attributes = list(vars(cls).items())
            functions = [(n, (f,)) for n, value in attributes if (f := _function_of(value))]
            relations = [(n, b) for n, value in attributes if (b := django_models.behind(value))]
            self._members[cls] = functions, relations
        return self._members[cls]

    @functools.cached_property
    def _methods(self) -> Mapping[str, list[tuple[FunctionType, type | None]]]:
        """The methods of the project's classes by names that say which they may be."""
        found: dict[str, list[tuple[FunctionType, type | None]]] = {}
        for cls in _project_classes():
            for name, value in list(vars(cls).items()):
                function = _function_of(value)
                if function is not None:
                    found.setdefault(name, []).append((function, cls))
        common = {name for each in _common_classes() for name in dir(each)}
        return {
            name: methods
            for name, methods in found.items()
            if name not in common and len(methods) <= MAXIMUM_NAMESAKES
        }


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
        # Also what was not looked into, as Django's own methods of a model: not to be queued anew.
        self._seen: set[tuple[FunctionType, type | None]] = set()

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
        if (function, owner) in self._seen:
            return
        self._seen.add((function, owner))
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
        classes = deque(self._classes)
        while classes:
            cls = classes.popleft()
            route = self._classes[cls]
            for base in cls.__mro__:
                module = sys.modules.get(base.__module__ or "")
                if not self._is_ours(getattr(module, "__file__", None) or "", base.__module__):
                    continue
                functions, relations = self._follower.members(base)
                for name, (function,) in functions:
                    if name in self._attributes and (function, cls) not in self._seen:
                        self._pending.append((function, cls, (*route, cls.__name__)))
                for name, others in relations:
                    for other in others if name in self._attributes else ():
                        if other not in self._classes:
                            self._classes[other] = (*route, cls.__name__)
                            classes.append(other)

    def _is_ours(self, filename: str, module: str | None) -> bool:
        package = (module or "").partition(".")[0]
        if package in _FRAMEWORKS or not filename:
            return False
        return package == self._package or is_of_project(filename)


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


def _is_of_unknown(call: Call) -> bool:
    """Whether *call* is of a method of an object that may be one of the project's."""
    if call.receiver is None or call.meaning.is_known:
        return False
    receiver = call.body.meaning(call.receiver)
    # What Django's functions and managers return is an object of the project's, most often.
    tops = {
        name.partition(".")[0]
        for name in receiver.names
        if not any(each in name for each in (".objects.", "load_model()", "get_model()"))
    }
    return not receiver.is_known and all(
        each in ("self", "django") or is_project_module(each) is not False for each in tops
    )


def _project_classes() -> Iterator[type]:
    for module in list(sys.modules.values()):
        filename = getattr(module, "__file__", None)
        if isinstance(filename, str) and is_of_project(filename):
            for value in list(vars(module).values()):
                if is_a(value, type) and value.__module__ == module.__name__:
                    yield value


def _common_classes() -> Iterator[type]:
    yield from _COMMON
    for module, name in _COMMON_OF_DJANGO:
        if module in sys.modules:
            yield getattr(sys.modules[module], name)


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
