"""The pages of the run book: causes of an alarm, and the commands that stand there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[4] / "docs" / "operations" / "alarms"
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Cause:
    """A section of a page.

    :ivar shows: the commands below "Shown by".
    :ivar seen: what they must say: what stands as code in the first sentence of "You see".
    :ivar mends: the commands of the section's second block.
    """

    page: str
    name: str
    shows: tuple[str, ...]
    seen: tuple[str, ...]
    mends: tuple[str, ...]

    @property
    def key(self) -> tuple[str, str]:
        return self.page, self.name


def _cause(page: str, section: str) -> Cause:
    name, _, text = section.partition("\n")
    shows, mends = (tuple(block.splitlines()) for block in _BLOCK.findall(text))
    told = re.search(r"^You see (.*?)(\. |\.\n|\n\n)", text, re.MULTILINE | re.DOTALL)
    assert told is not None, (page, name)
    return Cause(page, name, shows, tuple(re.findall("`([^`]+)`", told[1])), mends)


PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.md"))}
CAUSES = [
    _cause(page, section) for page, text in PAGES.items() for section in text.split("\n## ")[1:]
]
