"""What a task remembers in its process."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from celery import Task

from lambda_celery.check.bodies import Body, is_a
from lambda_celery.check.facts import Facts, TaskFacts
from lambda_celery.check.following import Step
from lambda_celery.check.model import Finding, Grade, registry

_MUTATING = {
    "append", "appendleft", "add", "update", "setdefault", "pop", "popleft", "popitem", "clear",
    "extend", "insert", "remove", "discard", "sort", "put", "put_nowait", "move_to_end",
}  # fmt: skip
_CONTAINERS = (dict, list, set)
_REMEDY = (
    "Keep it in the database or a cache that all share; what merely saves work may stay, if it "
    "can be made anew at any time."
)
_CACHES = {"lru_cache", "cache"}


@registry.rule("module-state", "State in a module's globals")
def module_state(facts: Facts) -> Iterator[Finding]:
    """A function that a task uses assigns a `global`, or changes a list, dict or set of its module.

    Each execution environment has memory of its own, starts empty, and goes away at any time.
    What one task leaves there, the next may not find, or finds although it should not.
    With `lambda_concurrency`, tasks even share it at the same time. Keep it in the database or
    a shared cache. What is only a cache of something that can be made anew may stay.
    """
    for task in facts.tasks:
        for step in task.steps:
            for line, name, what in _changed_globals(step.body):
                yield task.finding(
                    "module-state",
                    Grade.AMBER,
                    f"{step.body.name}() {what} {name}, which each execution environment has for "
                    "itself.",
                    _REMEDY,
                    step.body.source.place(line),
                    step,
                )


def _changed_globals(body: Body) -> Iterator[tuple[int, str, str]]:
    def base(node: ast.AST) -> str | None:
        """The name of the module's container that *node* is, or is part of."""
        while isinstance(node, ast.Subscript | ast.Attribute):
            if isinstance(node, ast.Attribute):
                meaning = body.meaning(node)
                is_class_state = is_a(body.meaning(node.value).value, type)
                if is_a(meaning.value, *_CONTAINERS) and (
                    is_a(body.meaning(node.value).value, ModuleType) or is_class_state
                ):
                    return ast.unparse(node)
                return None
            node = node.value
        if isinstance(node, ast.Name):
            meaning = body.meaning(node)
            if is_a(meaning.value, *_CONTAINERS):
                return node.id
            constructors = ("collections.defaultdict", "collections.deque", "queue.Queue",
                            "collections.OrderedDict", "collections.Counter")  # fmt: skip
            if meaning.is_known and any(
                name.removesuffix("()").startswith(constructors) for name in meaning.names
            ):
                return node.id
        return None

    for node in body.nodes:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            if node.id in body.globals_set:
                yield node.lineno, node.id, "assigns the global"
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            if (name := base(node.value)) is not None:
                yield node.lineno, name, "changes the global"
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            owner = body.meaning(node.value).value
            if is_a(owner, type, ModuleType):
                yield node.lineno, ast.unparse(node), "assigns"
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in _MUTATING
            and (name := base(node.func.value)) is not None
        ):
            yield node.lineno, name, "changes the global"


@registry.rule("task-state", "State on the task instance")
def task_state(facts: Facts) -> Iterator[Finding]:
    """A task assigns an attribute of itself: `self.connection = …` in a bound task or its class.

    Celery makes one instance for each process, so the attribute outlives the call, as a global
    does: another call may find it, and the next environment does not. With `lambda_concurrency`
    two calls write it at the same time. Use a local variable, or `self.request`, which is the
    call's own.
    """
    for task in facts.tasks:
        for step in task.steps:
            for line, written in _assigned_on_task(task, step):
                yield task.finding(
                    "task-state",
                    Grade.AMBER,
                    f"{written} is assigned on the task's instance, which outlives the call and is "
                    "not shared with other execution environments.",
                    "Use a local variable; a client that may be made anew at any time may stay.",
                    step.body.source.place(line),
                    step,
                )


def _assigned_on_task(task: TaskFacts, step: Step) -> Iterator[tuple[int, str]]:
    body = step.body
    first = body.parameters[0].arg if body.parameters else None
    is_method = isinstance(body.owner, type) and issubclass(body.owner, Task)
    is_bound = (is_method and first in ("self", "task")) or (
        first in ("self", "task") and bool(task.options.get("bind")) and not step.route
    )
    for node in body.nodes:
        if not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Store | ast.Del):
            continue
        is_self = isinstance(node.value, ast.Name) and node.value.id == first and is_bound
        value: Any = body.meaning(node.value).value
        if is_self or is_a(value, Task):
            yield node.lineno, ast.unparse(node)


_PROCESS_WIDE = (
    "os.chdir", "os.putenv", "os.unsetenv", "os.umask", "os.environ.update", "os.environ.pop",
    "os.environ.setdefault", "os.environ.clear", "locale.setlocale", "socket.setdefaulttimeout",
    "warnings.simplefilter", "random.seed", "decimal.setcontext", "os.setuid", "os.setgid",
    "resource.setrlimit", "sys.path.append", "sys.path.insert", "sys.setrecursionlimit",
)  # fmt: skip


@registry.rule("process-state", "State of the process")
def process_state(facts: Facts) -> Iterator[Finding]:
    """A task changes its process: the working directory, the environment, the locale.

    The next task in this execution environment finds it so, and another environment does not.
    With `lambda_concurrency` other tasks meet it at the same time. Pass such things to what needs
    them: `cwd=` and `env=` of a subprocess, absolute paths.
    """
    for task in facts.tasks:
        for step in task.steps:
            changed = [
                (call.node.lineno, f"{call.text}()")
                for call in step.body.calls
                if call.matches(_PROCESS_WIDE)
            ]
            changed += [
                (node.lineno, ast.unparse(node))
                for node in step.body.nodes
                if isinstance(node, ast.Subscript)
                and isinstance(node.ctx, ast.Store | ast.Del)
                and "os.environ" in step.body.meaning(node.value).names
            ]
            for line, what in changed:
                yield task.finding(
                    "process-state",
                    Grade.AMBER,
                    f"{what} changes the whole process, and the next task finds it so.",
                    "Pass it to what needs it, such as cwd= and env= of a subprocess.",
                    step.body.source.place(line),
                    step,
                )


@registry.rule("cached-function", "A cache in the process")
def cached_function(facts: Facts) -> Iterator[Finding]:
    """A function that a task uses is kept by `functools.lru_cache` or `functools.cache`.

    It works: each environment has a cache of its own, which is empty after a cold start. A note,
    because what is kept may be older than the task's data, as on a worker.
    """
    for task in facts.tasks:
        for step in task.steps:
            decorators = getattr(step.body.node, "decorator_list", [])
            for each in decorators:
                target = each.func if isinstance(each, ast.Call) else each
                name = getattr(target, "attr", getattr(target, "id", ""))
                if name in _CACHES:
                    yield task.finding(
                        "cached-function",
                        Grade.GREEN,
                        f"{step.body.name}() keeps its results in the environment's memory.",
                        "Nothing is to be done if they may be made anew at any time.",
                        step.body.place,
                    )
