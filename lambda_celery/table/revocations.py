"""Revoked tasks: records in the idempotency table, which the runtime asks before it runs a task.

Nearly always nothing is revoked, so one item says whether anything is. The runtime
reads that item once a second, and a task's own item only while there is any.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lambda_celery import aws
from lambda_celery.conf import Settings, setting_names
from lambda_celery.exceptions import PublishError
from lambda_celery.message import MAXIMUM_RETENTION_SECONDS
from lambda_celery.table.schema import (
    ANY_REVOKED_KEY,
    EXPIRATION,
    KEY,
    MAXIMUM_WRITES,
    revoked_stamp_key,
)

logger = logging.getLogger(__name__)

#: A day longer than SQS keeps a message: one that is sent on is looked at each time.
_LIFE_SECONDS = MAXIMUM_RETENTION_SECONDS + 86_400
_ATTEMPTS = 5
_FRESH_SECONDS = 1.0


def stamp_keys(stamps: Mapping[str, Any]) -> Iterator[str]:
    """Yield the keys of the records that revoke what has one of *stamps*, by each of its values."""
    for stamp, values in stamps.items():
        for value in values if isinstance(values, list | tuple | set) else [values]:
            yield revoked_stamp_key(stamp, value)


def revoke(settings: Settings, keys: Sequence[str]) -> None:
    """Write the records of *keys*.

    Without an idempotency table there is nothing that Lambda could be told by; a warning
    says so. Raises :exc:`PublishError` if DynamoDB does not take them.
    """
    table = settings.idempotency_table
    if table is None:
        logger.warning(
            "The revoke reaches workers alone: for tasks on Lambda set %s here, too.",
            setting_names("idempotency_table"),
        )
        return
    keys = list(dict.fromkeys(keys))  # DynamoDB refuses a batch with repeats
    expires = int(time.time()) + _LIFE_SECONDS
    # The item that says "there are some" comes last: whoever sees it sees the others.
    try:
        for start in range(0, len(keys), MAXIMUM_WRITES):
            _write(settings, table, keys[start : start + MAXIMUM_WRITES], expires)
        _write(settings, table, [ANY_REVOKED_KEY], expires)
    except aws.AWS_ERRORS as exc:
        sentence = aws.explain(
            exc,
            action="dynamodb:BatchWriteItem",
            resource=f"the table {table}",
            setting="idempotency_table",
        )
        raise PublishError(sentence) from aws.cause(exc, settings)


def _write(settings: Settings, table: str, keys: Iterable[str], expires: int) -> None:
    pending = {
        table: [
            {"PutRequest": {"Item": {KEY: {"S": key}, EXPIRATION: {"N": str(expires)}}}}
            for key in keys
        ]
    }
    for attempt in range(_ATTEMPTS):
        answer = aws.client("dynamodb", settings).batch_write_item(RequestItems=pending)
        pending = answer.get("UnprocessedItems") or {}
        if not pending:
            return
        time.sleep(0.1 * 2**attempt)
    raise PublishError("DynamoDB is throttled and did not take every revoke: call it again.")


class Revocations:
    """The revoked tasks, as the runtime sees them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._table = settings.require("idempotency_table", "the table that knows what is revoked")
        self._any = False
        self._asked = float("-inf")

    def include(self, keys: Iterable[str]) -> bool:
        """Whether one of *keys* is revoked.

        A revoke is seen a second after it was made at the latest. Raises botocore's
        errors if DynamoDB cannot be asked.
        """
        now = time.time()  # which, unlike the monotonic clock, goes on while Lambda is frozen
        if now - self._asked >= _FRESH_SECONDS:
            self._any = self._has(ANY_REVOKED_KEY)
            self._asked = now
        return self._any and any(self._has(key) for key in keys)

    def _has(self, key: str) -> bool:
        answer = aws.client("dynamodb", self._settings).get_item(
            TableName=self._table, Key={KEY: {"S": key}}, ConsistentRead=True
        )
        return int(answer.get("Item", {}).get(EXPIRATION, {}).get("N", 0)) > time.time()
