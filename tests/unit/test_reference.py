"""The references of settings and of inputs are what their definitions say."""

from __future__ import annotations

import runpy
from dataclasses import fields
from pathlib import Path

from lambda_celery.conf import QueueSettings, Settings
from lambda_celery.infrastructure.inputs import _Table

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_what_the_definitions_say() -> None:
    page = (DOCS / "configuration.md").read_text()
    written = runpy.run_path(str(DOCS / "reference.py"))["written"]

    assert written(page) == page, "Run `make reference`, and commit the page."
    assert all(f"| `{each.name}` |" in page for each in fields(Settings))


def test_each_setting_is_described() -> None:
    assert [each.name for each in fields(Settings) if not each.metadata["about"]] == []


def test_the_page_names_what_a_queue_may_have_of_its_own() -> None:
    _, _, rest = (DOCS / "configuration.md").read_text().partition("## A queue's own settings")

    assert [each.name for each in fields(QueueSettings) if f"`{each.name}`" not in rest] == ["url"]


def test_the_inputs_of_the_infrastructure_are_what_their_definitions_say() -> None:
    page = (DOCS / "infrastructure.md").read_text()
    reference = runpy.run_path(str(DOCS / "reference.py"))

    assert reference["written_inputs"](page) == page, "Run `make reference`, and commit the page."
    for table in reference["TABLES"].values():
        assert all(f"| `{each.name}` |" in page for each in fields(table))


def test_each_table_of_the_stanza_is_on_the_page() -> None:
    tables = runpy.run_path(str(DOCS / "reference.py"))["TABLES"]

    assert {*tables.values()} == {*_Table.__subclasses__()}
