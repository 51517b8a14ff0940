"""A project of one module, or a few, that the check looks at."""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

from celery import signals
from celery.utils.dispatch import Signal

from lambda_celery.check.facts import Facts
from tests.shared_tasks import none_of_others

_numbers = itertools.count()
#: On the line that a finding has to be about.
MARK = "# here"
HEAD = "from celery import Celery\napp = Celery('proj', broker='redis://', set_as_current=False)\n"


@contextmanager
def facts_of(folder: Path, code: str, pyproject: str = "", **others: str) -> Iterator[Facts]:
    """Import *code* as the module of an app ``app``, and give the facts of it.

    :param others: the code of other modules, by their names.
    """
    name = f"project_{next(_numbers)}"
    for module, text in {**others, name: HEAD + dedent(code)}.items():
        (folder / f"{module}.py").write_text(dedent(text))
    if pyproject:
        (folder / "pyproject.toml").write_text(dedent(pyproject))
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    # What it connects is alive until the garbage collector comes by.
    of_celery = [each for each in vars(signals).values() if isinstance(each, Signal)]
    connected = [each.receivers for each in of_celery]
    for each in of_celery:
        each.receivers = [*(each.receivers or ())]
    try:
        with none_of_others():
            app = importlib.import_module(name).app
            yield Facts.collect(app, folder)
    finally:
        for each, receivers in zip(of_celery, connected, strict=True):
            each.receivers = receivers
        sys.path.remove(str(folder))
        for module in (name, *others):
            sys.modules.pop(module, None)


def marked_lines(folder: Path) -> set[tuple[str, int]]:
    """Return the file and the number of each line with the mark."""
    return {
        (path.name, number)
        for path in folder.iterdir()
        if path.suffix in (".py", ".toml")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if line.endswith(MARK)
    }
