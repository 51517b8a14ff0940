"""The names of the local function."""

from __future__ import annotations

from pathlib import Path

import pytest

from lambda_celery.local.names import function_names

STANZA = '[tool.lambda-celery]\napp = "proj:app"\nname = "shop"\n'


@pytest.mark.parametrize(
    ("stanza", "names"),
    [
        (None, set()),
        ("[tool.lambda-celery]\nunknown = 1\n", set()),
        (STANZA, {"shop"}),
    ],
)
def test_what_is_deployed_is_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stanza: str | None, names: set[str]
) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "mine")
    if stanza is not None:
        (tmp_path / "pyproject.toml").write_text(stanza)

    assert function_names(tmp_path) == {"lambda-celery-local", "mine"} | names


def test_without_the_variable_there_is_its_own_name_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_LAMBDA_FUNCTION_NAME", raising=False)

    assert function_names(tmp_path) == {"lambda-celery-local"}


@pytest.mark.parametrize(
    "function", ["mail", "mail:live", "arn:aws:lambda:eu-west-1:123456789012:function:mail:7"]
)
def test_where_direct_calls_are_to_go_is_a_name(tmp_path: Path, function: str) -> None:
    assert "mail" in function_names(tmp_path, function)
