"""Idempotency records of tasks that run at the same time: fewer requests, the same records."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from queue import Queue
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ConnectionClosedError

from lambda_runtime.table.claims import AheadClaim, Claim, Ending, IdempotencyTable
from lambda_runtime.table.group_commit import GroupCommit

WAIT_SECONDS = 30
CONCURRENCY = 12


@pytest.fixture
def runtime(make_runtime):
    return make_runtime(lambda_concurrency=CONCURRENCY)


@pytest.fixture
def table(runtime):
    return IdempotencyTable(runtime.settings)


def claim(table, key, **options):
    ends = {"life_seconds": 1000, "run_ends": time.time() + 60}
    return table.claim(key, **{**ends, **options})


def test_a_batch_runs_each_once_with_fewer_requests_than_records(runtime, faults):
    ran = Counter()
    together = threading.Barrier(CONCURRENCY)

    @runtime.task
    def send(n):
        ran[n] += 1
        together.wait(WAIT_SECONDS)  # so that their completions are written at the same time

    runtime.handler  # noqa: B018 - its client is watched
    requests = faults.watch(runtime.settings, "dynamodb", "BatchExecuteStatement")
    puts = faults.watch(runtime.settings, "dynamodb", "PutItem")
    updates = faults.watch(runtime.settings, "dynamodb", "UpdateItem")
    for n in range(3 * CONCURRENCY):
        send.delay(n)
    assert runtime.deliver(3 * CONCURRENCY).all_deleted

    assert ran == Counter(range(3 * CONCURRENCY))
    assert [each["status"] for each in runtime.records()] == ["COMPLETED"] * 3 * CONCURRENCY
    statements = sum(len(each["Statements"]) for each in requests)
    assert statements == 2 * 3 * CONCURRENCY
    assert len(requests) < statements
    assert puts == updates == []


def test_the_records_are_those_that_are_written_one_by_one(runtime, table, make_runtime):
    alone = IdempotencyTable(make_runtime().settings)
    for each, key in ((alone, "alone"), (table, "together")):
        claim(each, f"{key} claimed", run_ends=1_000_000_000.5)
        claim(each, f"{key} completed", run_ends=1_000_000_000.5)
        each.complete(f"{key} completed", life_seconds=1_000_000)
    items = {item["id"]: item for item in runtime.records()}
    for kind in ("claimed", "completed"):
        one, other = items[f"alone {kind}"], items[f"together {kind}"]
        own = {"id": None, "expiration": None, "owner": None}
        assert one["owner"] != other["owner"]
        assert {**one, **own} == {**other, **own}
        assert abs(int(one["expiration"]) - int(other["expiration"])) <= WAIT_SECONDS


def test_two_copies_in_one_batch_run_once(runtime):
    ran = Counter()

    @runtime.task
    def send(n):
        ran[n] += 1

    for n in range(10):
        send.delay(n)
    messages = runtime.receive(10)
    for message in messages:
        runtime.send_copy(message)
    copies = runtime.receive(10)
    mixed = [each for pair in zip(messages, copies, strict=True) for each in pair]
    answer = runtime.hand_over(mixed)
    assert ran == Counter(range(10))
    assert len(answer.failed) < 20


def test_of_many_claims_at_once_one_wins(runtime, table):
    """As many processes as threads: each has a table of its own."""
    tables = [IdempotencyTable(runtime.settings) for _ in range(4)]
    keys = [f"key {n}" for n in range(20)]
    begin = threading.Barrier(len(tables) * 5)

    def race(n):
        begin.wait(WAIT_SECONDS)
        return [(key, claim(tables[n % 4], key).claim) for key in keys[n % 20 :] + keys[: n % 20]]

    with ThreadPoolExecutor(20) as threads:
        found = [each for claims in threads.map(race, range(20)) for each in claims]
    assert Counter(key for key, claim in found if claim is Claim.WON) == Counter(keys)
    assert {claim for _, claim in found} == {Claim.WON, Claim.IN_PROGRESS}


def test_a_repeated_write_with_the_same_deadline_does_not_win_another_ones_lock(
    runtime, table, monkeypatch
):
    # Given: botocore, or the group, cannot tell whether the first attempt has arrived
    monkeypatch.setattr("lambda_runtime.table.claims._is_repeated", lambda exc: True)
    other = IdempotencyTable(runtime.settings)
    run_ends = time.time() + 60

    # When
    claims = [claim(each, "key", run_ends=run_ends).claim for each in (table, other)]

    # Then
    assert claims == [Claim.WON, Claim.IN_PROGRESS]


def test_a_lost_run_is_spared_by_the_write_itself(runtime, table, monkeypatch):
    """Not by a look before it: whatever happens between the two must not start the run again."""
    monkeypatch.setattr(IdempotencyTable, "look_up", None)
    claim(table, "lost", run_ends=time.time() - 60)
    assert claim(table, "lost", spare_lost=True).claim is Claim.LOST
    assert claim(table, "lost").claim is Claim.WON


def test_what_is_found_is_told_as_ever(table):
    claim(table, "running")
    claim(table, "done")
    table.complete("done", life_seconds=1000)
    claim(table, "lost", run_ends=time.time() - 10)
    claim(table, "expired", run_ends=time.time() - 10)
    table.complete("expired", life_seconds=-10)

    assert claim(table, "running").claim is Claim.IN_PROGRESS
    assert claim(table, "done").claim is Claim.COMPLETED
    assert claim(table, "lost", spare_lost=True).claim is Claim.LOST
    assert claim(table, "lost").claim is Claim.WON
    assert claim(table, "expired").claim is Claim.WON


@dataclass
class Telling:
    """A table's client whose refusals of an INSERT tell the item, as DynamoDB may; or do not."""

    client: Any
    tells: bool
    requests: list[str] = field(default_factory=list)
    #: What is called between a refusal and what is made of it.
    meanwhile: Callable[[], Any] = bool
    table_name: str = ""

    def batch_execute_statement(self, **parameters: Any) -> Any:
        self.requests.append("BatchExecuteStatement")
        answer = self.client.batch_execute_statement(**parameters)
        for asked, response in zip(parameters["Statements"], answer["Responses"], strict=True):
            is_asked = asked.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD"
            if response.get("Error", {}).get("Code") != "DuplicateItem":
                continue
            if self.tells and is_asked:
                response["Error"]["Item"] = self._item(asked["Parameters"][0])
            self.meanwhile()
        return answer

    def put_item(self, **parameters: Any) -> Any:
        self.requests.append("PutItem")
        return self.client.put_item(**parameters)

    def get_item(self, **parameters: Any) -> Any:
        self.requests.append("GetItem")
        return self.client.get_item(**parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def _item(self, key: Any) -> Any:
        return self.client.get_item(TableName=self.table_name, Key={"id": key})["Item"]


@pytest.fixture
def telling(table):
    """Have refusals of *table* tell the item, or not; return what was asked for."""

    def telling(tells: bool) -> Telling:
        client = Telling(table.client, tells, table_name=table.table_name)
        table.client, table._group = client, GroupCommit(client)
        return client

    return telling


def claim_ahead(table, key, **options):
    """Claim *key* ahead; return what :func:`claim` is to be given."""
    told: Queue[AheadClaim] = Queue()
    values = {"life_seconds": 1000, "run_ends": time.time() + 60, "message_id": "m"}
    table.claim_ahead(key, **{**values, "call_id": None, **options}, then=told.put)
    return told.get(timeout=WAIT_SECONDS)


#: Each leaves a record, and says how a second claim is made.
FOUND = {
    "running": ({}, None, {}),
    "running, of the message": ({"lineage": ("m",)}, None, {"lineage": ("m",)}),
    "done": ({}, Ending.DONE, {}),
    "failed": ({}, Ending.FAILED, {}),
    "failed, of another call": ({"call_id": "1"}, Ending.FAILED, {"call_id": "2"}),
    "done, of another call": ({"call_id": "1"}, Ending.DONE, {"call_id": "2"}),
    "running, of another call": ({"call_id": "1"}, None, {"call_id": "2"}),
    "lost, of another call": ({"call_id": "1", "run_ends": 1.0}, None, {"call_id": "2"}),
    "unfinished": ({}, Ending.UNFINISHED, {}),
    "lost": ({"run_ends": 1.0}, None, {"receive_count": 4}),
    "lost, of the message": (
        {"run_ends": 1.0, "lineage": ("m",)}, None, {"lineage": ("n", "m"), "receive_count": 4},
    ),
    "lost and spared": ({"run_ends": 1.0}, None, {"spare_lost": True}),
    "released": ({}, "release", {"receive_count": 3}),
    "expired": ({"life_seconds": -10, "run_ends": 1.0}, None, {}),
    "done and expired": ({}, "expire", {}),
    "dropped": ({}, "drop", {}),
}  # fmt: skip


def leave(table, key, options, ending):
    made = claim(table, key, **options)
    if isinstance(ending, Ending):
        table.complete(key, life_seconds=1000, ending=ending)
    elif ending == "expire":
        table.complete(key, life_seconds=-10)
    elif ending == "release":
        table.release(key, made)
    elif ending == "drop":
        table.drop(key, made)


@pytest.mark.parametrize("is_ahead", [False, True])
@pytest.mark.parametrize("name", FOUND)
def test_a_refusal_that_tells_the_record_changes_no_decision(table, telling, name, is_ahead):
    first, ending, second = FOUND[name]
    claims, records, counts = [], [], []
    ends = {"run_ends": time.time() + 60}
    for tells in (False, True):
        key = f"{name} {tells}"
        leave(table, key, {**ends, **first}, ending)
        client = telling(tells)
        options = {} if not is_ahead else {
            "message_id": second.get("lineage", ("",))[0], "call_id": second.get("call_id"), **ends,
        }  # fmt: skip
        ahead = claim_ahead(table, key, **options) if is_ahead else None
        found = claim(table, key, **{**ends, **second}, ahead=ahead)
        claims.append(replace(found, owner=""))
        (item,) = [each for each in table_items(table) if each["id"]["S"] == key]
        records.append((item["status"], item.get("attempts"), item.get("message_id")))
        counts.append(len(client.requests))
        table.client = client.client
    assert claims[0] == claims[1]
    assert records[0] == records[1]
    assert counts[1] <= counts[0]


def table_items(table):
    return table.client.scan(TableName=table.table_name)["Items"]


@pytest.mark.parametrize("is_ahead", [False, True])
@pytest.mark.parametrize(
    ("tells", "requests"), [(False, ["BatchExecuteStatement", "PutItem"]), (True, None)]
)
def test_a_duplicate_costs_no_request_of_its_own_where_the_record_is_told(
    table, telling, tells, requests, is_ahead
):
    claim(table, "a")
    table.complete("a", life_seconds=1000)
    client = telling(tells)
    ahead = claim_ahead(table, "a") if is_ahead else None
    assert claim(table, "a", ahead=ahead).claim is Claim.COMPLETED
    assert client.requests == (requests or ["BatchExecuteStatement"])


@pytest.mark.parametrize("ending", [Ending.DONE, None], ids=["completed", "forgotten"])
def test_what_was_told_of_a_claim_ahead_may_have_changed_since(table, telling, ending):
    claim(table, "a")
    client = telling(True)
    ahead = claim_ahead(table, "a")
    assert ahead.item is not None
    if ending is None:
        table.forget("a")
    else:
        table.complete("a", life_seconds=1000)
    expected = Claim.WON if ending is None else Claim.COMPLETED
    assert claim(table, "a", ahead=ahead).claim is expected
    assert client.requests[-1] == "PutItem"


def test_a_lost_run_that_completes_meanwhile_is_not_taken_over(table, telling):
    claim(table, "a", run_ends=time.time() - 60)
    client = telling(True)
    client.meanwhile = lambda: table_completes(client, "a")
    assert claim(table, "a").claim is Claim.COMPLETED


def test_a_released_run_that_another_claims_meanwhile_is_not_taken_over(table, telling, runtime):
    table.release("a", claim(table, "a"))
    other = IdempotencyTable(runtime.settings)
    client = telling(True)
    client.meanwhile = lambda: claims.append(claim(other, "a").claim)
    claims: list[Claim] = []
    assert claim(table, "a").claim is Claim.IN_PROGRESS
    assert claims == [Claim.WON]


def table_completes(client, key):
    client.client.update_item(
        TableName=client.table_name,
        Key={"id": {"S": key}},
        UpdateExpression="SET #status = :done, #data = :null, #lock = :lock",
        ExpressionAttributeNames={
            "#status": "status", "#data": "data", "#lock": "in_progress_expiration",
        },
        ExpressionAttributeValues={
            ":done": {"S": "COMPLETED"}, ":null": {"S": "null"}, ":lock": {"N": "0"},
        },
    )  # fmt: skip


@pytest.mark.parametrize("tells", [False, True])
def test_a_repeated_claim_that_is_told_its_own_record_has_won(table, telling, tells):
    client = telling(tells)
    send = client.batch_execute_statement

    def send_twice(**parameters):
        send(**parameters)
        answer = send(**parameters)
        answer["ResponseMetadata"]["RetryAttempts"] = 1
        return answer

    table._group = GroupCommit(SimpleNamespace(batch_execute_statement=send_twice))
    assert claim(table, "a").claim is Claim.WON
    assert ("PutItem" in client.requests) is not tells


def test_a_completion_is_written_although_the_record_is_gone(runtime, table):
    claim(table, "a")
    table.forget("a")
    table.complete("a", life_seconds=1000)
    assert table.is_completed("a")


def test_where_it_is_not_allowed_records_are_written_one_by_one(runtime, faults, caplog):
    ran = Counter()

    @runtime.task
    def send(n):
        ran[n] += 1

    runtime.handler  # noqa: B018 - made before the fault
    faults.fail(runtime.settings, "dynamodb", "BatchExecuteStatement", "AccessDeniedException")
    for _ in range(2):
        for n in range(10):
            send.delay(n)
        assert runtime.deliver(10).all_deleted
    assert ran == Counter([*range(10), *range(10)])
    assert [each["status"] for each in runtime.records()] == ["COMPLETED"] * 20
    (said,) = [each for each in caplog.messages if "PartiQL" in each]
    assert "dynamodb:PartiQLUpdate" in said


def test_where_the_table_cannot_be_asked_nothing_is_run(runtime, faults):
    ran = []

    @runtime.task
    def send(n):
        ran.append(n)

    runtime.handler  # noqa: B018 - made before the fault
    undo = [
        faults.fail(runtime.settings, "dynamodb", operation, "InternalServerError", status=500)
        for operation in ("BatchExecuteStatement", "PutItem")
    ]
    for n in range(5):
        send.delay(n)
    assert len(runtime.deliver(5).failed) == 5
    assert ran == []
    for each in undo:
        each()
    assert runtime.deliver(5).all_deleted
    assert sorted(ran) == list(range(5))


@pytest.mark.parametrize("repeated", [False, True])
def test_a_claim_whose_answer_was_lost_knows_itself_again(table, repeated):
    send, lost = table.client.batch_execute_statement, []

    def send_and_lose(**parameters):
        answer = send(**parameters)
        if lost:
            return answer
        lost.append(1)
        if not repeated:
            raise ConnectionClosedError(endpoint_url="the table")
        answer = send(**parameters)
        answer["ResponseMetadata"]["RetryAttempts"] = 1
        return answer

    table._group = GroupCommit(SimpleNamespace(batch_execute_statement=send_and_lose))
    assert claim(table, "a").claim is Claim.WON
    assert lost == [1]
    assert claim(table, "a").claim is Claim.IN_PROGRESS


def test_a_request_that_fails_leaves_each_of_its_completions_to_its_own_thread(runtime, faults):
    together = threading.Barrier(CONCURRENCY)
    undo = []

    @runtime.task
    def send():
        if together.wait(WAIT_SECONDS) == 0:
            undo.append(
                faults.fail(
                    runtime.settings, "dynamodb", "BatchExecuteStatement", "Oops", status=500
                )
            )
        together.wait(WAIT_SECONDS)

    for _ in range(CONCURRENCY):
        send.delay()
    assert runtime.deliver(CONCURRENCY).all_deleted
    assert [each["status"] for each in runtime.records()] == ["COMPLETED"] * CONCURRENCY


def test_a_table_that_is_given_by_its_arn_is_written_to_one_by_one(make_runtime):
    arn = "arn:aws:dynamodb:eu-west-1:000000000000:table/once"
    runtime = make_runtime(lambda_concurrency=4, lambda_idempotency_table=arn)
    assert IdempotencyTable(runtime.settings)._group is None
