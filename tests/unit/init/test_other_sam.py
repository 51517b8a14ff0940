"""Whose the files are that ``sam deploy`` would read."""

from __future__ import annotations

import pytest

from lambda_celery.init import ownership
from lambda_celery.init.other_sam import files_of, stacks_of

OWN = {"template.yaml": "Resources: {}\n", "samconfig.toml": "version = 0.1\n"}


@pytest.mark.parametrize(
    "name", ["samconfig.toml", "template.yaml", "template.yml", "template.json"]
)
def test_what_this_command_has_not_written_is_anothers(tmp_path, name):
    (tmp_path / name).write_bytes(b"Resources: \xff")
    assert files_of(tmp_path, OWN) == [name]

    (tmp_path / name).write_text("# theirs\n")
    assert files_of(tmp_path, OWN) == [name]


def test_what_it_has_written_is_its_own_whoever_has_changed_it(tmp_path):
    assert files_of(tmp_path, OWN) == []
    for name, text in OWN.items():
        (tmp_path / name).write_text(ownership.stamped(name, text) + "# more\n")
    assert files_of(tmp_path, OWN) == []
    for name, text in OWN.items():
        (tmp_path / name).write_text(text)
    assert files_of(tmp_path, OWN) == []


def test_a_stack_of_another_app_is_known_by_its_configuration(tmp_path):
    assert stacks_of(tmp_path) == set()
    text = (
        'version = 0.1\n[default.global.parameters]\nstack_name = "shop"\n'
        '[prod.deploy.parameters]\nstack_name = "shop-prod"\n'
    )
    path = tmp_path / "samconfig.toml"

    path.write_text(text)
    assert stacks_of(tmp_path) == {"shop", "shop-prod"}
    path.write_text(ownership.stamped("samconfig.toml", text))
    assert stacks_of(tmp_path) == set()
    path.write_text("version =")
    assert stacks_of(tmp_path) == set()
