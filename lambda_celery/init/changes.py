"""What becomes of the files: which are written, which are kept, and what to say of each."""

from __future__ import annotations

import difflib
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lambda_celery.init import ownership
from lambda_celery.init.errors import InitError

_NEW = ".new"
#: Of what any form has.
_SUFFIXES = {".json", ".py", ".tf", ".toml", ".yaml"}


@dataclass(frozen=True)
class Change:
    """A file's text before, ``None`` if there is none, and after. Line ends are as in the file."""

    path: Path
    before: str | None
    after: str
    encoding: str = "utf-8"

    def diff(self, root: Path) -> str:
        """Return it as a unified diff, with paths from *root*, for ``patch -p1``."""
        is_in = self.path.is_relative_to(root)
        name = (self.path.relative_to(root) if is_in else self.path).as_posix()
        lines = difflib.unified_diff(
            _lines(self.before or ""),
            _lines(self.after),
            "/dev/null" if self.before is None else f"a/{name}",
            f"b/{name}",
        )
        return "".join(lines)


def _lines(text: str) -> list[str]:
    # `patch` wants to be told where a last line does not end.
    lines = io.StringIO(text, newline="\n").readlines()
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n\\ No newline at end of file\n"
    return lines


@dataclass
class Changes:
    """The changes of one run, with sentences on what was not changed.

    :ivar offered: what somebody has to take over from before the files are what they are to be.
    """

    made: list[Change] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    offered: list[Path] = field(default_factory=list)

    def add(self, path: Path, before: str | None, after: str) -> None:
        """Change the file *path*, if that is a change."""
        if before != after:
            self.made.append(Change(path, before, after))


def shown(path: Path) -> str:
    """Return *path* as it is written in the working directory."""
    return os.path.relpath(path)


def read_text(path: Path) -> str | None:
    """Return what is in the file *path*, line ends as they are; ``None`` if there is none.

    Raises :exc:`InitError` if it is none of text.
    """
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as exc:
        raise InitError(
            f"{shown(path)} is in the way, and cannot be read: {exc}. Move it."
        ) from exc


def add_generated(
    changes: Changes, directory: Path, files: Mapping[str, str], earlier: Iterable[Path] = ()
) -> None:
    """Add to *changes* what becomes of *files*, generated for *directory*.

    A file that nobody has changed since it was written is replaced. Another is kept, and what is
    new goes beside it. *earlier* are directories that earlier runs may have written to.

    Raises :exc:`InitError` if a file that was put beside another one has been changed, too.
    """
    for name, text in files.items():
        path = directory / name
        after = ownership.stamped(name, text)
        before = read_text(path)
        if before is None or ownership.is_unchanged(name, before):
            if before is None or before.replace("\r\n", "\n") != after:
                changes.add(path, before, after)
            continue
        if ownership.digest(name, before) == ownership.digest(name, after):
            continue  # Somebody has taken it over by hand.
        if ownership.written_digest(before) == ownership.digest(name, after):
            continue  # The changes are on top of what is still the newest.
        beside = path.with_name(path.name + _NEW)
        offered = read_text(beside)
        if offered is not None and not ownership.is_unchanged(name, offered):
            raise InitError(
                f"{shown(beside)} is in the way, and this command has not written what is in it: "
                "move it."
            )
        changes.add(beside, offered, after)
        changes.offered.append(beside)
        changes.notes.append(
            f"{shown(path)} is kept: it is not as this command wrote it. What it would be is in "
            f"{beside.name}: take over what you want, its first line too, and delete it."
        )
    written = {directory / name for name in files}
    places = {each.parent for each in written}
    for each in earlier:
        # Terraform's modules are the only files that are deeper.
        places |= {each, *each.glob("modules/**/")}
    changes.notes += (
        f"{shown(path)} was written by an earlier run, and is not part of the infrastructure now: "
        "delete it when nothing is deployed by it any more."
        for place in sorted(places)
        for path in _written_before(place)
        if path not in written
    )


def _written_before(place: Path) -> Iterator[Path]:
    """Yield each file in the directory *place* that this command has written."""
    for path in sorted(place.glob("*")):
        if path.suffix not in _SUFFIXES:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if ownership.written_digest(text):
            yield path
