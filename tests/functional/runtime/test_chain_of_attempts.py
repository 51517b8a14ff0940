"""The attempts of a task, found again in the log lines that its runs have written."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from lambda_celery.status.source import source_of
from tests.emulated_aws import REGION


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """The handler takes the root logger over, as a worker does."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], level = before
    root.setLevel(level)


def put(group: str, lines: list[str]) -> None:
    """Give CloudWatch *lines* as a function would."""
    client = boto3.client("logs", region_name=REGION)
    client.create_log_group(logGroupName=group)
    client.create_log_stream(logGroupName=group, logStreamName="one")
    now = int(time.time() * 1000) - 10_000
    client.put_log_events(
        logGroupName=group,
        logStreamName="one",
        logEvents=[{"timestamp": now + n, "message": line} for n, line in enumerate(lines)],
    )


@pytest.fixture
def written(runtime: Any, deployment: Any, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """A task that is retried, and then begins another one that fails: their ids."""
    runtime.app.conf.update(worker_hijack_root_logger=True)

    @runtime.task(name="proj.bill", acks_on_failure_or_timeout=True)
    def bill():
        raise ValueError("no such account")

    @runtime.task(name="proj.send", bind=True)
    def send(self):
        if not self.request.retries:
            self.retry(exc=ValueError("451"), countdown=0)
        bill.delay()

    @runtime.task(name="proj.other")
    def other():
        pass

    sent = send.delay()
    for _ in range(3):
        runtime.deliver()
    other.delay()
    runtime.deliver()
    lines = [each for each in capsys.readouterr().out.splitlines() if each.startswith("{")]
    put(f"/aws/lambda/{deployment.name}", lines)
    [failed] = {
        each.task_id
        for each in source_of(runtime.app).attempts(sent.id).attempts
        if each.task == "proj.bill"
    }
    return {"send": sent.id, "bill": failed}


@pytest.mark.parametrize("asked", ["send", "bill"])
def test_a_tasks_retries_and_what_it_has_begun_are_one_chain(runtime, deployment, written, asked):
    found = source_of(runtime.app).attempts(written[asked])

    assert found.left_out == ()
    assert [(e.task, e.end, e.retries, e.exception) for e in found.attempts] == [
        ("proj.send", "retried", 0, "Retry in 0s: ValueError('451')"),
        ("proj.send", "succeeded", 1, ""),
        ("proj.bill", "failed", 0, "ValueError('no such account')"),
    ]
    assert [(e.parent_id, e.root_id) for e in found.attempts] == [
        ("", written["send"]), ("", written["send"]), (written["send"], written["send"]),
    ]  # fmt: skip
    assert {each.queue for each in found.attempts} == {deployment.queue_name}
    assert all(each.duration_ms and each.receive_count == 1 for each in found.attempts)


@pytest.mark.parametrize(
    ("code", "sentence"),
    [("AccessDeniedException", "allow logs:FilterLogEvents there"),
     ("ResourceNotFoundException", "There is no log group /aws/lambda/")],
)  # fmt: skip
def test_what_cannot_be_read_is_told_in_one_sentence(runtime, deployment, faults, code, sentence):
    faults.fail(runtime.settings, "logs", "FilterLogEvents", code, status=400)

    found = source_of(runtime.app).attempts("an-id")

    assert found.attempts == ()
    [told] = found.left_out
    assert sentence in told


def test_a_search_that_takes_too_long_says_how_far_it_came(runtime, deployment, monkeypatch):
    monkeypatch.setattr("lambda_celery.status.logs.SEARCH_SECONDS", 0)
    put(f"/aws/lambda/{deployment.name}", ["{}"])

    [told] = source_of(runtime.app).attempts("an-id").left_out

    assert told == "The log was searched for 0 s: attempts before the last 15 min may be missing."


def test_what_has_just_begun_is_not_searched_for_further_back(
    runtime, deployment, written, monkeypatch
):
    # As little time as there is: it is used up by the first quarter of an hour.
    monkeypatch.setattr("lambda_celery.status.logs.SEARCH_SECONDS", 0)

    found = source_of(runtime.app).attempts(written["bill"])

    assert (len(found.attempts), found.left_out) == (3, ())
