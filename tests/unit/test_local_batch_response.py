"""Every sort of answer to a batch, judged as AWS documents."""

from __future__ import annotations

from typing import Any

import pytest

from lambda_celery.local.batch_response import BatchFailedError, failed_message_ids
from lambda_celery.local.function import InvocationResult

IDS = ("a", "b", "c")


def judge(payload: Any, *, error: str | None = None, report: bool = True) -> frozenset[str]:
    result = InvocationResult(payload, error, 0.0)
    return failed_message_ids(result, IDS, report_batch_item_failures=report)


@pytest.mark.parametrize(
    "payload", [None, {}, {"batchItemFailures": None}, {"batchItemFailures": []}, {"status": 200}]
)
def test_all_are_done(payload: Any) -> None:
    assert judge(payload) == frozenset()


def test_the_listed_ones_failed() -> None:
    items = [{"itemIdentifier": "c"}, {"itemIdentifier": "a"}, {"itemIdentifier": "c"}]

    assert judge({"batchItemFailures": items}) == {"a", "c"}


@pytest.mark.parametrize(
    "payload",
    [
        b"not JSON",
        b"",
        "text",
        0,
        False,
        [],
        [{"itemIdentifier": "a"}],
        {"batchItemFailures": "a"},
        {"batchItemFailures": {"itemIdentifier": "a"}},
        {"batchItemFailures": False},
        {"batchItemFailures": 0},
        {"batchItemFailures": [None]},
        {"batchItemFailures": ["a"]},
        {"batchItemFailures": [{}]},
        {"batchItemFailures": [{"messageId": "a"}]},
        {"batchItemFailures": [{"itemIdentifier": None}]},
        {"batchItemFailures": [{"itemIdentifier": ""}]},
        {"batchItemFailures": [{"itemIdentifier": 1}]},
        {"batchItemFailures": [{"itemIdentifier": ["a"]}]},
        {"batchItemFailures": [{"itemIdentifier": "unknown"}]},
        {"batchItemFailures": [{"itemIdentifier": "a"}, {"itemIdentifier": "unknown"}]},
    ],
)
def test_a_malformed_answer_fails_the_batch(payload: Any) -> None:
    with pytest.raises(BatchFailedError):
        judge(payload)


def test_an_error_fails_the_batch_whatever_the_mapping_reports() -> None:
    for report in (True, False):
        with pytest.raises(BatchFailedError, match="timed out after 3 s"):
            judge(None, error="timed out after 3 s", report=report)


@pytest.mark.parametrize("payload", [b"not JSON", "text", {"batchItemFailures": "a"}])
def test_without_report_batch_item_failures_the_answer_is_not_looked_at(payload: Any) -> None:
    assert judge(payload, report=False) == frozenset()
