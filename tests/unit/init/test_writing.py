"""The writer: what is ours is renewed, what was changed is kept, and all is written or nothing."""

from __future__ import annotations

import json
import os

import pytest

from lambda_celery.init import ownership
from lambda_celery.init.changes import Change, Changes, add_generated
from lambda_celery.init.errors import InitError
from lambda_celery.init.writing import write

FILES = {
    "template.yaml": "Resources:\n  Queue: {}\n",
    "main.tf": 'module "celery" {\n  name = "shop"\n}\n',
    "cdk.json": '{"app": "python3 app.py", "context": {}}\n',
}
NEWER = {
    "template.yaml": "Resources:\n  Queue: {}\n  Table: {}\n",
    "main.tf": 'module "celery" {\n  name = "mail"\n}\n',
    "cdk.json": '{"app": "python app.py", "context": {}}\n',
}


def changed(text):
    """Return *text* as somebody has changed it."""
    for before, after in (("Queue", "Mails"), ('"celery"', '"mails"'), ("context", "content")):
        text = text.replace(before, after)
    return text


def run(directory, files) -> Changes:
    changes = Changes()
    add_generated(changes, directory, files)
    write(changes.made)
    return changes


def contents(directory):
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("name", FILES)
def test_a_file_has_a_line_that_knows_it(name):
    text = ownership.stamped(name, FILES[name])

    assert ownership.is_unchanged(name, text)
    assert ownership.is_unchanged(name, text.replace("\n", "\r\n"))
    assert not ownership.is_unchanged(name, changed(text))
    assert not ownership.is_unchanged(name, FILES[name])
    if name.endswith(".json"):
        assert json.loads(text)["app"] == "python3 app.py"


def test_what_terraform_fmt_does_is_no_change():
    text = ownership.stamped("main.tf", 'a {\n  name    = "x"\n}\n')

    assert ownership.is_unchanged("main.tf", text.replace("name    =", "name ="))
    assert not ownership.is_unchanged("template.yaml", text.replace("name    =", "name ="))


def test_a_second_run_changes_nothing(tmp_path):
    assert len(run(tmp_path / "new" / "place", FILES).made) == 3
    before = contents(tmp_path)

    again = run(tmp_path / "new" / "place", FILES)

    assert (again.made, again.notes) == ([], [])
    assert contents(tmp_path) == before


def test_what_is_unchanged_is_renewed(tmp_path):
    run(tmp_path, FILES)

    changes = run(tmp_path, NEWER)

    assert not changes.notes
    assert {name: ownership.stamped(name, text).encode() for name, text in NEWER.items()} == (
        contents(tmp_path)
    )


@pytest.mark.parametrize("name", FILES)
def test_what_was_changed_is_kept_and_the_new_text_is_beside_it(tmp_path, name):
    run(tmp_path, FILES)
    path = tmp_path / name
    path.write_text(changed(path.read_text()))
    mine = path.read_bytes()

    # Nothing is new: nothing is to be said.
    assert run(tmp_path, FILES).notes == []
    changes = run(tmp_path, NEWER)

    assert path.read_bytes() == mine
    beside = tmp_path / f"{name}.new"
    assert beside.read_text() == ownership.stamped(name, NEWER[name])
    [note] = changes.notes
    assert "is kept" in note
    assert f"{name}.new" in note
    assert run(tmp_path, NEWER).made == []

    # Taken over, it is renewed again.
    os.replace(beside, path)
    assert run(tmp_path, NEWER).notes == []
    assert [each.path for each in run(tmp_path, {name: FILES[name]}).made] == [path]


def test_a_file_of_somebody_else_is_kept(tmp_path):
    (tmp_path / "template.yaml").write_text("mine")

    run(tmp_path, FILES)

    assert (tmp_path / "template.yaml").read_text() == "mine"
    assert ownership.is_unchanged("template.yaml", (tmp_path / "template.yaml.new").read_text())


def test_an_offer_that_was_changed_is_in_the_way(tmp_path):
    (tmp_path / "template.yaml").write_text("mine")
    (tmp_path / "template.yaml.new").write_text("mine, too")
    before = contents(tmp_path)

    with pytest.raises(InitError, match=r"template.yaml.new is in the way.* move it"):
        run(tmp_path, FILES)

    assert contents(tmp_path) == before


def test_what_is_no_longer_written_is_named(tmp_path):
    run(tmp_path, FILES | {"alarms.tf": "# none\n"})
    (tmp_path / "own.tf").write_text("# mine\n")

    [note] = run(tmp_path, FILES).notes

    assert "alarms.tf was written by an earlier run" in note


def test_what_another_form_has_written_is_named(tmp_path):
    earlier = tmp_path / "infrastructure"
    run(tmp_path, {"template.yaml": FILES["template.yaml"]})
    run(earlier, {"modules/celery/figures/main.tf": FILES["main.tf"], "main.tf": "# none\n"})
    (earlier / "main.tf").write_text((earlier / "main.tf").read_text() + "# mine\n")
    (earlier / "own.tf").write_text("# mine\n")
    (tmp_path / "settings.py").write_text("# mine\n")
    changes = Changes()

    add_generated(changes, earlier, {"app.py": "# app\n"}, [tmp_path, earlier])

    assert [each.partition(" was written")[0].rpartition("/")[2] for each in changes.notes] == [
        "template.yaml", "main.tf", "main.tf",
    ]  # fmt: skip
    changes = Changes()
    add_generated(changes, tmp_path, {"template.yaml": FILES["template.yaml"]}, [tmp_path])
    assert changes.notes == []


def test_a_failure_midway_leaves_all_as_it_was(tmp_path, monkeypatch):
    run(tmp_path, FILES)
    (tmp_path / "template.yaml").chmod(0o640)
    before = contents(tmp_path)
    changes = Changes()
    add_generated(changes, tmp_path, NEWER)
    add_generated(changes, tmp_path / "more" / "deep", {"a.tf": "a\n", "b.tf": "b\n"})
    renames, replace = [], os.replace

    def fails_at_the_last(source, target):
        renames.append(target)
        if len(renames) == len(changes.made):
            raise OSError(28, "No space left on device", str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", fails_at_the_last)
    with pytest.raises(
        InitError, match=r"b\.tf cannot be written: No space .* Nothing was changed"
    ):
        write(changes.made)

    assert len(renames) > len(changes.made)
    assert contents(tmp_path) == before
    assert not (tmp_path / "more").exists()
    assert (tmp_path / "template.yaml").stat().st_mode & 0o777 == 0o640


def test_a_place_that_cannot_be_written_leaves_all_as_it_was(tmp_path):
    (tmp_path / "file").write_text("mine")
    one = Change(tmp_path / "one.tf", None, "one\n")

    with pytest.raises(InitError, match="Nothing was changed"):
        write([one, Change(tmp_path / "file" / "two.tf", None, "two\n")])

    assert contents(tmp_path) == {"file": b"mine"}


@pytest.mark.parametrize("now", [b"edited", b"\xff", None])
def test_what_was_changed_meanwhile_is_not_overwritten(tmp_path, now):
    (tmp_path / "first.tf").write_text("old")
    changes = [
        Change(tmp_path / "first.tf", "old", "new"),
        Change(tmp_path / "made.tf", None, "new"),
        Change(tmp_path / "pyproject.toml", "read", "new"),
    ]
    if now is not None:
        (tmp_path / "pyproject.toml").write_bytes(now)
    before = contents(tmp_path)

    with pytest.raises(InitError, match=r"pyproject\.toml was changed while this command ran"):
        write(changes)

    assert contents(tmp_path) == before


def test_what_somebody_else_has_made_meanwhile_is_not_overwritten(tmp_path):
    (tmp_path / "made.tf").write_text("theirs")

    with pytest.raises(InitError, match="was changed while"):
        write([Change(tmp_path / "made.tf", None, "new")])

    assert contents(tmp_path) == {"made.tf": b"theirs"}


def test_modes_and_links_stay(tmp_path):
    real = tmp_path / "real.toml"
    real.write_text("a")
    real.chmod(0o600)
    (tmp_path / "link.toml").symlink_to(real)
    (tmp_path / "usual").touch()

    write([
        Change(tmp_path / "link.toml", "a", "b"),
        Change(tmp_path / "new.toml", None, "c"),
    ])  # fmt: skip

    assert (tmp_path / "link.toml").is_symlink()
    assert real.read_text() == "b"
    assert real.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "new.toml").stat().st_mode == (tmp_path / "usual").stat().st_mode
