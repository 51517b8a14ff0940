"""How long the app takes to import, in a process that has nothing yet."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

_LINE = re.compile(r"import time:\s*(\d+) \|\s*\d+ \|\s*(\S+)")
_TIMEOUT_SECONDS = 120
_PROGRAM = """
import sys
from celery.app.utils import find_app
app = find_app(sys.argv[1])
app.loader.import_default_modules()
app.finalize()
"""


@dataclass(frozen=True)
class ImportCost:
    """What the imports took.

    :ivar seconds: all of them.
    :ivar packages: the top-level packages, and their own seconds, the worst first.
    """

    seconds: float
    packages: tuple[tuple[str, float], ...]


def measure(app_name: str, root: Path) -> ImportCost | None:
    """Import the app *app_name*, with its tasks, in the folder *root*; ``None`` if that fails."""
    # The path of this process: `celery` has put the working directory there.
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(  # noqa: S603 - this Python, with the program above
            [sys.executable, "-X", "importtime", "-c", _PROGRAM, app_name],
            cwd=root,
            env=environ,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return parse(done.stderr)


def parse(text: str) -> ImportCost:
    """Return what Python's ``-X importtime`` says in *text*."""
    packages: Counter[str] = Counter()
    for microseconds, module in _LINE.findall(text):
        packages[module.partition(".")[0]] += int(microseconds)
    worst = tuple((name, total / 1e6) for name, total in packages.most_common())
    return ImportCost(sum(packages.values()) / 1e6, worst)
