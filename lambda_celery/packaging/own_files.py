"""The project's own files: what git does not ignore, without what no task needs."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from lambda_celery.packaging import tools
from lambda_celery.packaging.left_out import is_matched, is_own_useless


def source_root(root: Path, app: str) -> Path:
    """Return where the project's import path begins: *root*, or its ``src``, where *app* is."""
    top = app.partition(":")[0].partition(".")[0]
    src = root / "src"
    if (src / top).is_dir() or (src / f"{top}.py").exists():
        return src
    return root


def own_files(source: Path, *, exclude: Iterable[str], include: Iterable[str]) -> dict[str, Path]:
    """Return the files of the project, by their paths in the package.

    Arguments:
        source: where the project's import path begins.
        exclude: globs of what else is left out.
        include: globs of what is taken although it would be left out: git ignores it, say.

    Raises:
        PackagingError: git is here, and fails.
    """
    exclude, include = list(exclude), list(include)
    found: dict[str, Path] = {}
    for name in _not_ignored(source):
        if not is_own_useless(name) and (source / name).is_file():
            found[name] = source / name
    if include:
        for name in _all(source):
            if is_matched(name, include):
                found[name] = source / name
    return {name: path for name, path in sorted(found.items()) if not is_matched(name, exclude)}


def _not_ignored(source: Path) -> list[str]:
    git = shutil.which("git")
    if git is None:
        return _all(source)
    listing = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if any((each / ".git").exists() for each in (source.resolve(), *source.resolve().parents)):
        output = tools.run([git, *listing], "list the project's files", directory=source)
    else:
        # Outside of a repository, .gitignore means the same to whoever copies the project.
        with tempfile.TemporaryDirectory() as empty:
            tools.run([git, "init", "--quiet", "--bare", empty], "start", directory=source)
            output = tools.run(
                [git, f"--git-dir={empty}", f"--work-tree={source}", *listing],
                "list the project's files",
                directory=source,
            )
    return [each for each in output.split("\0") if each]


def _all(source: Path) -> list[str]:
    names: list[str] = []
    for directory, directories, files in os.walk(source):
        directories[:] = [each for each in directories if each not in {".git", ".venv", "venv"}]
        names += [(Path(directory) / each).relative_to(source).as_posix() for each in files]
    return names
