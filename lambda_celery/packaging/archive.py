"""Writes a directory into a zip: the same files make the same bytes."""

from __future__ import annotations

import os
import stat
import tempfile
import zipfile
from pathlib import Path

from lambda_celery.packaging.errors import PackagingError

#: The first day that a zip can tell.
_TIME = (1980, 1, 1, 0, 0, 0)
_UNIX = 3


def write(directory: Path, output: Path) -> dict[str, int]:
    """Write the files in *directory* to *output*, by way of a temporary file beside it.

    They are sorted, and each has the same time and one of two modes.

    Return the compressed size of each in bytes, by its path. Raises :exc:`PackagingError` if
    *output* cannot be written.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=output.parent, prefix=f".{output.name}.")
    except OSError as exc:
        raise PackagingError(f"{output} cannot be written: {exc.strerror}.") from exc
    try:
        with os.fdopen(descriptor, "wb") as file:
            sizes = _write(directory, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED))
        os.chmod(temporary, 0o644)
        os.replace(temporary, output)
    except OSError as exc:
        raise PackagingError(f"{output} cannot be written: {exc.strerror}.") from exc
    finally:
        Path(temporary).unlink(missing_ok=True)
    return sizes


def check_output(output: Path) -> None:
    """Raise :exc:`PackagingError` if *output* can be seen to be no place for a file."""
    parent = next(each for each in output.absolute().parents if each.exists())
    if output.is_dir() or not parent.is_dir() or not os.access(parent, os.W_OK):
        raise PackagingError(f"{output} cannot be written: choose another file with --output.")


def files_in(directory: Path) -> list[Path]:
    """Return the files in *directory*, in the order of their paths in a zip."""
    found = [path for path in directory.rglob("*") if path.is_file()]
    return sorted(found, key=lambda path: path.relative_to(directory).as_posix())


def _write(directory: Path, archive: zipfile.ZipFile) -> dict[str, int]:
    sizes = {}
    with archive:
        for path in files_in(directory):
            entry = zipfile.ZipInfo(path.relative_to(directory).as_posix(), _TIME)
            entry.create_system = _UNIX
            entry.compress_type = zipfile.ZIP_DEFLATED
            executable = path.stat().st_mode & stat.S_IXUSR
            entry.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
            archive.writestr(entry, path.read_bytes())
            sizes[entry.filename] = entry.compress_size
    return sizes
