"""The example of a main loop that is gathered: the same results, and it notices if not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from examples.fan_out.outcome import Loop, Outcome
from examples.kit.runs import DONE, Run
from tests.demos import figure, run_demo

DEMO = ["-m", "examples.fan_out.demo"]
SMALL = ("--batches", "12", "--turn", "0.1", "--environments", "3")


def test_the_gathered_loop_has_the_same_results(tmp_path):
    run = run_demo([*DEMO, *SMALL], tmp_path)

    assert run.returncode == 0, run.stdout + run.stderr
    assert figure(run.stdout, "turns of the troubled loop") == "12"
    assert figure(run.stdout, "run twice") == "0"
    assert figure(run.stdout, "told as lost") == "no. 6"
    assert figure(run.stdout, "results that differ") == "0"
    assert int(figure(run.stdout, "turns at a time, at most")) <= 3
    assert figure(run.stdout, "gathered, 12 connections")
    assert "Broken" not in run.stdout
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def ran(number: int, began: float = 0.0, how: str = DONE) -> Run:
    return Run(number, str(number), 7, began, began + 1, how)


@pytest.fixture
def good() -> Outcome:
    return Outcome(
        batches=3,
        environments=2,
        loops=[Loop(0, 1, 1.0), Loop(2, 3, 1.5)],
        expected=[7, 8, 9],
        counts=[7, 8, 9],
        lost=[1],
        killed=1,
        runs=[ran(0), ran(2), ran(1, began=1.0)],
    )


def broken(outcome: Outcome) -> list[str]:
    return [f"{row.name.strip()}: {row.figure}" for row in outcome.rows() if row.holds is False]


def test_nothing_is_broken_in_a_good_run(good):
    assert broken(good) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"runs": [ran(0), ran(2)]}, "turns of the troubled loop: 2"),
        ({"runs": [ran(0), ran(2), ran(1, 1.0), ran(1, 2.0)]}, "run twice: 1"),
        ({"runs": [ran(0), ran(1), ran(2)]}, "turns at a time, at most: 3"),
        ({"lost": []}, "told as lost: none"),
        ({"counts": [7, 8, 8]}, "results that differ: 1"),
    ],
)
def test_each_broken_promise_is_named(good: Outcome, change: dict[str, Any], named: str):
    assert named in broken(replace(good, **change))
