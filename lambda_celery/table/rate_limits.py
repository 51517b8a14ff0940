"""``rate_limit`` across all environments: a token bucket in DynamoDB.

As in a worker, the bucket holds one token: ``10/m`` is a task every six seconds. Its
item holds two times, in microseconds since the epoch:

- ``next``: when the next token is there. Taking one moves it on by an interval, so a
  task may take a token that is there in a moment, and wait for it in the invocation.
- ``line``: when to come back for those to whom even that was too late. It moves on by
  an interval, too, so that a burst comes back one by one and not all at once. It is
  advice: whoever comes back takes a token like everybody else, so a message that is
  late, or lost, leaves no token unused.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from lambda_celery import aws
from lambda_celery.conf import Settings
from lambda_celery.message import MAXIMUM_DELAY_SECONDS
from lambda_celery.table.schema import EXPIRATION, KEY, rate_key

#: How long a task waits for its token inside the invocation. SQS delays by whole seconds and
#: polls, so two that should come one after the other can come together.
PATIENCE_SECONDS = 2.0
#: How far ahead the line goes: what SQS can delay.
_LINE_SECONDS = MAXIMUM_DELAY_SECONDS
_MICROSECONDS = 1_000_000
_KEPT_SECONDS = 86_400
#: Each failed try means that somebody else has taken a token.
_TRIES = 5


@dataclass(frozen=True)
class Turn:
    """The answer to a task that wants to run: when, and whether to wait for it here."""

    seconds: float
    granted: bool


class _TooLateError(Exception):
    def __init__(self, at: int) -> None:
        self.at = at


class RateLimiter:
    """The buckets of an app's tasks, and of what its mails are sent by."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._table = settings.require("idempotency_table", "the table of the rate limits")
        self._clock = clock
        self._seen: dict[tuple[str, str], int] = {}

    def turn(
        self, bucket: str, per_second: float, patience_seconds: float, tokens: int = 1
    ) -> Turn:
        """Take *tokens* of *bucket*, a task's name, if the first is there in *patience_seconds*.

        Several are taken at once, and whoever is next waits until all of them would be there.
        Raises botocore's errors if DynamoDB cannot be asked.
        """
        now = int(self._clock() * _MICROSECONDS)
        interval = max(1, round(tokens * _MICROSECONDS / per_second))
        key = rate_key(bucket)
        try:
            at = self._advance(key, "next", interval, now, patience_seconds)
            return Turn(max(0, at - now) / _MICROSECONDS, granted=True)
        except _TooLateError as late:
            after = max(late.at, now)
        try:
            at = self._advance(key, "line", interval, after, _LINE_SECONDS)
            return Turn((at - now) / _MICROSECONDS, granted=False)
        except _TooLateError:
            # Too far for SQS: not all at once, and no place in the line is held by those who
            # would have to ask again anyhow.
            return Turn(random.uniform(_LINE_SECONDS / 2, _LINE_SECONDS), granted=False)

    def _advance(self, key: str, name: str, interval: int, floor: int, reach_seconds: float) -> int:
        """Move the time *name* on by *interval*, and return where it was, or *floor* if later.

        :raises _TooLateError: that is more than *reach_seconds* ahead of *floor*.
        """
        ceiling = floor + int(reach_seconds * _MICROSECONDS)
        seen = self._seen.get((key, name), 0)  # it only grows, so this is the least it can be
        for _ in range(_TRIES):
            if seen > ceiling:
                break
            try:
                moved = self._move(key, name, interval, floor, ceiling, is_ahead=seen > floor)
            except aws.ClientError as exc:
                if aws.error_code(exc) != "ConditionalCheckFailedException":
                    raise
                item = exc.response.get("Item", {})
                seen = self._seen[key, name] = int(item.get(name, {}).get("N", 0))
            else:
                self._seen[key, name] = moved
                return moved - interval
        raise _TooLateError(max(seen, ceiling))

    def _move(
        self, key: str, name: str, interval: int, floor: int, ceiling: int, *, is_ahead: bool
    ) -> int:
        values = {":floor": floor, ":expiration": floor // _MICROSECONDS + _KEPT_SECONDS}
        if is_ahead:
            moved, condition = "#name + :interval", "#name > :floor AND #name <= :ceiling"
            values |= {":interval": interval, ":ceiling": ceiling}
        else:
            moved, condition = ":moved", "attribute_not_exists(#name) OR #name <= :floor"
            values |= {":moved": floor + interval}
        answer = aws.client("dynamodb", self._settings).update_item(
            TableName=self._table,
            Key={KEY: {"S": key}},
            UpdateExpression=f"SET #name = {moved}, #expiration = :expiration",
            ConditionExpression=condition,
            ExpressionAttributeNames={"#name": name, "#expiration": EXPIRATION},
            ExpressionAttributeValues={name: {"N": str(each)} for name, each in values.items()},
            ReturnValues="UPDATED_NEW",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
        return int(answer["Attributes"][name]["N"])
