"""The stanza: what is added to a file, and that all else in it stays."""

from __future__ import annotations

import tomllib

import pytest

from lambda_celery.exceptions import ConfigurationError
from lambda_celery.init.errors import InitError
from lambda_celery.init.stanza import Stanza

VALUES = {"app": "proj", "name": "shop", "queues": {"celery": {}, "orders.fifo": {"fifo": True}}}
SHOWN = """[tool.lambda-celery]
app = "proj"
name = "shop"

[tool.lambda-celery.queues]
celery = {}
"orders.fifo" = {fifo = true}
"""


def stanza(tmp_path, text):
    path = tmp_path / "pyproject.toml"
    if text is not None:
        path.write_bytes(text.encode())
    return Stanza(path)


@pytest.mark.parametrize(
    ("before", "between"),
    [
        (None, ""),
        ("", ""),
        ("# Ours.\n[project]\nname = 'shop' # so\n", "\n"),
        ("[tool.ruff]\nx = 1\n[project]\nname = 'x'\n[tool.black]\ny = 2", "\n\n"),
    ],
)
def test_a_stanza_is_put_at_the_end(tmp_path, before, between):
    made = stanza(tmp_path, before).with_values(VALUES)

    assert made == (before or "") + between + SHOWN


def test_line_ends_stay(tmp_path):
    made = stanza(tmp_path, "[project]\r\nname = 'x'\r\n").with_values(VALUES)

    assert "\n" not in made.replace("\r\n", "")


def test_what_is_there_keeps_its_place_and_its_comments(tmp_path):
    text = """[tool.lambda-celery]
# The web site's.
name = "shop"  # short

timeout = 30
[tool.lambda-celery.environment]
A = "b" # c

[tool.ruff]
"""
    made = stanza(tmp_path, text).with_values({"name": "mail", "app": "proj", "form": "sam"})

    for line in ("# The web site's.", 'name = "mail"  # short', "timeout = 30", 'A = "b" # c'):
        assert line in made.splitlines()
    assert tomllib.loads(made)["tool"]["lambda-celery"] == {
        "name": "mail", "timeout": 30, "app": "proj", "form": "sam", "environment": {"A": "b"},
    }  # fmt: skip


def test_what_is_said_already_changes_nothing(tmp_path):
    text = "[tool]\nlambda-celery = { app = 'proj',  name = 'shop' }\n"

    assert stanza(tmp_path, text).with_values({"app": "proj", "name": "shop"}) == text


def test_what_cannot_be_added_to_is_a_sentence(tmp_path):
    with pytest.raises(InitError, match=r"put app, name, queues into a table \[tool.lambda-cel"):
        stanza(tmp_path, "tool = {}\n").with_values(VALUES)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a = ", "cannot be read as TOML"),
        ("[tool]\nlambda-celery = 3\n", r"\[tool.lambda-celery\] is 3: make it a table"),
    ],
)
def test_what_is_no_stanza_is_a_sentence(tmp_path, text, told):
    with pytest.raises(ConfigurationError, match=told):
        stanza(tmp_path, text)
