"""The distributions in a directory where wheels were unpacked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.tags import Tag, parse_tag
from packaging.utils import canonicalize_name


@dataclass(frozen=True)
class Installed:
    """A distribution.

    Attributes:
        name: in its normalised form.
        version: as it says it.
        files: paths in the directory, as its record lists them.
        tags: what its wheel runs on.
        requires: what it requires, with the markers and the extras.
    """

    name: str
    version: str
    files: tuple[str, ...]
    tags: frozenset[Tag]
    requires: tuple[Requirement, ...]


def installed(directory: Path) -> list[Installed]:
    """Return the distributions in *directory*, by name."""
    found = [_read(each) for each in distributions(path=[str(directory)])]
    return sorted(found, key=lambda each: each.name)


def without(directory: Path, all_of_them: Iterable[Installed], names: Iterable[str]) -> None:
    """Delete the files of the distributions *names* from *directory*."""
    for each in all_of_them:
        if each.name in set(names):
            for file in each.files:
                (directory / file).unlink(missing_ok=True)


def _read(distribution: Distribution) -> Installed:
    wheel = distribution.read_text("WHEEL") or ""
    tags: set[Tag] = set()
    for line in wheel.splitlines():
        key, _, value = line.partition(":")
        if key.strip().lower() == "tag":
            tags |= parse_tag(value.strip())
    return Installed(
        name=canonicalize_name(distribution.metadata["Name"]),
        version=distribution.version,
        files=tuple(each.as_posix() for each in distribution.files or ()),
        tags=frozenset(tags),
        requires=tuple(Requirement(each) for each in distribution.requires or ()),
    )
