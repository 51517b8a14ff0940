"""A task's own idempotency key: once per order, not once per publication."""

from __future__ import annotations

import time

import pytest

from lambda_celery import ConfigurationError, task
from lambda_runtime.table.claims import Claim, Ending, IdempotencyTable


@pytest.fixture
def ran():
    return []


@pytest.fixture
def confirm(runtime, ran):
    @runtime.task(
        name="confirm", bind=True, idempotency_key=lambda order: order,
        idempotency_ttl_seconds=3600,
    )  # fmt: skip
    def confirm(self, order, address=None, fail=False):
        if fail:
            raise ValueError("bug")
        if address == "retry" and not self.request.retries:
            raise self.retry(countdown=0)
        ran.append((order, address))

    return confirm


def test_calls_with_the_same_key_run_once_whatever_their_ids_and_other_arguments(
    runtime, confirm, ran
):
    confirm.delay(1, address="ada")
    confirm.delay(1, "bob")
    confirm.delay(order=2)
    for _ in range(3):
        assert runtime.deliver().all_deleted
    assert sorted(ran) in ([(1, "ada"), (2, None)], [(1, "bob"), (2, None)])


def test_a_retry_is_no_repetition(runtime, confirm, ran):
    confirm.delay(1, address="retry")
    assert runtime.deliver().all_deleted
    assert runtime.deliver().all_deleted
    assert ran == [(1, "retry")]
    confirm.delay(1, address="again")
    assert runtime.deliver().all_deleted
    assert ran == [(1, "retry")]


def test_a_call_that_failed_does_not_stand_in_the_way_of_the_next(runtime, confirm, ran):
    confirm.apply_async((1,), {"fail": True}, retries=3)
    assert runtime.deliver().all_deleted  # parked: its retries are used up
    confirm.delay(1)
    assert runtime.deliver().all_deleted
    assert ran == [(1, None)]


def test_a_failure_that_is_acknowledged_does_not_stand_in_the_way_of_the_next(runtime, ran):
    @runtime.task(acks_on_failure_or_timeout=True, idempotency_key=lambda order: order)
    def confirm(order, fail=False):
        ran.append((order, fail))
        if fail:
            raise ValueError("bug")

    # Given: a call that has failed for good
    confirm.delay(1, fail=True)
    (failed,) = runtime.receive()
    runtime.send_copy(failed)
    assert runtime.hand_over([failed]).all_deleted

    # Then: a copy of it is dropped, and the next call with its key is run, once
    assert runtime.deliver().all_deleted
    assert ran == [(1, True)]
    confirm.delay(1)
    confirm.delay(1)
    for _ in range(2):
        assert runtime.deliver().all_deleted
    assert ran == [(1, True), (1, False)]


def test_neither_does_one_that_was_lost_with_its_process(runtime, ran, monkeypatch):
    @runtime.task(
        ignore_result=True, reject_on_worker_lost=False, idempotency_key=lambda order: order
    )
    def confirm(order):
        ran.append(order)

    # Given: a call whose process has died before its end was noted
    confirm.delay(1)
    (message,) = runtime.receive()
    with monkeypatch.context() as died:
        died.setattr(IdempotencyTable, "complete", lambda *args, **kwargs: None)
        runtime.invoke([message], seconds=10)
    (record,) = runtime.records()
    runtime.stack.dynamodb.update_item(
        TableName=runtime.settings.idempotency_table,
        Key={"id": {"S": record["id"]}},
        UpdateExpression="SET in_progress_expiration = :ended",
        ExpressionAttributeValues={":ended": {"N": "1"}},
    )

    # Then: it is not run a second time, and the next call with its key is run
    assert runtime.hand_over([message]).all_deleted
    assert ran == [1]
    (parked,) = runtime.stack.dead_letters()
    assert parked["Body"] == message["Body"]
    confirm.delay(1)
    assert runtime.deliver().all_deleted
    assert ran == [1, 1]


def test_neither_does_one_that_failed_after_its_retries(runtime, ran):
    @runtime.task(bind=True, max_retries=1, idempotency_key=lambda order: order)
    def confirm(self, order):
        ran.append(self.request.retries)
        if len(ran) <= 2:
            raise self.retry(countdown=0, exc=ValueError("bug"))

    confirm.delay(1)
    assert runtime.deliver().all_deleted
    assert runtime.deliver().all_deleted  # parked
    confirm.delay(1)
    assert runtime.deliver().all_deleted
    assert ran == [0, 1, 0]


def test_a_life_shorter_than_the_run_is_a_lock_until_its_end(stack):
    table = IdempotencyTable(stack.settings)
    run_ends = time.time() + 900
    table.claim("key", life_seconds=1, run_ends=run_ends)
    (item,) = stack.dynamodb.scan(TableName=stack.settings.idempotency_table)["Items"]
    assert int(item["expiration"]["N"]) > run_ends


def test_what_waits_for_a_call_that_is_dropped_is_named(runtime, confirm, ran, caplog):
    confirm.delay(1)
    assert runtime.deliver().all_deleted
    (confirm.si(1) | confirm.si(2)).delay()
    assert runtime.deliver().all_deleted
    assert runtime.stack.depth() == 0
    assert "What waits for it" in caplog.text


def test_arguments_that_do_not_fit_fail_in_celerys_way(make_runtime):
    runtime = make_runtime(lambda_max_receive_count=1)

    @runtime.task(typing=False, idempotency_key=lambda order: order)
    def confirm(order):
        """It cannot be called without one."""

    result = confirm.delay()
    assert runtime.deliver().all_deleted
    assert result.state == "FAILURE"


def test_it_is_remembered_for_its_own_life_time(runtime, confirm):
    confirm.delay(1)
    assert runtime.deliver().all_deleted
    (record,) = runtime.records()
    assert int(record["expiration"]) - time.time() <= 3600
    assert "1" not in record["id"].partition("#")[2][:1]  # a digest: keys can be addresses


def test_none_stands_for_the_usual_key(runtime, ran):
    @runtime.task(idempotency_key=lambda order: None, idempotency_ttl_seconds=60)
    def confirm(order):
        ran.append(order)

    for _ in range(2):
        confirm.delay(1)
    assert runtime.deliver(2).all_deleted
    assert ran == [1, 1]
    assert all(int(each["expiration"]) > time.time() + 60 for each in runtime.records())


def test_a_base_class_defines_it_as_a_method(runtime, ran):
    class PerOrder(runtime.app.Task):
        def idempotency_key(self, order):
            return f"{self.name}:{order}"

    @runtime.task(base=PerOrder)
    def confirm(order):
        ran.append(order)

    for _ in range(2):
        confirm.delay(1)
        assert runtime.deliver().all_deleted
    assert ran == [1]


def test_a_key_that_cannot_be_made_is_returned_then_parked(make_runtime, ran):
    runtime = make_runtime(lambda_max_receive_count=2)

    @runtime.task(idempotency_key=lambda order: order["id"], typing=False)
    def confirm(order):
        ran.append(order)

    confirm.delay(1)
    assert runtime.deliver().all_returned
    assert runtime.deliver().all_deleted
    (parked,) = runtime.stack.dead_letters()
    assert "idempotency_key" in parked["MessageAttributes"]["LambdaCeleryReason"]["StringValue"]
    assert ran == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"idempotency_key": "order"}, "give it a function"),
        ({"idempotency_key": str, "idempotency_ttl_seconds": "1h"}, "whole seconds"),
        ({"idempotency_ttl_seconds": 60}, "no idempotency_key"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_declaration_and_at_start(runtime, options, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        task(name="confirm", **options)

    @runtime.task(**options)
    def confirm():
        """Declared by another door."""

    with pytest.raises(ConfigurationError, match=sentence):
        assert runtime.handler


def test_a_key_of_arguments_that_the_task_does_not_have_is_refused_at_the_start(runtime):
    @runtime.task(idempotency_key=lambda order, year=2026: order)
    def confirm(address):
        """It is never run."""

    with pytest.raises(ConfigurationError, match=r"wants 'order'.* arguments are address"):
        runtime.handler  # noqa: B018


@pytest.mark.parametrize(
    "key",
    [lambda order: order, lambda **all_: str(all_), lambda year=2026: year, lambda *_: None],
)
def test_a_key_of_some_of_the_arguments_or_all_is_not_refused(runtime, key):
    @runtime.task(bind=True, idempotency_key=key)
    def confirm(self, order, address=None):
        """It is never run."""

    @runtime.task(idempotency_key=lambda anything: anything)
    def of_any(**kwargs):
        """It is never run."""

    assert runtime.handler


def test_what_is_done_is_not_said_to_be_unfinished_by_one_who_comes_late(stack):
    table = IdempotencyTable(stack.settings)
    table.claim("key", life_seconds=60, run_ends=time.time() + 60)
    table.complete("key", life_seconds=60)
    table.complete("key", life_seconds=60, ending=Ending.UNFINISHED)
    found = table.look_up("key")
    assert found is not None
    assert found.claim is Claim.COMPLETED


def test_what_was_said_to_be_unfinished_may_be_done_after_all(stack):
    table = IdempotencyTable(stack.settings)
    table.claim("key", life_seconds=60, run_ends=time.time() + 60)
    table.complete("key", life_seconds=60, ending=Ending.UNFINISHED)
    table.complete("key", life_seconds=60)
    found = table.look_up("key")
    assert found is not None
    assert found.claim is Claim.COMPLETED
