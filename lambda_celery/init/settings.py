"""The settings that the app needs: where they belong, and what is added there.

What the stack made is told by variables of the environment, and these win over settings. So the
settings say which tasks move, and that none does while there are no such variables.
"""

from __future__ import annotations

import ast
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from celery import Celery

from lambda_celery.celery_hooks.apps import is_nobodys
from lambda_celery.conf import CONF_PREFIX, Settings
from lambda_celery.init.changes import Change, shown
from lambda_celery.init.python_source import PythonSource, UnfitSourceError
from lambda_celery.publishing.routing import TASK_ATTRIBUTE

_DJANGO_APP = "lambda_celery.django"
_COMMENT = (
    "# Written by `celery lambda init`. The variables are the stack's outputs. Where they are not\n"
    "# set, every task goes to the broker, as before."
)
_IS_DEPLOYED = """any(
    name in os.environ for name in ("LAMBDA_CELERY_QUEUE_URL", "LAMBDA_CELERY_QUEUES")
)"""


@dataclass(frozen=True)
class Place:
    """A module that settings are written into.

    :ivar app_name: what it calls the app; ``None`` if these are Django's settings.
    """

    path: Path
    app_name: str | None


@dataclass(frozen=True)
class LooseSettings:
    """Settings that have to be written by hand.

    :ivar obstacle: what ``--apply`` cannot do.
    :ivar where: where they belong.
    """

    obstacle: str
    where: str
    text: str


def are_missing(app: Celery) -> bool:
    """Whether nothing of *app* says yet that tasks go to Lambda."""
    is_set = any(app.conf.get(CONF_PREFIX + each.name) is not None for each in fields(Settings))
    return not is_set and not any(
        getattr(each, TASK_ATTRIBUTE, None) for each in app.tasks.values() if not is_nobodys(each)
    )


def place_of(app: Celery, root: Path) -> Place | None:
    """Return where the settings of *app* are written, below *root*; ``None`` if nowhere there."""
    if django := _django_settings(app):
        path = _source(django, root)
        return Place(path, None) if path else None
    for module in list(sys.modules):
        path = _source(module, root)
        name = _name_of(app, module, path) if path else None
        if path and name:
            return Place(path, name)
    return None


def proposed(app: Celery, root: Path, tasks: Sequence[str]) -> Change | LooseSettings:
    """Return what becomes of the module below *root* that the settings of *app* belong into.

    *tasks* are globs of the tasks that move. Where no such module is found, or it cannot be added
    to, the settings are returned as they are.
    """
    place = place_of(app, root)
    if place is None:
        return LooseSettings(
            "does not find where the app is made", "where the app is made", _loose("app", tasks)
        )
    try:
        source = PythonSource.read(place.path)
        after = added(source, place, tasks)
    except UnfitSourceError:
        where = "where the app is made" if place.app_name else "where Django's are"
        return LooseSettings(
            f"cannot add to {shown(place.path)}", where, _loose(place.app_name, tasks)
        )
    return Change(place.path, source.text, after, source.encoding)


def added(source: PythonSource, place: Place, tasks: Sequence[str]) -> str:
    """Return the text of *source*, the module *place*, with the settings in it.

    Raises :exc:`UnfitSourceError` if it cannot have them.
    """
    is_installed = any(
        isinstance(node, ast.Constant) and node.value == _DJANGO_APP
        for node in ast.walk(source.tree)
    )
    if place.app_name is None and not is_installed and not _names_installed_apps(source.tree):
        raise UnfitSourceError("INSTALLED_APPS is no name of the module.")
    body = _body(place.app_name, tasks, is_installed=is_installed)
    return source.with_added(_imports(place.app_name), body.split("\n"))


def _imports(app: str | None) -> list[str]:
    return ["import os", "import lambda_celery"] if app else ["import os"]


def _loose(app: str | None, tasks: Sequence[str]) -> str:
    return "\n".join([*_imports(app), "", _body(app, tasks, is_installed=False)])


def _body(app: str | None, tasks: Sequence[str], *, is_installed: bool) -> str:
    """Return the settings for the name *app*, or for Django."""
    lines = [_COMMENT]
    if app:
        lines.append(f"lambda_celery.install({app})")
    elif not is_installed:
        lines.append(f'INSTALLED_APPS = [*INSTALLED_APPS, "{_DJANGO_APP}"]')
    tasks_name, enabled_name = (
        (f"{app}.conf.lambda_tasks", f"{app}.conf.lambda_enabled")
        if app
        else ("CELERY_LAMBDA_TASKS", "CELERY_LAMBDA_ENABLED")
    )
    return "\n".join([*lines, f"{tasks_name} = {_list(tasks)}", f"{enabled_name} = {_IS_DEPLOYED}"])


def _list(tasks: Sequence[str]) -> str:
    written = [json.dumps(each, ensure_ascii=False) for each in tasks]
    line = f"[{', '.join(written)}]"
    if len(line) <= 60:
        return line
    return "\n".join(["[", *(f"    {each}," for each in written), "]"])


# ---------------------------------------------------------------------- places
def _django_settings(app: Celery) -> str | None:
    """Return the module of Django's settings, if *app* reads them by the usual namespace."""
    name = os.environ.get("DJANGO_SETTINGS_MODULE")
    return name if name in sys.modules and app.conf.prefix == "CELERY_" else None


def _source(module: str, root: Path) -> Path | None:
    found = getattr(sys.modules.get(module), "__file__", None)
    if not isinstance(found, str) or not found.endswith(".py"):
        return None
    path = Path(found).resolve()
    is_own = path.is_relative_to(root.resolve()) and "site-packages" not in path.parts
    return path if is_own else None


def _name_of(app: Celery, module: str, path: Path) -> str | None:
    """Return the name by which *module* makes *app*, and does not only import it."""
    names = {name for name, each in vars(sys.modules[module]).items() if each is app}
    return next((each for each in _assigned(path) if each in names), None) if names else None


def _assigned(path: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError):
        return
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Call):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (each.id for each in targets if isinstance(each, ast.Name))


# ----------------------------------------------------------------------- names
def _names_installed_apps(tree: ast.Module) -> bool:
    """Whether INSTALLED_APPS is a name of the module itself, and of no class in it."""
    name = "INSTALLED_APPS"
    own, in_classes, brought = False, False, False
    waiting: list[tuple[ast.AST, bool]] = [(tree, False)]
    while waiting:
        node, is_in_class = waiting.pop()
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                continue
            case ast.Name(ctx=ast.Store()) if node.id == name:
                own, in_classes = own or not is_in_class, in_classes or is_in_class
            case ast.ImportFrom() if not is_in_class:
                names = {each.asname or each.name for each in node.names}
                own, brought = own or name in names, brought or "*" in names
        is_in_class = is_in_class or isinstance(node, ast.ClassDef)
        waiting += [(each, is_in_class) for each in ast.iter_child_nodes(node)]
    # What a star brings is not looked at: the settings of other environments begin with one.
    return own or (brought and not in_classes)
