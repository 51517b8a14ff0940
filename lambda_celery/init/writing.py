"""Writes all of the files, or none."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

from lambda_celery.init.changes import Change, shown
from lambda_celery.init.errors import InitError

_PREFIX = ".lambda-init-"


def write(changes: Iterable[Change]) -> None:
    """Write *changes*: first beside the files, then each by a rename.

    Raises :exc:`InitError` if one of them cannot be written. Everything is as it was, then.
    """
    undo: list[Callable[[], object]] = []
    prepared: list[tuple[Path, Path]] = []
    where = Path()
    with ExitStack() as scratch:
        try:
            for change in changes:
                where = change.path
                prepared.append(_prepare(change, undo, scratch))
            for written, path in prepared:
                where = path
                _put(written, path, undo)
        except BaseException as exc:
            for step in reversed(undo):
                with suppress(OSError):
                    step()
            if isinstance(exc, OSError):
                raise InitError(
                    f"{shown(where)} cannot be written: {exc.strerror}. Nothing was changed."
                ) from exc
            raise


def _prepare(
    change: Change, undo: list[Callable[[], object]], scratch: ExitStack
) -> tuple[Path, Path]:
    """Write *change* to a file beside its own, and return both."""
    # A link stays a link: what it leads to is changed.
    path = Path(os.path.realpath(change.path))
    for directory in reversed([each for each in path.parents if not each.exists()]):
        directory.mkdir()
        undo.append(directory.rmdir)
    # In a directory, so that the file gets the mode that any new file gets.
    place = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=path.parent))
    undo.append(lambda: shutil.rmtree(place))
    scratch.callback(shutil.rmtree, place, ignore_errors=True)
    written = place / path.name
    written.write_bytes(change.after.encode(change.encoding))
    if path.exists():
        shutil.copymode(path, written)
    return written, path


def _put(written: Path, path: Path, undo: list[Callable[[], object]]) -> None:
    if path.exists():
        before = written.with_name(written.name + ".before")
        shutil.copy2(path, before)
        os.replace(written, path)
        undo.append(lambda: os.replace(before, path))
    else:
        os.replace(written, path)
        undo.append(path.unlink)
