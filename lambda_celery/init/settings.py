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

from lambda_celery.conf import CONF_PREFIX, Settings
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


def are_missing(app: Celery) -> bool:
    """Whether nothing of *app* says yet that tasks go to Lambda."""
    is_set = any(app.conf.get(CONF_PREFIX + each.name) is not None for each in fields(Settings))
    return not is_set and not any(
        getattr(each, TASK_ATTRIBUTE, None) for each in app.tasks.values()
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


def added(text: str, place: Place, tasks: Sequence[str], *, keeps_results: bool) -> str:
    """Return *text* of the module *place* with the settings in it.

    Arguments:
        tasks: globs of the tasks that move.
        keeps_results: whether there is a table for results.
    """
    tree = ast.parse(text)
    line_end = "\r\n" if "\r\n" in text else "\n"
    lines = text.splitlines()
    end, imports_end = _end(tree, lines), _imports_end(tree)
    if place.app_name is None:
        imports = ["import os"]
        body = _in_django(tree, tasks, keeps_results=keeps_results)
    else:
        imports = ["import os", "import lambda_celery"]
        body = _in_module(place.app_name, tasks, keeps_results=keeps_results)
    there = {ast.unparse(each) for each in tree.body if isinstance(each, ast.Import)}
    wanted = [each for each in imports if each not in there]
    after = ["", *body.splitlines()]
    if end < len(lines):
        after += ["", ""]
    while end and not lines[end - 1].strip():
        end -= 1
    rest = lines[end:]
    while end < len(lines) and rest and not rest[0].strip():
        rest = rest[1:]
    before = [*lines[:imports_end], *wanted, *lines[imports_end:end]]
    return line_end.join([*before, *after, *rest]) + line_end


def shown(app_name: str, tasks: Sequence[str], *, keeps_results: bool) -> str:
    """Return the settings for a project whose place for them is not found."""
    imports = "import os\nimport lambda_celery\n\n"
    return imports + _in_module(app_name, tasks, keeps_results=keeps_results)


def _in_module(app: str, tasks: Sequence[str], *, keeps_results: bool) -> str:
    lines = [
        _COMMENT,
        f"lambda_celery.install({app})",
        f"{app}.conf.lambda_tasks = {_list(tasks)}",
        f"{app}.conf.lambda_enabled = {_IS_DEPLOYED}",
    ]
    if keeps_results:
        lines += [
            'if "RESULT_BACKEND" in os.environ:',
            f'    {app}.conf.result_backend = os.environ["RESULT_BACKEND"]',
        ]
    return "\n".join(lines)


def _in_django(tree: ast.Module, tasks: Sequence[str], *, keeps_results: bool) -> str:
    lines = [_COMMENT]
    if not any(
        isinstance(node, ast.Constant) and node.value == _DJANGO_APP for node in ast.walk(tree)
    ):
        lines.append(f'INSTALLED_APPS = [*INSTALLED_APPS, "{_DJANGO_APP}"]')
    lines += [f"CELERY_LAMBDA_TASKS = {_list(tasks)}", f"CELERY_LAMBDA_ENABLED = {_IS_DEPLOYED}"]
    if keeps_results:
        lines += [
            'if "RESULT_BACKEND" in os.environ:',
            '    CELERY_RESULT_BACKEND = os.environ["RESULT_BACKEND"]',
        ]
    return "\n".join(lines)


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


# ------------------------------------------------------------------- positions
def _end(tree: ast.Module, lines: Sequence[str]) -> int:
    """Return after how many lines the module ends, but for what runs when it is the program."""
    for node in tree.body:
        if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
            return node.lineno - 1
    return len(lines)


def _imports_end(tree: ast.Module) -> int:
    """Return after how many lines the first of the module's imports end."""
    end = 0
    for node in tree.body:
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node, ast.Import | ast.ImportFrom) or (is_docstring and not end):
            end = node.end_lineno or node.lineno
        else:
            break
    return end
