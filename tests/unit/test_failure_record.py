"""How a failure is written down: within DynamoDB's limits, whatever a sender has put into it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from lambda_celery import failures
from lambda_celery.failures.record import (
    MAXIMUM_KEPT_BYTES,
    Failure,
    from_item,
    partition_of,
    partitions,
    to_item,
)

#: 400 KB, by which DynamoDB means an item's names and values together.
MAXIMUM_ITEM_BYTES = 400_000


def failure(**fields: Any) -> Failure:
    values: dict[str, Any] = {
        "id": "failure#1", "task": "shop.send", "task_id": "1", "queue": "arn", "reason": "failed",
        "dead_letter_queue": "url", "exception": "ValueError", "attempts": 5, "size": 100,
        "failed_at": datetime(2026, 7, 1, 12, 30, 15, 250_000, tzinfo=UTC), "body": "x",
    }  # fmt: skip
    return Failure(**{**values, **fields})


def bytes_of(item: dict[str, Any]) -> int:
    return sum(len(name) + len(next(iter(value.values())).encode()) for name, value in item.items())


def test_what_is_written_is_read():
    assert from_item(to_item(failure(), expires=1)) == failure()


@pytest.mark.parametrize(
    "fields",
    [
        {"body": "x" * MAXIMUM_KEPT_BYTES},
        {"body": "é" * MAXIMUM_KEPT_BYTES},
        {"attributes": {"a": {"DataType": "Binary", "BinaryValue": b"x" * MAXIMUM_KEPT_BYTES}}},
        {"attributes": {"a": {"DataType": "String", "StringValue": "é" * 100_000}}},
    ],
)
def test_an_item_is_never_too_large(fields):
    texts = dict.fromkeys(
        ("task", "task_id", "reason", "exception", "message", "traceback", "args", "kwargs",
         "trace_id", "root_id", "parent_id"),
        "é" * 100_000,
    )  # fmt: skip
    assert bytes_of(to_item(failure(**texts, **fields), expires=1)) < MAXIMUM_ITEM_BYTES


def test_attributes_do_not_stay_without_their_body():
    attributes = {"a": {"DataType": "String", "StringValue": "x"}}
    found = from_item(to_item(failure(body="x" * 400_000, attributes=attributes), expires=1))
    assert (found.body, found.attributes) == (None, {})


@pytest.mark.parametrize("text", ["\ud800", "é" * 600 + "\udfff"])
def test_what_is_no_text_can_be_sent(text):
    item = to_item(failure(task=text, task_id=text, message=text, traceback=text), expires=1)
    assert bytes_of(item) > 0  # all of it can be encoded
    assert item["failures"]["S"] in partitions()


def test_a_failure_without_an_id_has_a_partition():
    assert partition_of("") in partitions()


def test_failures_spread_over_all_partitions():
    assert {partition_of(str(number)) for number in range(200)} == set(partitions())


def test_the_package_has_what_it_names():
    assert {getattr(failures, name).__name__ for name in failures.__all__} == {*failures.__all__}
    with pytest.raises(AttributeError, match="no attribute 'Other'"):
        failures.Other  # noqa: B018
