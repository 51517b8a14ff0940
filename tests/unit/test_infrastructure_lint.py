"""What the linters find in the templates is explained or fails: the part without the linters."""

from __future__ import annotations

from tests.infrastructure.lint import BROKEN, EXPLAINED, documents, problems


def test_a_finding_without_an_explanation_is_a_problem():
    explained = {"example": {"CKV_AWS_18": "why"}, "rich": {}}

    assert list(problems({"example": {"CKV_AWS_18"}}, explained)) == []
    [problem] = problems({"example": {"CKV_AWS_18", "CKV_AWS_40"}}, explained)
    assert "CKV_AWS_40 fails in the template example" in problem
    # What is explained of one template is not of another.
    [problem] = problems({"example": {"CKV_AWS_18"}, "rich": {"CKV_AWS_18"}}, explained)
    assert "CKV_AWS_18 fails in the template rich" in problem


def test_an_explanation_without_its_finding_is_a_problem():
    [problem] = problems({}, {"example": {"CKV_AWS_18": "why"}})

    assert "CKV_AWS_18 does not fail in the template example" in problem


def test_each_explanation_is_a_sentence():
    for reasons in EXPLAINED.values():
        assert all(reason.endswith(".") for reason in reasons.values())
        assert not reasons.keys() & BROKEN


def test_the_templates_are_the_examples_a_rich_and_a_broken_one():
    made = documents()

    assert {*made} == EXPLAINED.keys() | {"broken"}
    kinds = {each["Type"] for each in made["rich"]["Resources"].values()}
    assert {each["Type"] for each in made["example"]["Resources"].values()} <= kinds
