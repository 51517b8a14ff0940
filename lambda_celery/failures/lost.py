"""Runs that were lost: their process was killed, and their claim has neither end nor lock.

No index has them: a claim is written before each run, and one more attribute of an index would
cost each success another write. So the table is scanned, a bounded part of it at a time.
"""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from celery import Celery

from lambda_celery import aws
from lambda_celery.conf import settings_of
from lambda_celery.exceptions import FailedTaskError
from lambda_celery.failures.record import moment
from lambda_celery.failures.store import refusal
from lambda_celery.table.schema import (
    ATTEMPTS,
    EXPIRATION,
    IN_PROGRESS,
    KEY,
    LOCK_ENDS,
    MESSAGE_ID,
    STATUS,
)

#: Of 1 MB each: 128 read units, whatever the filter leaves of it.
MAXIMUM_PAGES = 100


@dataclass(frozen=True)
class LostRun:
    """A run that was lost, of which no other has taken over.

    :ivar id: the key of its claim.
    :ivar task: its name.
    :ivar message_id: SQS's, of the message that was run.
    :ivar attempts: how many there have been, this one included.
    :ivar lock_ended_at: when its invocation was over at the latest. When it began, nothing tells.
    """

    id: str
    task: str
    message_id: str
    attempts: int
    lock_ended_at: datetime


@dataclass(frozen=True)
class Scanned:
    """What was found in a part of the table.

    :ivar runs: those that were lost.
    :ivar next_token: where the next part begins; ``None`` if this was the last.
    :ivar read_units: what reading it has cost, in DynamoDB's read capacity units.
    """

    runs: list[LostRun]
    next_token: str | None
    read_units: float


def scan_lost(
    app: Celery,
    *,
    task: str | None = None,
    older_than: timedelta | None = None,
    newer_than: timedelta | None = None,
    limit: int | None = None,
    starting_token: str | None = None,
) -> Scanned:
    """Look through a part of the table for runs that were lost.

    :param task: a glob for the task's name.
    :param older_than: the lock has ended at least so long ago.
    :param newer_than: the lock has ended at most so long ago.
    :param limit: end after so many.
    :param starting_token: ``next_token`` of the part before.
    :raises ConfigurationError: there is no table, or DynamoDB refuses.
    :raises FailedTaskError: *starting_token* is none.
    """
    settings = settings_of(app)
    table = settings.require("idempotency_table", "the DynamoDB table of what has run")
    now = time.time()
    earliest = max(1, round((now - newer_than.total_seconds()) * 1000)) if newer_than else 1
    latest = round((now - (older_than.total_seconds() if older_than else 0)) * 1000)
    parameters: dict[str, Any] = {
        "TableName": table,
        # Of Powertools' own records, which may share the table, none has a message.
        "FilterExpression": "#status = :in_progress AND #lock >= :earliest AND #lock <= :latest "
        "AND #expiry >= :now AND attribute_exists(#message)",
        "ProjectionExpression": "#id, #lock, #attempts, #message",
        "ExpressionAttributeNames": {
            "#id": KEY, "#status": STATUS, "#lock": LOCK_ENDS, "#expiry": EXPIRATION,
            "#attempts": ATTEMPTS, "#message": MESSAGE_ID,
        },
        "ExpressionAttributeValues": {
            ":in_progress": {"S": IN_PROGRESS},
            ":earliest": {"N": str(earliest)},
            ":latest": {"N": str(latest)},
            ":now": {"N": str(int(now))},
        },
        "ReturnConsumedCapacity": "TOTAL",
    }  # fmt: skip
    runs: list[LostRun] = []
    read_units = 0.0
    last_key = None if starting_token is None else _key(starting_token)
    for _ in range(MAXIMUM_PAGES):
        if last_key is not None:
            parameters["ExclusiveStartKey"] = {KEY: {"S": last_key}}
        try:
            answer = aws.client("dynamodb", settings).scan(**parameters)
        except aws.AWS_ERRORS as exc:
            raise refusal(exc, "Scan", f"the table {table}") from aws.cause(exc, settings)
        read_units += answer.get("ConsumedCapacity", {}).get("CapacityUnits", 0)
        for item in answer["Items"]:
            run = _run(item)
            if task is not None and not fnmatchcase(run.task, task):
                continue
            runs.append(run)
            if len(runs) == limit:
                return Scanned(runs, _token(run.id), read_units)
        last_key = answer.get("LastEvaluatedKey", {}).get(KEY, {}).get("S")
        if last_key is None:
            return Scanned(runs, None, read_units)
    return Scanned(runs, _token(last_key), read_units)


def _token(key: str | None) -> str | None:
    """Return *key*, which may be any text, as a terminal shows it and a shell takes it."""
    return None if key is None else base64.urlsafe_b64encode(key.encode()).decode()


def _key(token: str) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except ValueError as exc:
        raise FailedTaskError(
            f"{token!r} is no token: give the one that the command has ended with."
        ) from exc


def _run(item: dict[str, Any]) -> LostRun:
    key = item[KEY]["S"]
    return LostRun(
        id=key,
        task=key.rpartition("#")[0],
        message_id=item[MESSAGE_ID]["S"],
        attempts=int(item.get(ATTEMPTS, {}).get("N", 1)),
        lock_ended_at=moment(int(item[LOCK_ENDS]["N"])),
    )
