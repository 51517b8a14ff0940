"""The programs that a build runs: uv, pip, poetry, git, a Python."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from lambda_celery.packaging.errors import PackagingError

_TOLD_LINES = 15


def run(
    command: Sequence[str],
    what: str,
    *,
    directory: Path,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run *command* in *directory* and return its standard output.

    Arguments:
        command: the program, and its arguments.
        what: what it is to do, to follow the words "could not".
        directory: where it runs.
        environment: variables on top of this process's own, which say where the index is.

    Raises:
        PackagingError: it failed; the error has the end of what it said.
    """
    done = subprocess.run(  # noqa: S603 - uv, pip and their like
        command,
        cwd=directory,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()[-_TOLD_LINES:]
        raise PackagingError(f"{Path(command[0]).name} could not {what}:\n" + "\n".join(lines))
    return done.stdout


def uv() -> list[str] | None:
    """Return how uv is run: the one on the path, else PyPI's package; ``None`` without."""
    if (found := shutil.which("uv")) is not None:
        return [found]
    if importlib.util.find_spec("uv") is not None:
        return [sys.executable, "-m", "uv"]
    return None


def pip() -> list[str] | None:
    """Return how this interpreter's pip is run; ``None`` without."""
    if importlib.util.find_spec("pip") is None:
        return None
    return [sys.executable, "-m", "pip"]


def python(version: tuple[int, int]) -> str | None:
    """Return the path of a Python of *version* on this machine; ``None`` without."""
    if sys.version_info[:2] == version:
        return sys.executable
    name = f"python{version[0]}.{version[1]}"
    for candidate in (shutil.which(name), _from_uv(version)):
        if candidate is not None and _is_python(candidate, version):
            return candidate
    return None


def _from_uv(version: tuple[int, int]) -> str | None:
    command = uv()
    if command is None:
        return None
    done = subprocess.run(  # noqa: S603
        [*command, "python", "find", "--no-python-downloads", f"{version[0]}.{version[1]}"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else None


def _is_python(path: str, version: tuple[int, int]) -> bool:
    # What lies on the path may be a shim, which runs nothing.
    program = f"import sys; sys.exit(sys.version_info[:2] != {version})"
    done = subprocess.run(  # noqa: S603
        [path, "-I", "-c", program], capture_output=True, check=False
    )
    return done.returncode == 0
