"""The example of one big event: exactly the failed ones are returned, and it notices if not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from examples.big_batch.events import Event
from examples.big_batch.outcome import Comparison, Outcome
from examples.big_batch.service import fate
from examples.kit.runs import DONE, Run, at_most_in_flight
from tests.demos import figure, run_demo

DEMO = ["-m", "examples.big_batch.demo"]
SMALL = ("--records", "120", "--wait", "0.02", "--compare", "10")


@pytest.mark.parametrize(
    "options", [("--kind", "async def"), ("--kind", "threads", "--producer", "celery")]
)
def test_exactly_the_failed_ones_are_returned(tmp_path, options):
    run = run_demo([*DEMO, *SMALL, *options], tmp_path)

    assert run.returncode == 0, run.stdout + run.stderr
    # 7, 57 and 107 fail once, 99 fails always and is parked when it is received for the third time.
    assert figure(run.stdout, "messages returned") == "5"
    assert figure(run.stdout, "succeeded") == "119"
    assert figure(run.stdout, "more than once") == "0"
    assert figure(run.stdout, "parked") == "1"
    assert int(figure(run.stdout, "tasks in flight at most")) <= 100
    assert figure(run.stdout, "10 tasks, 1 at a time, async def")
    assert figure(run.stdout, "FunctionResponseTypes") == "ReportBatchItemFailures"
    assert "Broken" not in run.stdout
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_more_than_an_event_takes_is_refused_before_anything_starts(tmp_path):
    run = run_demo([*DEMO, "--records", "10001"], tmp_path)

    assert run.returncode == 2
    assert "--records must be 100 to 10,000" in run.stderr


RECORDS = 100


def ran(number: int, how: str = DONE, began: float = 1.0) -> Run:
    return Run(number, str(number), 7, began, began + 1, how)


def event(runs: list[Run], failed: set[int]) -> Event:
    ids = frozenset(map(str, failed))
    return Event(len(runs), 1000, 100, 1.0, ids, ids, runs, 0, None)


@pytest.fixture
def good() -> Outcome:
    """7 and 57 fail once, 13 and 63 retry, 99 fails three times."""
    fates = {number: fate(number) for number in range(RECORDS)}
    hows = {"succeeds": DONE, "retries once": "Retry"}
    first = [ran(number, hows.get(each, "ServiceError")) for number, each in fates.items()]
    second = [ran(number) for number in (7, 57, 13, 63)]
    # One after the other: no more than a hundred at a time.
    return Outcome(
        records=RECORDS,
        events=[
            event(first, {7, 57, 99}),
            event([*second, ran(99, "ServiceError")], {99}),
            event([ran(99, "ServiceError")], set()),
        ],
        parked=1,
        left_on_queue=0,
        comparisons=[Comparison("threads", 1, 10, 1.0)],
    )


def broken(outcome: Outcome) -> list[str]:
    return [f"{row.name.strip()}: {row.figure}" for row in outcome.rows() if row.holds is False]


def in_first(outcome: Outcome, **change: Any) -> dict[str, Any]:
    return {"events": [replace(outcome.events[0], **change), *outcome.events[1:]]}


def test_nothing_is_broken_in_a_good_run(good):
    assert broken(good) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda o: in_first(o, failed=frozenset(["7"])), "in batchItemFailures: 1"),
        (lambda o: in_first(o, failed=o.events[0].failed | {"1"}), "in batchItemFailures: 4"),
        (lambda o: in_first(o, error="timed out after 300 s"), "in batchItemFailures: 3"),
        (lambda o: {"events": o.events[:1]}, "messages returned: 3"),
        (lambda o: in_first(o, runs=o.events[0].runs[1:]), "succeeded: 98"),
        (lambda o: in_first(o, runs=[*o.events[0].runs, ran(1)]), "more than once: 1"),
        (lambda o: in_first(o, runs=[*o.events[0].runs, ran(1)]), "tasks in flight at most: 101"),
        (lambda o: in_first(o, event_bytes=6_291_457), "largest event: 6,291,457 bytes"),
        (lambda o: {"parked": 0}, "parked: 0"),
        (lambda o: {"left_on_queue": 1}, "left on the queue: 1"),
    ],
)
def test_each_broken_promise_is_named(
    good: Outcome, change: Callable[[Outcome], dict[str, Any]], named: str
):
    assert named in broken(replace(good, **change(good)))


def test_one_that_ends_when_another_begins_is_not_beside_it():
    assert at_most_in_flight([ran(1, began=1.0), ran(2, began=2.0), ran(3, began=2.5)]) == 2
