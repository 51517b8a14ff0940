"""Write what ``docs/configuration.md`` says of each setting, from the settings' definitions.

And what ``docs/check.md`` says of each rule, from the rules, and ``docs/infrastructure.md`` of each
input, from the inputs. ``make reference`` calls it; unit tests fail while a page is not what it
would write.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

from lambda_celery.check.rules import registry
from lambda_celery.conf import Settings
from lambda_celery.infrastructure.inputs import (
    Deployment,
    Parameter,
    Pollers,
    QueueInput,
    Vpc,
    WarmThroughput,
    takes,
)

PAGE = Path(__file__).with_name("configuration.md")
RULES_PAGE = Path(__file__).with_name("check.md")
INPUTS_PAGE = Path(__file__).with_name("infrastructure.md")
#: The tables of the stanza, as their headings call them.
TABLES = {
    "[tool.lambda-celery]": Deployment,
    "[tool.lambda-celery.queues.NAME]": QueueInput,
    "[tool.lambda-celery.parameters.NAME]": Parameter,
    "[tool.lambda-celery.vpc]": Vpc,
    "[tool.lambda-celery.provisioned_pollers]": Pollers,
    "[tool.lambda-celery.warm_throughput]": WarmThroughput,
}
BEGIN, END = "<!-- made by docs/reference.py -->", "<!-- end -->"


def written(page: str) -> str:
    """Return *page* with the table of settings between its marks."""
    return _with(page, table())


def written_rules(page: str) -> str:
    """Return *page* with the rules between its marks."""
    return _with(page, rules())


def written_inputs(page: str) -> str:
    """Return *page* with the inputs of the infrastructure between its marks."""
    return _with(page, inputs())


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


def inputs() -> str:
    """Return the tables of the stanza, each as one in Markdown."""
    parts = []
    for name, made in TABLES.items():
        cells = [
            (f"`{each.name}`", _takes(each), _unless_given(each), each.metadata["becomes"])
            for each in fields(made)
        ]
        rows = [f"| {' | '.join(each)} |" for each in cells]
        head = ["| key | takes | default | becomes |", "|---|---|---|---|"]
        parts.append("\n".join([f"### `{name}`", "", *head, *rows]))
    return "\n" + "\n\n".join(parts) + "\n\n"


def _takes(each: Field[Any]) -> str:
    words = takes(each)
    words = words.replace(" or ", ", ", words.count(" or ") - 1)
    return re.sub(r"'([^']*)'|\"([^\"]*)\"", lambda text: f'`"{text[1] or text[2]}"`', words)


def _unless_given(each: Field[Any]) -> str:
    if unset := each.metadata["unset"]:
        return str(unset)
    value = each.default if each.default_factory is MISSING else each.default_factory()
    if value is MISSING:
        return "must be given"
    if value is None:
        return "that of all queues" if each.name in Deployment.__dataclass_fields__ else "none"
    if isinstance(value, str):
        return f'`"{value}"`'
    if isinstance(value, tuple | Mapping):
        return f"`{list(value)}`".replace("'", '"') if value else "none"
    return _default(each)


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
    INPUTS_PAGE.write_text(written_inputs(INPUTS_PAGE.read_text()))
