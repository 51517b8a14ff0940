"""The example that splits a file into tasks: each row runs once, and what is broken is named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from examples.kit.runs import DONE, Run
from examples.split_and_work.outcome import Outcome
from examples.split_and_work.watched import Invocation
from tests.demos import figure, run_demo

DEMO = ["-m", "examples.split_and_work.demo"]


def test_each_row_runs_once_whatever_happens(tmp_path):
    run = run_demo([*DEMO, "--rows", "200"], tmp_path)

    assert run.returncode == 0, run.stdout + run.stderr
    assert figure(run.stdout, "rows in the file") == "200"
    assert figure(run.stdout, "its process was killed") == "1 time, at row 100"
    assert figure(run.stdout, "calls that they are of") == "200"
    assert figure(run.stdout, "rows that ran") == "200"
    assert figure(run.stdout, "more often than they should") == "0"
    assert "Broken" not in run.stdout
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_too_small_a_file_is_refused_before_anything_starts(tmp_path):
    run = run_demo([*DEMO, "--rows", "3"], tmp_path)

    assert run.returncode == 2
    assert "--rows must be 200 or more" in run.stderr


def ran(number: int, task_id: str, how: str = DONE) -> Run:
    return Run(number, task_id, 7, 1.0, 2.0, how)


@pytest.fixture
def good() -> Outcome:
    """Rows 1, 2, 2, of which the first was called by both runs of the splitting task."""
    killed = Invocation(1.0, 2.0, 2, "process exited with signal SIGKILL")
    return Outcome(
        in_file=Counter([1, 2, 2]),
        runs=[ran(1, "a"), ran(2, "b"), ran(2, "c")],
        mark_of={"a": "A", "again": "A", "b": "B", "c": "C"},
        deliveries=Counter(["A", "A", "B", "B", "C"]),
        messages=5,
        sent_twice=1,
        split_deliveries=2,
        split_killed=[killed],
        work_killed=[killed],
        calls_before_death=1,
        parked=0,
        left_on_queues=0,
    )


def broken(outcome: Outcome) -> list[str]:
    return [f"{row.name.strip()}: {row.figure}" for row in outcome.rows() if row.holds is False]


def test_equal_rows_each_run(good):
    assert broken(good) == []
    assert good.times_run == Counter("ABC")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda o: {"runs": o.runs[1:]}, "not at all: 1"),
        (lambda o: {"runs": [*o.runs, ran(1, "again")]}, "more often than they should: 1"),
        (lambda o: {"runs": [ran(1, "a", "OSError"), *o.runs[1:]]}, "rows that ran: 2"),
        (lambda o: {"deliveries": Counter(["A", "A", "B", "B"])}, "calls that they are of: 2"),
        (lambda o: {"deliveries": Counter("ABC")}, "calls delivered more than once: 0"),
        (lambda o: {"messages": 4}, "messages that its runs have sent: 3"),
        (lambda o: {"sent_twice": 0}, "sent twice besides: 0"),
        (lambda o: {"split_deliveries": 1}, "the splitting task was delivered: 1 times"),
        (lambda o: {"split_killed": []}, "its process was killed: 0 time, at row 1"),
        (lambda o: {"work_killed": []}, "a working process was killed: 0 time"),
        (lambda o: {"parked": 1}, "parked: 1"),
        (lambda o: {"left_on_queues": 1}, "left on the queues: 1"),
    ],
)
def test_each_broken_promise_is_named(
    good: Outcome, change: Callable[[Outcome], dict[str, Any]], named: str
):
    assert named in broken(replace(good, **change(good)))
