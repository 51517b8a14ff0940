"""Which distributions a package has: the project's own lock, or its requirements."""

from __future__ import annotations

import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path

from lambda_celery.packaging import tools
from lambda_celery.packaging.errors import PackagingError


@dataclass(frozen=True)
class Requirements:
    """A file for ``-r``.

    Attributes:
        path: the file.
        source: where it comes from, in words.
        is_projects: whether it is a file of the project's, and not one that was made of it.
    """

    path: Path
    source: str
    is_projects: bool


def find(root: Path, chosen: Path | None, scratch: Path) -> Requirements:
    """Return the requirements of the project in *root*.

    These are taken from the first that there is: *chosen*, ``uv.lock``, ``poetry.lock``,
    ``requirements.txt``, the dependencies in ``pyproject.toml``. Hashes stay in them.

    Arguments:
        root: the project's directory.
        chosen: the file that the user names.
        scratch: a directory for what is made.

    Raises:
        PackagingError: there are none, or the tool that reads the lock is missing or fails.
    """
    if chosen is not None:
        if not chosen.is_file():
            raise PackagingError(f"There is no {chosen}: name a file with --requirements.")
        return Requirements(chosen.resolve(), chosen.name, is_projects=True)
    made = scratch / "requirements.txt"
    if (root / "uv.lock").exists():
        return _exported_by_uv(root, made)
    if (root / "poetry.lock").exists():
        return _exported_by_poetry(root, made)
    if (root / "requirements.txt").exists():
        return Requirements(root / "requirements.txt", "requirements.txt", is_projects=True)
    return _of_pyproject(root, made)


def _exported_by_uv(root: Path, made: Path) -> Requirements:
    command = tools.uv()
    if command is None:
        raise PackagingError(
            "The project has a uv.lock, and uv is not here to read it: install uv, or name a "
            "requirements file with --requirements."
        )
    options = ["--frozen", "--no-dev", "--no-editable", "--no-emit-project", "--no-header"]
    tools.run(
        [*command, "export", "--quiet", *options, "--output-file", str(made)],
        "export uv.lock",
        directory=root,
    )
    return Requirements(made, "uv.lock", is_projects=False)


def _exported_by_poetry(root: Path, made: Path) -> Requirements:
    command = shutil.which("poetry")
    if command is None:
        raise PackagingError(
            "The project has a poetry.lock, and poetry is not on the path to read it: install "
            "poetry with poetry-plugin-export, or name a requirements file with --requirements."
        )
    tools.run(
        [
            *(command, "export", "--only", "main"),
            *("--format", "requirements.txt", "--output", str(made)),
        ],
        "export poetry.lock (it needs the plug-in poetry-plugin-export)",
        directory=root,
    )
    return Requirements(made, "poetry.lock", is_projects=False)


def _of_pyproject(root: Path, made: Path) -> Requirements:
    path = root / "pyproject.toml"
    project = tomllib.loads(path.read_text()).get("project", {}) if path.exists() else {}
    dependencies = project.get("dependencies")
    if dependencies is None:
        raise PackagingError(
            f"The project in {root} has none of uv.lock, poetry.lock, requirements.txt and "
            "dependencies in pyproject.toml: name a requirements file with --requirements."
        )
    made.write_text("".join(f"{each}\n" for each in dependencies))
    return Requirements(made, "the dependencies in pyproject.toml", is_projects=False)
