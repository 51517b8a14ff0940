"""What the check could not look at: no rule has anything to say of it, which is not green."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from types import ModuleType

from lambda_celery.check.bodies import Body, Call, is_a, is_project_module
from lambda_celery.check.facts import Facts
from lambda_celery.check.following import MAXIMUM_BODIES
from lambda_celery.check.model import Finding, Grade, registry

_DECORATORS = {"task", "shared_task", "periodic_task"}


@registry.rule("unreadable-task", "A task whose source is not found")
def unreadable(facts: Facts) -> Iterator[Finding]:
    """The source of the task's body was not found: it is compiled, or made when the program runs.

    Nothing is known of what it does, so it is amber. Read it yourself with this page beside you,
    and switch the rule off for this task where you are content.
    """
    for task in facts.tasks:
        if not task.is_readable:
            yield task.finding(
                "unreadable-task",
                Grade.AMBER,
                "The source of this task's body could not be read, so nothing is known of it.",
                "Look at what it does by the other rules of docs/check.md.",
            )


@registry.rule("task-too-large", "A task that is not followed to its end")
def too_large(facts: Facts) -> Iterator[Finding]:
    """The task uses more functions of the project than the check follows.

    The rest was not looked at. The functions nearest to the task's body were.
    """
    for task in facts.tasks:
        if not task.is_whole:
            yield task.finding(
                "task-too-large",
                Grade.AMBER,
                f"The task reaches more than {MAXIMUM_BODIES:,} functions; the others were not "
                "looked at.",
                "Look at the far ones yourself: files, subprocesses and threads matter most.",
            )


@registry.rule("unfollowed-call", "A call that could not be followed")
def unfollowed(facts: Facts) -> Iterator[Finding]:
    """A task calls what should be the project's, or an installed package's, and is not found here.

    The module is missing, cannot be imported, or has another name for it. So nothing is known of
    what the call does. Install what the project needs, and check again.
    """
    for task in facts.tasks:
        package = (type(task.task).__module__ or "").partition(".")[0]
        seen = set()
        for step, call in task.calls:
            name = _unfound(call, package)
            if name is not None and name not in seen:
                seen.add(name)
                yield task.finding(
                    "unfollowed-call",
                    Grade.AMBER,
                    f"{call.text}() was not found here as {name}, so it was not looked at.",
                    "Install what the project needs, and check again.",
                    call.place,
                    step,
                )


def _unfound(call: Call, package: str) -> str | None:
    """Return the dotted name of what *call* calls, if that is a module's, and not there."""
    root: ast.expr = call.node.func
    while isinstance(root, ast.Attribute):
        root = root.value
    begin = call.body.meaning(root)
    if call.meaning.is_known and not _is_stub(call.meaning.value):
        return None
    if begin.is_known and not is_a(begin.value, ModuleType) and not _is_stub(begin.value):
        return None
    imported = call.body.source.imports.values()
    for name in sorted(call.names):
        top = name.partition(".")[0]
        is_module_name = "." in name and not set(name) & set("()[]") and top != "self"
        is_imported = any(name == each or name.startswith(f"{each}.") for each in imported)
        is_ours = top == package or (is_imported and is_project_module(top) is not False)
        if is_module_name and is_ours:
            return name
    return None


def _is_stub(value: object) -> bool:
    return type(value).__module__.startswith("unittest.mock")


_DYNAMIC = (
    "importlib.import_module", "django.utils.module_loading.import_string", "builtins.eval",
    "builtins.exec", "builtins.__import__", "kombu.utils.imports.symbol_by_name",
    "pydoc.locate", "pkgutil.resolve_name", "runpy.*", "pickle.loads", "cloudpickle.*",
    "dill.*", "marshal.loads",
)  # fmt: skip


@registry.rule("dynamic-call", "A call that is chosen when the task runs")
def dynamic_call(facts: Facts) -> Iterator[Finding]:
    """A task calls `getattr(module, name)()`, imports a module by a name, or runs text as code.

    Which function that is stands nowhere in the source, so it was not looked at. Look at those
    that it can be.
    """
    for task in facts.tasks:
        for step, call in task.calls:
            if call.matches(_DYNAMIC) or _is_by_name(call.body, call.node.func):
                yield task.finding(
                    "dynamic-call",
                    Grade.AMBER,
                    f"What {call.text}() leads to is chosen when the task runs, and was not looked "
                    "at.",
                    "Look at what it can be by the other rules of docs/check.md.",
                    call.place,
                    step,
                )


def _is_by_name(body: Body, node: ast.expr) -> bool:
    """Whether *node* is an attribute that is found by a name which is not fixed."""
    if isinstance(node, ast.Name):
        return any(
            isinstance(each, ast.Call) and _is_by_name(body, each)
            for each in body.assigned.get(node.id, [])
        )
    return (
        isinstance(node, ast.Call)
        and "builtins.getattr" in body.meaning(node.func).names
        and len(node.args) > 1
        and not isinstance(body.constant(node.args[1]), str)
    )


@registry.rule("unregistered-task", "A task that the app does not know")
def unregistered(facts: Facts) -> Iterator[Finding]:
    """A function in the project is decorated as a task, but the app does not have it.

    Its module is not imported, so no rule has looked at it, and the function on Lambda would not
    know it either: its messages would come back, and end in the dead-letter queue. Name the
    module in `imports` or `include`, or let `autodiscover_tasks` find it.
    """
    # By the line: what is in a function, or under another name, is the same task.
    known = {task.place for task in facts.tasks}
    known |= {s.body.place for task in facts.tasks for s in task.steps if not s.route}
    for source in facts.project:
        for node in ast.walk(source.tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            decorators = [
                each.func if isinstance(each, ast.Call) else each for each in node.decorator_list
            ]
            names = {getattr(each, "attr", getattr(each, "id", "")) for each in decorators}
            imported = {source.imports.get(getattr(each, "id", ""), "") for each in decorators}
            is_task = "shared_task" in names or any(
                isinstance(each, ast.Attribute)
                and each.attr in _DECORATORS
                and "app" in ast.unparse(each.value).lower()
                for each in decorators
            )
            is_task = is_task or bool(
                imported & {"lambda_celery.task", "celery.task", "celery.decorators.task"}
            )
            if is_task and source.place(node.lineno) not in known:
                yield Finding(
                    "unregistered-task",
                    Grade.AMBER,
                    None,
                    f"The task {node.name} is not registered with the app, so it was not checked.",
                    "Import its module in the app: by imports, include or autodiscover_tasks.",
                    source.place(node.lineno),
                )
