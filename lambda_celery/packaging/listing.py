"""The files of a project: what git does not ignore, in its submodules and behind its links."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lambda_celery.packaging import tools
from lambda_celery.packaging.errors import PackagingError

_LIST = ["ls-files", "-z"]
# git takes no submodules where it lists what it does not track.
_TRACKED = ["--cached", "--recurse-submodules"]
_UNTRACKED = ["--others", "--exclude-standard"]


@dataclass(frozen=True)
class Listing:
    """Paths of files, from where the project's import path begins.

    Attributes:
        tracked: what git tracks.
        untracked: what it neither tracks nor ignores.
        has_git: whether it was asked for what it tracks.
        broken: links to nothing.
    """

    tracked: list[str] = field(default_factory=list)
    untracked: list[str] = field(default_factory=list)
    has_git: bool = False
    broken: list[str] = field(default_factory=list)


def list_files(source: Path, root: Path, is_wanted: Callable[[str, bool], bool]) -> Listing:
    """Return the files under *source*.

    A link to a directory stands for what is in there.

    Arguments:
        source: where the project's import path begins.
        root: the project's directory, which no link may leave.
        is_wanted: whether a path, which git tracks or not, is to be packed: what is left out may be
            a link to anywhere, and is returned as it is.

    Raises:
        PackagingError: a link leaves the project or leads back to where it is, a submodule is
            not checked out, or git is here and fails.
    """
    tracked, untracked, has_git = _names(source)
    listing = Listing(has_git=has_git)
    for name in tracked:
        listing.tracked.extend(_files(source, name, True, root, is_wanted, listing.broken))
    for name in untracked:
        listing.untracked.extend(_files(source, name, False, root, is_wanted, listing.broken))
    return listing


def all_files(source: Path) -> list[str]:
    """Return the paths of all files under *source*, whatever git says, without git's own."""
    names: list[str] = []
    for directory, directories, files in os.walk(source):
        directories[:] = [each for each in directories if each != ".git"]
        links = [each for each in directories if (Path(directory) / each).is_symlink()]
        names += [(Path(directory) / each).relative_to(source).as_posix() for each in files + links]
    return names


def is_inside(path: Path, root: Path) -> bool:
    """Whether *path*, with all links followed, is in *root*."""
    return path.resolve().is_relative_to(root.resolve())


def _files(
    source: Path,
    name: str,
    is_tracked: bool,
    root: Path,
    is_wanted: Callable[[str, bool], bool],
    broken: list[str],
) -> list[str]:
    """Return the files that the entry *name* stands for: itself, or what is in there."""
    if not is_wanted(name, is_tracked):
        return [name]
    path = source / name
    if not path.exists():
        # git lists what was deleted, too.
        broken += [name] if path.is_symlink() else []
        return []
    if not is_inside(path, root):
        raise PackagingError(
            f"{name} is a link to {path.resolve()}, outside of {root}: put a copy in its place, "
            f"leave it out (--exclude {name!r}), or take it all the same (--include {name!r})."
        )
    if path.is_file():
        return [name]
    if path.is_symlink():
        if path.parent.resolve().is_relative_to(path.resolve()):
            raise PackagingError(
                f"{name} is a link to a directory that it is in itself: leave it out "
                f"(--exclude {name!r})."
            )
    elif not any(path.iterdir()):
        raise PackagingError(
            f"The submodule {name} is not checked out: run `git submodule update --init`, or "
            f"leave it out (--exclude {name!r})."
        )
    # A link to a directory, or a repository in the repository.
    tracked, untracked, _ = _names(path)
    inner: list[str] = []
    for each in (*tracked, *untracked):
        below = f"{name.rstrip('/')}/{each}"
        inner += _files(source, below, is_tracked, root, is_wanted, broken)
    return inner


def _names(source: Path) -> tuple[list[str], list[str], bool]:
    """Return what git tracks, what else it does not ignore, and whether it is a repository."""
    git = shutil.which("git")
    if git is None:
        return [], all_files(source), False
    if any((each / ".git").exists() for each in (source.resolve(), *source.resolve().parents)):
        tracked, untracked = (
            _split(tools.run([git, *_LIST, *which], "list the project's files", directory=source))
            for which in (_TRACKED, _UNTRACKED)
        )
        return tracked, untracked, True
    # Outside of a repository, .gitignore means the same to whoever copies the project.
    with tempfile.TemporaryDirectory() as empty:
        tools.run([git, "init", "--quiet", "--bare", empty], "start", directory=source)
        output = tools.run(
            [git, f"--git-dir={empty}", f"--work-tree={source}", *_LIST, *_UNTRACKED],
            "list the project's files",
            directory=source,
        )
    return [], _split(output), False


def _split(output: str) -> list[str]:
    return [each for each in output.split("\0") if each]
