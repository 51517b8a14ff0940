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

    Raises :exc:`InitError` if one of them cannot be written, or has another text by now than it
    had when it was read. Everything is as it was, then.
    """
    undo: list[Callable[[], object]] = []
    prepared: list[tuple[Change, Path, Path]] = []
    where = Path()
    with ExitStack() as scratch:
        try:
            for change in changes:
                where = change.path
                prepared.append((change, *_prepare(change, undo, scratch)))
            for change, written, path in prepared:
                where = path
                _put(change, written, path, undo)
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


def _put(change: Change, written: Path, path: Path, undo: list[Callable[[], object]]) -> None:
    before = written.with_name(written.name + ".before")
    is_there = path.exists()
    if is_there:
        shutil.copy2(path, before)
    # Somebody may have written it while the prompts waited.
    now = before.read_bytes() if is_there else None
    if now != (None if change.before is None else change.before.encode(change.encoding)):
        raise InitError(
            f"{shown(path)} was changed while this command ran. Nothing was changed by it: run it "
            "again."
        )
    os.replace(written, path)
    undo.append((lambda: os.replace(before, path)) if is_there else path.unlink)
