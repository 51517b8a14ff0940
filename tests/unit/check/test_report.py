"""Reports of findings, in each format."""

from __future__ import annotations

import json

import pytest

from lambda_celery.check.model import CheckError, Finding, Grade, Place, Registry
from lambda_celery.check.report import FORMATS, Report, as_text

RED = Finding("a-rule", Grade.RED, "proj.f", "It is so.", "Do this.", Place("proj/tasks.py", 7))
NOTE = Finding("b-rule", Grade.GREEN, None, "50%: a,\nb.", "Nothing is to be done.")
REPORT = Report((NOTE, RED), {"proj.f": Place("proj/tasks.py", 5), "proj.g": None}, ignored=2)


@pytest.fixture
def rules():
    made = Registry()
    made.rule("a-rule", "A rule")(lambda facts: [])
    made.rule("c-rule", "Another")(lambda facts: [])
    return made


def test_grades_are_ordered_and_a_task_has_that_of_its_worst():
    assert Grade.GREEN < Grade.AMBER < Grade.RED
    assert REPORT.grade_of("proj.f") is Grade.RED
    assert REPORT.grade_of("proj.g") is Grade.GREEN
    assert REPORT.worst is Grade.RED
    assert Report((), {}).worst is Grade.GREEN


def test_text():
    text = as_text(REPORT, is_coloured=False, width=80)

    assert "red   proj.f  proj/tasks.py:5\n" in text
    assert "red: It is so. Do this.\n" in text
    assert "[a-rule] proj/tasks.py:7\n" in text
    assert text.endswith(
        "Tasks: 1 red, 0 amber, 1 green. Other findings: 0 red, 0 amber, 1 green. "
        "Switched off: 2.\n"
    )
    assert "\x1b" not in text
    assert "\x1b" in as_text(REPORT, is_coloured=True, width=80)


def test_json(rules):
    read = json.loads(FORMATS["json"](REPORT, rules))

    assert read["worst"] == "red"
    assert read["tasks"][0] == {
        "name": "proj.f", "grade": "red", "place": {"path": "proj/tasks.py", "line": 5},
    }  # fmt: skip
    assert read["findings"][1]["remedy"] == "Do this."
    assert read["findings"][0]["place"] is None


def test_sarif(rules):
    read = json.loads(FORMATS["sarif"](REPORT, rules))

    assert read["version"] == "2.1.0"
    (run,) = read["runs"]
    assert [each["id"] for each in run["tool"]["driver"]["rules"]] == ["a-rule"]
    note, red = run["results"]
    assert (note["level"], note["kind"]) == ("none", "informational")
    assert red["level"] == "error"
    assert red["message"]["text"] == "proj.f: It is so. Do this."
    assert red["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "proj/tasks.py"}, "region": {"startLine": 7},
    }  # fmt: skip


def test_github(rules):
    note, red = FORMATS["github"](REPORT, rules).split("\n")

    assert note == "::notice title=b-rule::50%25: a,%0Ab. Nothing is to be done."
    assert red == ("::error file=proj/tasks.py,line=7,title=a-rule (proj.f)::It is so. Do this.")


def test_an_id_is_given_once_and_an_unknown_one_is_a_sentence(rules):
    with pytest.raises(ValueError, match="a-rule"):
        rules.rule("a-rule", "Again")(lambda facts: [])
    with pytest.raises(CheckError, match=r"--rule names the rule 'a-rul'.*'a-rule'"):
        rules.get("a-rul", "--rule")
