"""Compiles a package's modules, so that no cold start has to, and always to the same bytes."""

from __future__ import annotations

import subprocess
from pathlib import Path

from lambda_celery.packaging import tools
from lambda_celery.packaging.errors import PackagingError
from lambda_celery.packaging.target import Target

#: Where Lambda unpacks a package. Tracebacks name it.
TASK_ROOT = "/var/task"


def compile_modules(directory: Path, target: Target) -> str | None:
    """Compile the modules in *directory* for the Python of *target*.

    The files are not checked against their sources (``unchecked-hash``), whose times are not
    their own in a zip. A module that does not compile is left alone.

    Return ``None``, or why nothing was compiled: another Python's files would not be read.
    """
    python = tools.python(target.python)
    if python is None:
        return (
            f"The modules are not compiled, since Python {target.version} is not here: with it, "
            "a cold start takes less time."
        )
    # One process, and one seed: the order of a set is in what it writes.
    subprocess.run(  # noqa: S603
        [
            *(python, "-s", "-S", "-m", "compileall", "-q", "-f", "-j", "1"),
            *("--invalidation-mode", "unchecked-hash"),
            *("-s", str(directory), "-p", TASK_ROOT, str(directory)),
        ],
        env={"PYTHONHASHSEED": "0"},
        capture_output=True,
        check=False,
    )
    return None


def check_compiled(directory: Path, names: list[str]) -> None:
    """Raise :exc:`PackagingError` if one of the modules *names* was not compiled."""
    for name in names:
        path = directory / name
        if path.suffix == ".py" and not any(path.parent.glob(f"__pycache__/{path.stem}.*.pyc")):
            raise PackagingError(
                f"{name} is no module for this Python: it does not compile. Mend it, or leave it "
                f"out with --exclude {name}."
            )
