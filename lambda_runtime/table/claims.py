"""Each publication runs once: Powertools' DynamoDB records, claimed, completed, released.

All contact with Powertools' idempotency utility is here. Its decorators are made
for a function whose failure is an exception; ours has outcomes, so the record's
three steps are taken one by one, in Powertools' format and with its conditional
write::

    |---- claim ----|------------ task ------------|---- complete ----|
    |   INPROGRESS, locked until the invocation's end                 |  COMPLETED
    |                                              |---- release -----|  (no record)

A process that dies leaves its lock behind, which ends when Lambda would have
ended the invocation, and a second later: nothing of it can run after that.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

from aws_lambda_powertools.utilities.idempotency import DynamoDBPersistenceLayer
from aws_lambda_powertools.utilities.idempotency.exceptions import (
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
)
from aws_lambda_powertools.utilities.idempotency.persistence.datarecord import DataRecord

from lambda_celery import aws
from lambda_celery.conf import Settings
from lambda_celery.table.schema import EXPIRATION, KEY
from lambda_runtime.table.group_commit import GroupCommit, Written

#: A lock outlives its invocation a little: clocks differ, and so do kills.
_LOCK_MARGIN_SECONDS = 1
#: How many claims in a row have different locks, a millisecond apart.
_MARKS = 2000


class Claim(Enum):
    """What an attempt to claim a publication found."""

    WON = "won"
    COMPLETED = "completed"
    IN_PROGRESS = "in progress"
    LOST = "lost"


@dataclass(frozen=True)
class Claimed:
    """The answer to a claim, and when the lock ends: this run's, or that of the one going on."""

    claim: Claim
    lock_ends_ms: int = 0

    def seconds_left(self) -> float:
        """Return the seconds until the lock ends."""
        return self.lock_ends_ms / 1000 - time.time()


class IdempotencyTable(DynamoDBPersistenceLayer):
    """The table, through Powertools' persistence layer."""

    def __init__(self, settings: Settings) -> None:
        table = settings.require("idempotency_table", "the DynamoDB table of what has run already")
        super().__init__(
            table_name=table,
            key_attr=KEY,
            expiry_attr=EXPIRATION,
            boto3_client=aws.client("dynamodb", settings),
        )
        self._claims = itertools.count()
        self._group: GroupCommit | None = None
        # PartiQL knows tables by their names alone.
        if settings.most_concurrency > 1 and not table.startswith("arn:"):
            self._group = GroupCommit(_one_attempt(self.client))

    def claim(
        self, key: str, *, life_seconds: int, run_ends: float, spare_lost: bool = False
    ) -> Claimed:
        """Claim *key* for a run that ends at *run_ends* (epoch seconds) at the latest.

        :param life_seconds: how long the record is kept.
        :param spare_lost: answer ``LOST`` where an earlier run died, instead of taking over.
        :raises botocore.exceptions.ClientError: and its kin, if DynamoDB cannot be asked.
        """
        if spare_lost:
            found = self.look_up(key)
            if found is not None and found.claim is Claim.LOST:
                return found
        # The lock's end is also its owner's mark, so no two claims of a process share it.
        mark_ms = next(self._claims) % _MARKS
        lock_ends_ms = int((run_ends + _LOCK_MARGIN_SECONDS) * 1000) + mark_ms
        record = DataRecord(
            idempotency_key=key,
            status="INPROGRESS",
            # Not before the lock ends: a life may be shorter than a run.
            expiry_timestamp=max(int(time.time()) + life_seconds, lock_ends_ms // 1000 + 1),
            in_progress_expiry_timestamp=lock_ends_ms,
        )
        won = Claimed(Claim.WON, lock_ends_ms)
        written = self._insert(record)
        if written is Written.YES:
            return won
        for _ in range(3):
            try:
                self._put_record(record)
                return won
            except IdempotencyItemAlreadyExistsError as exc:
                stored = exc.old_data_record or self._get_record(key)
                repeated = written is Written.PERHAPS or _is_repeated(exc)
                if repeated and _is_same(stored, record):
                    return won
                found = _read(stored)
                if found is not None and found.claim is not Claim.LOST:
                    return found
                # Else it ended between the write and this line: the next write wins or tells.
        return Claimed(Claim.IN_PROGRESS, int(time.time() * 1000) + 1000)

    def complete(self, key: str, *, life_seconds: int) -> None:
        """Remember for *life_seconds* that *key* has run to its end."""
        record = DataRecord(
            idempotency_key=key,
            status="COMPLETED",
            expiry_timestamp=int(time.time()) + life_seconds,
            response_data="null",
        )
        if self._update(record) is not Written.YES:
            self._update_record(record)

    def _insert(self, record: DataRecord) -> Written:
        """Write *record* together with others, if it has no predecessor at all."""
        return self._write_together(
            record,
            f"INSERT INTO \"{self.table_name}\" VALUE {{'{self.key_attr}': ?, "
            f"'{self.expiry_attr}': ?, '{self.in_progress_expiry_attr}': ?, "
            f"'{self.status_attr}': ?}}",
            {"S": record.idempotency_key},
            {"N": str(record.expiry_timestamp)},
            {"N": str(record.in_progress_expiry_timestamp)},
            {"S": record.status},
        )

    def _update(self, record: DataRecord) -> Written:
        """Write what has become of *record* together with others, if it is still there."""
        return self._write_together(
            record,
            f'UPDATE "{self.table_name}" SET "{self.data_attr}"=? SET "{self.expiry_attr}"=? '  # noqa: S608 - a setting
            f'SET "{self.status_attr}"=? WHERE "{self.key_attr}"=?',
            {"S": record.response_data},
            {"N": str(record.expiry_timestamp)},
            {"S": record.status},
            {"S": record.idempotency_key},
        )

    def _write_together(
        self, record: DataRecord, statement: str, *parameters: dict[str, str]
    ) -> Written:
        if self._group is None:
            return Written.NO
        return self._group.write(record.idempotency_key, statement, parameters)

    def release(self, key: str, claimed: Claimed) -> None:
        """Forget what was *claimed*, so that *key* can run again.

        A run that outlived its lock (a suspended machine) must not take away the claim
        of its successor, nor the successor's completed record: hence the condition.
        """
        try:
            self.client.delete_item(
                TableName=self.table_name,
                Key=self._get_key(key),
                ConditionExpression="#status = :inprogress AND #lock = :lock",
                ExpressionAttributeNames={
                    "#status": self.status_attr,
                    "#lock": self.in_progress_expiry_attr,
                },
                ExpressionAttributeValues={
                    ":inprogress": {"S": "INPROGRESS"},
                    ":lock": {"N": str(claimed.lock_ends_ms)},
                },
            )
        except aws.ClientError as exc:
            if aws.error_code(exc) != "ConditionalCheckFailedException":
                raise

    def forget(self, key: str) -> bool:
        """Delete the record of *key*, whatever it says; return whether there was one."""
        answer = self.client.delete_item(
            TableName=self.table_name, Key=self._get_key(key), ReturnValues="ALL_OLD"
        )
        return bool(answer.get("Attributes"))

    def look_up(self, key: str) -> Claimed | None:
        """Return what stands in the record of *key*; ``None`` if there is no such record."""
        try:
            return _read(self._get_record(key))
        except IdempotencyItemNotFoundError:
            return None

    def is_completed(self, key: str) -> bool:
        """Whether *key* has run to its end."""
        found = self.look_up(key)
        return found is not None and found.claim is Claim.COMPLETED


def _one_attempt(client: Any) -> Callable[..., dict[str, Any]]:
    """Return BatchExecuteStatement of *client*, without repeats where that can be had."""
    once = getattr(client, "once", None)
    return partial(once, "BatchExecuteStatement") if once else client.batch_execute_statement


def _read(record: DataRecord) -> Claimed | None:
    # DynamoDB's numbers are Decimals.
    lock_ends_ms = int(record.in_progress_expiry_timestamp or 0)
    if record.status == "COMPLETED":
        return Claimed(Claim.COMPLETED)
    if record.status == "INPROGRESS":
        ended = lock_ends_ms <= time.time() * 1000
        return Claimed(Claim.LOST if ended else Claim.IN_PROGRESS, lock_ends_ms)
    return None  # expired, and not yet removed by DynamoDB's TTL


def _is_repeated(exc: Exception) -> bool:
    """Whether botocore repeated the write that failed with *exc*, and so may have met itself."""
    response = getattr(exc.__cause__, "response", {})
    return int(response.get("ResponseMetadata", {}).get("RetryAttempts", 0)) > 0


def _is_same(found: DataRecord, record: DataRecord) -> bool:
    """Whether *found* is the claim *record*."""
    return (
        found.status == "INPROGRESS"
        and found.in_progress_expiry_timestamp == record.in_progress_expiry_timestamp
    )
