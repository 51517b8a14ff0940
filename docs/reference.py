"""Write what ``docs/configuration.md`` says of each setting, from the settings' definitions.

``make reference`` calls it; a unit test fails while the page is not what it would write.
"""

from __future__ import annotations

import re
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

from lambda_celery.conf import Settings

PAGE = Path(__file__).with_name("configuration.md")
BEGIN, END = "<!-- made by docs/reference.py -->", "<!-- end -->"


def written(page: str) -> str:
    """Return *page* with the table of settings between its marks."""
    begin, end = map(re.escape, (BEGIN, END))
    return re.sub(f"(?<={begin}\n).*?(?={end})", lambda _: table(), page, flags=re.DOTALL)


def table() -> str:
    """Return the settings as a table in Markdown."""
    rows = [
        f"| `{each.name}` | {_default(each)} | {each.metadata['about']} |"
        for each in fields(Settings)
    ]
    return "\n".join(["", "| setting | default | what it does |", "|---|---|---|", *rows, "", ""])


def _default(setting: Field[Any]) -> str:
    value = setting.default if setting.default_factory is MISSING else setting.default_factory()
    if value is None:
        return str(setting.metadata["unset"])
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"{value:,.10g}"
    return f"`{value!r}`"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
