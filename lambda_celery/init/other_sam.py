"""A SAM app that the project has already: ``sam deploy`` must go on to deploy that one."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lambda_celery.init import ownership

_CONFIGURATION = "samconfig.toml"
#: What ``sam`` looks for, where it is called.
_NAMES = (_CONFIGURATION, "template.yaml", "template.yml", "template.json")


def files_of(directory: Path, own: Mapping[str, str]) -> list[str]:
    """Return the names of the files in *directory* that are another SAM app's.

    *own* are the texts of this project's, by their names. A file that this command has written is
    no other app's, whoever has changed it since.
    """
    return [name for name in _NAMES if _is_other(directory / name, own.get(name))]


def _is_other(path: Path, own: str | None) -> bool:
    text = _read(path)
    if text is None:
        return path.exists()
    if ownership.written_digest(text):
        return False
    return own is None or ownership.digest(path.name, text) != ownership.digest(path.name, own)


def stacks_of(directory: Path) -> set[str]:
    """Return the stacks of another SAM app in *directory*, by what ``samconfig.toml`` says."""
    text = _read(directory / _CONFIGURATION)
    if text is None or ownership.written_digest(text):
        return set()
    try:
        return set(_stacks(tomllib.loads(text)))
    except tomllib.TOMLDecodeError:
        return set()


def _stacks(table: Mapping[str, Any]) -> Iterator[str]:
    for key, each in table.items():
        if isinstance(each, Mapping):
            yield from _stacks(each)
        elif key == "stack_name" and isinstance(each, str):
            yield each


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
