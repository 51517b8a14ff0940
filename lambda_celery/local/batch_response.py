"""How AWS judges a function's answer to a batch of SQS messages."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from lambda_celery.local.function import InvocationResult


class BatchFailedError(Exception):
    """The whole batch counts as failed; the message says why."""


def failed_message_ids(
    result: InvocationResult, message_ids: Collection[str], *, report_batch_item_failures: bool
) -> frozenset[str]:
    """Return which of *message_ids* failed; the others may be deleted.

    Arguments:
        result: what the invocation ended with.
        message_ids: the ids of the batch.
        report_batch_item_failures: whether the event source mapping has
            ``ReportBatchItemFailures`` in its function response types.

    Raises:
        BatchFailedError: nothing may be deleted: the function failed, or its answer is
            malformed or names a message that was not in the batch.
    """
    if result.error is not None:
        raise BatchFailedError(result.error)
    if not report_batch_item_failures:
        return frozenset()
    answer = result.payload
    if answer is None:
        return frozenset()
    if isinstance(answer, bytes):
        raise BatchFailedError("the answer is not JSON")
    if not isinstance(answer, Mapping):
        raise BatchFailedError(f"the answer is no JSON object, but {_short(answer)}")
    items = answer.get("batchItemFailures")
    if items is None:
        return frozenset()
    if not isinstance(items, list):
        raise BatchFailedError(f"batchItemFailures is no list, but {_short(items)}")
    return frozenset(_identifier(item, message_ids) for item in items)


def _identifier(item: Any, message_ids: Collection[str]) -> str:
    if not isinstance(item, Mapping) or "itemIdentifier" not in item:
        raise BatchFailedError(
            f"an item of batchItemFailures has no itemIdentifier: {_short(item)}"
        )
    identifier = item["itemIdentifier"]
    if not isinstance(identifier, str) or not identifier:
        raise BatchFailedError(f"an itemIdentifier is {_short(identifier)}")
    if identifier not in message_ids:
        raise BatchFailedError(f"the itemIdentifier {_short(identifier)} is not in the batch")
    return identifier


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"
