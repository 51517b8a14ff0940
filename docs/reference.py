"""Write what ``docs/configuration.md`` says of each setting, from the settings' definitions.

And what ``docs/check.md`` says of each rule, from the rules. ``make reference`` calls it; unit
tests fail while a page is not what it would write.
"""

from __future__ import annotations

import re
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

from lambda_celery.check.rules import registry
from lambda_celery.conf import Settings

PAGE = Path(__file__).with_name("configuration.md")
RULES_PAGE = Path(__file__).with_name("check.md")
BEGIN, END = "<!-- made by docs/reference.py -->", "<!-- end -->"


def written(page: str) -> str:
    """Return *page* with the table of settings between its marks."""
    return _with(page, table())


def written_rules(page: str) -> str:
    """Return *page* with the rules between its marks."""
    return _with(page, rules())


def _with(page: str, text: str) -> str:
    begin, end = map(re.escape, (BEGIN, END))
    return re.sub(f"(?<={begin}\n).*?(?={end})", lambda _: text, page, flags=re.DOTALL)


def rules() -> str:
    """Return the rules of the check, a heading for each, in Markdown."""
    # The last are those of --deployed, whichever modules were imported first.
    ordered = sorted(registry, key=lambda rule: rule.id.startswith("deployed-"))
    parts = [f"### {each.id}\n\n{each.title}. {each.paragraph}" for each in ordered]
    return "\n" + "\n\n".join(parts) + "\n\n"


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
    RULES_PAGE.write_text(written_rules(RULES_PAGE.read_text()))
