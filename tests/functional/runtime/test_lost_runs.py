"""``celery -A proj lambda failed list --lost``: runs whose process was killed."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lambda_celery.cli import lambda_command
from lambda_celery.failures import lost, scan_lost
from lambda_celery.table.schema import publication_key
from lambda_runtime.table.claims import IdempotencyTable


class Lost:
    """The command, and a table with claims."""

    def __init__(self, runtime: Any) -> None:
        self.runtime = runtime
        self.table = IdempotencyTable(runtime.settings)

    def claim(self, key: str, *, ended: float = 60, task: str = "shop.send") -> str:
        """Claim *key* for a run whose lock has *ended* so many seconds ago."""
        key = publication_key(task, key)
        self.claimed = self.table.claim(
            key, life_seconds=3600, run_ends=time.time() - ended, lineage=(f"message of {key}",)
        )
        return key

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(
            lambda_command,
            ["failed", "list", "--lost", *arguments],
            obj=SimpleNamespace(app=self.runtime.app),
        )

    def keys(self, *arguments: str) -> set[str]:
        done = self("--json", *arguments)
        assert done.exit_code == 0, done.output
        return {json.loads(line)["id"] for line in done.stdout.splitlines()}


@pytest.fixture
def failed(runtime: Any, monkeypatch: pytest.MonkeyPatch) -> Lost:
    monkeypatch.setenv("COLUMNS", "200")
    return Lost(runtime)


def test_those_alone_whose_lock_has_ended_without_an_end(failed):
    lost_key = failed.claim("lost")
    failed.claim("running", ended=-600)
    failed.table.complete(failed.claim("done"), life_seconds=3600)
    failed.table.release(failed.claim("released"), failed.claimed)
    failed.table.drop(failed.claim("dropped"), failed.claimed)

    assert failed.keys() == {lost_key}


def test_what_the_table_has_of_others_is_none(failed):
    # As Powertools' own utility writes it.
    failed.runtime.stack.dynamodb.put_item(
        TableName=failed.runtime.settings.idempotency_table,
        Item={
            "id": {"S": "orders.handler#0123"},
            "status": {"S": "INPROGRESS"},
            "in_progress_expiration": {"N": "1000"},
            "expiration": {"N": str(int(time.time()) + 3600)},
        },
    )
    assert failed.keys() == set()


def test_one_that_another_attempt_took_over_is_lost_no_longer(failed):
    @failed.runtime.task(name="shop.send")
    def send() -> None:
        pass

    send.delay()
    (message,) = failed.runtime.receive()
    failed.runtime.hand_over([message])
    (record,) = failed.runtime.records()
    failed.table.forget(record["id"])
    failed.claim(record["id"].rpartition("#")[2])
    assert failed.keys() == {record["id"]}

    failed.runtime.send_copy(message)
    assert failed.runtime.deliver().all_deleted
    assert failed.keys() == set()


def test_it_says_what_is_known_and_what_becomes_of_it(failed):
    failed.claim("0123", ended=7500)
    output = " ".join(failed().output.split())
    assert "2h ago shop.send 0123 message of shop.send#0123 1" in output
    assert "They run again by themselves as long as their messages live." in output
    assert "The scan has cost" in output
    assert "--starting-token" not in output


def test_nothing_was_lost(failed):
    assert failed().output.startswith("No lost run matches.")


def test_by_task_and_age(failed):
    old = failed.claim("1", ended=7200)
    new = failed.claim("2")
    other = failed.claim("3", task="other")
    assert failed.keys("--task", "shop.*") == {old, new}
    assert failed.keys("--older-than", "1h") == {old}
    assert failed.keys("--newer-than", "1h") == {new, other}
    assert failed.keys("--newer-than", "1h", "--task", "other") == {other}


def test_a_part_at_a_time(failed):
    every = {failed.claim(str(number)) for number in range(5)}
    found: set[str] = set()
    token: tuple[str, ...] = ()
    for _ in range(5):
        done = failed("--json", "--limit", "1", *token)
        found |= {json.loads(done.stdout)["id"]}
        token = ("--starting-token", done.stderr.split()[-1])
    assert found == every
    assert "--starting-token" not in failed("--limit", "1", *token).stderr


def test_what_is_read_is_bounded_whatever_is_found(failed, monkeypatch):
    monkeypatch.setattr(lost, "MAXIMUM_PAGES", 1)
    table = failed.runtime.settings.idempotency_table
    for number in range(4):
        failed.runtime.stack.dynamodb.put_item(
            TableName=table, Item={"id": {"S": f"large#{number}"}, "x": {"S": "x" * 390_000}}
        )
    key = failed.claim("lost")
    scanned = scan_lost(failed.runtime.app)
    assert scanned.next_token is not None
    found = scanned.runs
    while scanned.next_token is not None:
        scanned = scan_lost(failed.runtime.app, starting_token=scanned.next_token)
        found += scanned.runs
    assert [each.id for each in found] == [key]
    assert found[0].lock_ended_at < datetime.now(UTC) - timedelta(seconds=1)


class TestSentences:
    @pytest.mark.parametrize("option", [("an-id",), ("--queue", "x"), ("--all",)])
    def test_what_is_not_known_of_it(self, failed, option):
        done = failed(*option)
        assert done.exit_code == 2
        assert "--lost goes with --task" in " ".join(done.output.split())

    def test_a_token_without_it(self, failed):
        done = CliRunner().invoke(
            lambda_command,
            ["failed", "list", "--starting-token", "x"],
            obj=SimpleNamespace(app=failed.runtime.app),
        )
        assert done.exit_code == 2
        assert "--starting-token goes with --lost." in done.output

    @pytest.mark.parametrize("token", ["x", "é", "/w=="])
    def test_no_token(self, failed, token):
        done = failed("--starting-token", token)
        assert done.exit_code == 1
        assert "is no token: give the one" in done.output

    def test_no_permission(self, failed, faults):
        faults.fail(failed.runtime.settings, "dynamodb", "Scan", "AccessDenied", status=403)
        done = failed()
        assert done.exit_code == 1
        assert "allow dynamodb:Scan there" in " ".join(done.output.split())
