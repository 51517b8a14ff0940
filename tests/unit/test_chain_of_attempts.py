"""Which lines of a log tell an attempt, and which of them belong together."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from lambda_celery.status.attempts import ENDS, Attempt, attempt_in, chain
from lambda_runtime.messages.note import Fate
from lambda_runtime.messages.outcome import End


def told(seconds: float, end: str, task_id: str = "a", **fields: Any) -> Attempt:
    made = attempt_in(json.dumps({"end": end, "task_id": task_id, **fields}), seconds)
    assert made is not None
    return made


def test_a_line_is_read_with_its_fields():
    line = {
        "end": "failed", "task_id": "a", "task_name": "proj.send", "queue": "mail",
        "root_id": "r", "parent_id": "p", "retries": 2, "receive_count": 3, "duration_ms": 1.5,
        "error": "ValueError()", "function_request_id": "i", "message_id": "m",
    }  # fmt: skip
    assert attempt_in(json.dumps(line), 60) == Attempt(
        datetime(1970, 1, 1, 0, 1, tzinfo=UTC), "a", "proj.send", "mail", "r", "p", "failed", 2, 3,
        1.5, "ValueError()", "i", "m",
    )  # fmt: skip


@pytest.mark.parametrize(
    "line",
    ["", "end", '{"end"', '["end"]', '{"end": 1, "task_id": "a"}', '{"end": "failed"}',
     'START {"task_id": "a", "message": "sending"}', '{"end": "Friday", "task_id": "a"}'],
)  # fmt: skip
def test_other_lines_tell_none(line):
    assert attempt_in(line, 60) is None


def test_the_ends_are_those_that_the_function_tells():
    fates = {each.value for each in Fate if each is not Fate.DELETED}
    assert {each.value for each in End} | fates == ENDS


def test_a_duration_that_is_no_number_is_not_known():
    assert told(1, "succeeded", duration_ms=float("nan")).duration_ms is None


def test_the_later_of_two_lines_about_one_delivery_counts():
    same = {"message_id": "m", "function_request_id": "i"}
    failed = told(1, "failed", duration_ms=7, error="ValueError()", **same)
    parked = told(2, "parked", **same)

    [found] = chain([parked, failed], "a")

    assert (found.end, found.duration_ms, found.exception) == ("parked", 7, "ValueError()")


def test_those_with_the_root_of_the_one_asked_for_belong_together():
    root = told(1, "succeeded", "r", message_id="1")
    step = told(2, "succeeded", "s", root_id="r", message_id="2")
    other = told(3, "succeeded", "o", message_id="3")

    assert chain([other, step, root], "s") == chain([other, step, root], "r") == (root, step)


def test_nothing_of_a_task_comes_before_its_first_attempt():
    assert told(1, "retried", root_id="r", retries=0, receive_count=1).begins
    assert not told(1, "retried", retries=1, receive_count=1).begins
    assert not told(1, "retried", retries=0, receive_count=2).begins
