"""The store of failed tasks, on a table as the infrastructure makes it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lambda_celery.exceptions import ConfigurationError
from lambda_celery.failures import Failure, Failures

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)


def failure(number: int, **fields: Any) -> Failure:
    values: dict[str, Any] = {
        "id": f"failure#{number}", "task": "shop.send", "task_id": f"task-{number}",
        "queue": "arn:aws:sqs:eu-west-1:1:shop", "dead_letter_queue": "https://sqs/shop-dead",
        "reason": "failed", "exception": "ValueError", "failed_at": NOW + timedelta(seconds=number),
        "attempts": 5, "size": 100, "body": "x",
    }  # fmt: skip
    return Failure(**{**values, **fields})


@pytest.fixture
def store(stack: Any) -> Failures:
    return Failures(stack.settings)


def test_lists_by_time_across_partitions(store):
    for number in (3, 1, 4, 2, 5):
        store.put(failure(number), 3600)

    assert [each.task_id for each in store.all()] == [f"task-{n}" for n in (5, 4, 3, 2, 1)]
    oldest_first = [each.task_id for each in store.all(newest_first=False)]
    assert oldest_first == [f"task-{n}" for n in (1, 2, 3, 4, 5)]


def test_reads_page_by_page(store):
    # The emulator's pages are of 1 MB, as DynamoDB's are.
    for number in range(1100):
        store.put(failure(number, task="t" * 1000, task_id="the same"), 3600)

    assert len({each.id for each in store.all()}) == 1100
    assert len(store.of_task("the same")) == 1100


def test_counts_by_task_and_exception_what_was_not_sent_back(store):
    for number in range(4):
        store.put(failure(number), 3600)
    store.put(failure(4, exception="", reason="rejected", task="shop.other"), 3600)
    assert store.mark_retried(failure(0))

    queue = "arn:aws:sqs:eu-west-1:1:shop"
    assert store.count() == Counter(
        {("shop.send", "ValueError", queue): 3, ("shop.other", "rejected", queue): 1}
    )


def test_all_fields_come_back(store):
    whole = failure(
        1, message="451", traceback="Traceback", args="(1,)", kwargs="{}", version="7",
        trace_id="00-1-2-01", root_id="r", parent_id="p", retries=2, message_group_id="g",
        body='{"a": 1}', attributes={
            "text": {"DataType": "String", "StringValue": "é"},
            "bytes": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
        },
    )  # fmt: skip
    store.put(whole, 3600)
    assert store.get(whole.id) == whole


def test_what_is_long_is_cut_and_of_a_traceback_the_end_is_kept(store):
    store.put(failure(1, message="m" * 5000, traceback="first" + "x" * 20_000 + "last"), 3600)
    found = store.get("failure#1")
    assert found is not None
    assert len(found.message) == 1024
    assert found.traceback.endswith("last")
    assert len(found.traceback) == 16_384


def test_one_of_two_who_send_back_does(store):
    store.put(failure(1), 3600)
    assert store.mark_retried(failure(1))
    assert not store.mark_retried(failure(1))


def test_what_has_failed_again_since_it_was_read_is_not_forgotten(store):
    store.put(failure(1, failed_at=NOW + timedelta(hours=1)), 3600)
    assert not store.forget(failure(1))
    assert store.forget(failure(1, failed_at=NOW + timedelta(hours=1)))
    assert store.get("failure#1") is None


def test_what_has_expired_and_is_still_there_is_no_failure(store):
    store.put(failure(1), -1)
    store.put(failure(2), 3600)
    assert [each.id for each in store.all()] == ["failure#2"]
    assert store.get("failure#1") is None


def test_a_record_of_another_kind_is_no_failure(store, stack):
    stack.dynamodb.put_item(
        TableName=stack.settings.idempotency_table, Item={"id": {"S": "shop.send#1"}}
    )
    assert store.get("shop.send#1") is None
    assert list(store.all()) == []


def test_a_table_without_the_index_is_told_in_a_sentence(stack, results_table):
    store = Failures(replace(stack.settings, idempotency_table=results_table))
    with pytest.raises(ConfigurationError, match="has no index failures"):
        list(store.all())
