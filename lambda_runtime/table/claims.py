"""Each publication runs once: Powertools' DynamoDB records, claimed, completed, released.

All contact with Powertools' idempotency utility is here. Its decorators are made
for a function whose failure is an exception; ours has outcomes, so the record's
three steps are taken one by one, in Powertools' format and with its conditional
write::

    |---- claim ----|------------ task ------------|---- complete ----|
    |   INPROGRESS, locked until the invocation's end                 |  COMPLETED
    |                                              |---- release -----|  its lock is 0

A process that dies leaves its lock behind, which ends when Lambda would have
ended the invocation, and a second later: nothing of it can run after that. (Where
Lambda does not end it, :mod:`lambda_runtime.running.limits.own_end` does.)

A record counts the attempts, by the message that they were made for. SQS counts receives,
and some of them are none: a neighbour has killed the process, or came before in a FIFO group.
"""

from __future__ import annotations

import itertools
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from typing import Any, NamedTuple

from aws_lambda_powertools.utilities.idempotency import DynamoDBPersistenceLayer
from aws_lambda_powertools.utilities.idempotency.exceptions import IdempotencyItemNotFoundError
from aws_lambda_powertools.utilities.idempotency.persistence.datarecord import DataRecord

from lambda_celery import aws
from lambda_celery.conf import Settings
from lambda_celery.table.schema import ANSWER, ATTEMPTS, EXPIRATION, IN_PROGRESS, KEY, MESSAGE_ID
from lambda_runtime.table.group_commit import GroupCommit, Result, Statement, Written

#: A lock outlives its invocation a little: clocks differ, and so do kills.
_LOCK_MARGIN_SECONDS = 1
#: Powertools' state of a record that is done.
_COMPLETED = "COMPLETED"
#: The attribute that says whose lock it is; in Powertools' words, what a call is validated by.
_OWNER = "owner"
#: In that, what comes before the id of the call.
_CALL_SEPARATOR = "#"

_counted = itertools.count()


class Ending(Enum):
    """How a run ended that is not to be repeated; in the record in the place of a result."""

    #: As in Powertools' records of a function that returns nothing.
    DONE = "null"
    #: It ran to its end, but its message is still to be parked.
    UNFINISHED = '"unfinished"'
    #: It failed for good: another call with the same key is to run.
    FAILED = '"failed"'


class Claim(Enum):
    """What an attempt to claim a publication found."""

    WON = "won"
    COMPLETED = "completed"
    UNFINISHED = "unfinished"
    IN_PROGRESS = "in progress"
    LOST = "lost"
    RELEASED = "released"


@dataclass(frozen=True)
class Claimed:
    """The answer to a claim, and when the lock ends: this run's, or that of the one going on."""

    claim: Claim
    lock_ends_ms: int = 0
    #: Drawn at random for this run, and in the record.
    owner: str = ""
    #: Which attempt it is; of a record that was found, how many there have been.
    number: int = 1
    #: Whether the attempt before ended with its process.
    after_lost: bool = False
    #: Of a record that was found: whether it was written for another message.
    is_foreign: bool = False
    #: Of a record that is completed: what a direct call was answered.
    answer: str | None = None

    def seconds_left(self) -> float:
        """Return the seconds until the lock ends."""
        return self.lock_ends_ms / 1000 - time.time()


class AheadClaim(NamedTuple):
    """A claim that was tried together with others, and what has become of it."""

    record: DataRecord
    written: Written
    #: What stood in its way, where DynamoDB has said so.
    item: dict[str, Any] | None = None

    @property
    def won(self) -> Claimed:
        """The answer to it, if it is written."""
        lock_ends_ms = int(self.record.in_progress_expiry_timestamp or 0)
        return Claimed(Claim.WON, lock_ends_ms, self.record.payload_hash)


class IdempotencyTable(DynamoDBPersistenceLayer):
    """The table, through Powertools' persistence layer."""

    def __init__(self, settings: Settings) -> None:
        table = settings.require("idempotency_table", "the DynamoDB table of what has run already")
        super().__init__(
            table_name=table,
            key_attr=KEY,
            expiry_attr=EXPIRATION,
            validation_key_attr=_OWNER,
            boto3_client=aws.client("dynamodb", settings),
        )
        self._group: GroupCommit | None = None
        # PartiQL knows tables by their names alone.
        if settings.most_concurrency > 1 and not table.startswith("arn:"):
            self._group = GroupCommit(self.client)

    def begin_anew(self) -> None:
        """Have no thread and no connection; and owners that no copy of this process has."""
        _of_process.cache_clear()
        if self._group is not None:
            self._group.end()

    @property
    def writes_together(self) -> bool:
        """Whether records can be written several at a time, and behind who hands them in."""
        return self._group is not None and not self._group.is_refused

    def claim_ahead(
        self,
        key: str,
        *,
        life_seconds: int,
        run_ends: float,
        message_id: str,
        call_id: str | None,
        then: Callable[[AheadClaim], None],
    ) -> None:
        """Begin to claim *key*; see :meth:`claim`, which is to be given what *then* is given.

        *then* is called on another thread, and must not wait for anything.
        """
        record = _new_record(key, life_seconds, run_ends, call_id)
        assert self._group is not None
        self._group.submit(
            self._insertion(record, message_id), lambda result: then(AheadClaim(record, *result))
        )

    def claim(
        self,
        key: str,
        *,
        life_seconds: int,
        run_ends: float,
        lineage: tuple[str, ...] = ("",),
        receive_count: int = 1,
        spare_lost: bool = False,
        call_id: str | None = None,
        ahead: AheadClaim | None = None,
    ) -> Claimed:
        """Claim *key* for a run that ends at *run_ends* (epoch seconds) at the latest.

        :param life_seconds: how long the record is kept.
        :param lineage: the message's id, and those that it had before: whose attempts count.
        :param receive_count: how often it was received, which counts where the record is of another
            message: two that take turns would have an attempt left for ever.
        :param spare_lost: answer ``LOST`` where an earlier run died, instead of taking over.
        :param call_id: which call it is, where several share the key. What another call has
            left without success is taken over.
        :param ahead: what has been tried of it by :meth:`claim_ahead`, with the same values.
        :raises botocore.exceptions.ClientError: and its kin, if DynamoDB cannot be asked.
        """
        is_fresh = ahead is None
        if ahead is None:
            record = _new_record(key, life_seconds, run_ends, call_id)
            result = self._write_together(self._insertion(record, lineage[0]))
            ahead = AheadClaim(record, *result)
        (record, written, item), won = ahead, ahead.won
        if written is Written.YES:
            return won
        told = self._item_to_data_record(item) if item else None
        if told is not None and not is_fresh and not _is_done(told):
            told = None  # it may have changed since
        left: DataRecord | None = None
        for _ in range(4):
            repeated = written is Written.PERHAPS
            stored, told = told, None
            if stored is None:
                try:
                    self._put(record, lineage[0], won.number, left)
                    return won
                except aws.ClientError as exc:
                    if aws.error_code(exc) != "ConditionalCheckFailedException":
                        raise
                    repeated = repeated or _is_repeated(exc)
                    try:
                        stored = self._stored(key, exc)
                    except IdempotencyItemNotFoundError:
                        left, won = None, replace(won, number=1, after_lost=False)
                        continue  # deleted between the write and this line
            if repeated and stored.payload_hash == record.payload_hash:
                return won
            found = _read(stored)
            if found is None:  # it has expired since
                continue
            is_foreign = getattr(stored, MESSAGE_ID, None) not in lineage
            found = replace(found, is_foreign=is_foreign)
            is_lost = found.claim is Claim.LOST
            is_free = is_lost or found.claim is Claim.RELEASED
            if _is_of_another_call(stored, call_id):
                if not is_free and stored.response_data != Ending.FAILED.value:
                    return found
                number, is_lost = receive_count, False
            elif is_free and not (is_lost and spare_lost):
                number = receive_count if is_foreign else found.number + 1
            else:
                return found
            left, won = stored, replace(won, number=number, after_lost=is_lost)
        return Claimed(Claim.IN_PROGRESS, int(time.time() * 1000) + 1000)

    def _put(
        self, record: DataRecord, message_id: str, number: int, left: DataRecord | None
    ) -> None:
        """Write *record* where there is none, or an expired one; else raise DynamoDB's refusal.

        Or where a run has *left* one, which is still as it was found: nobody can come between
        the look and the write.
        """
        now = time.time()
        condition = "attribute_not_exists(#id) OR #expiry < :now"
        names = {"#id": self.key_attr, "#expiry": self.expiry_attr}
        values = {":now": {"N": str(int(now))}}
        if left is not None:
            names |= {"#status": self.status_attr, "#owner": _OWNER}
            values[":inprogress"] = {"S": IN_PROGRESS}
            if left.status == IN_PROGRESS:
                # A run that was taken for lost may have completed since: that is not overwritten.
                condition += " OR (#status = :inprogress AND #lock < :now_ms AND "
                names["#lock"] = self.in_progress_expiry_attr
                values[":now_ms"] = {"N": str(int(now * 1000))}
            else:
                condition += " OR (#status <> :inprogress AND "
            if left.payload_hash:
                condition += "#owner = :left_by)"
                values[":left_by"] = {"S": left.payload_hash}
            else:  # by an earlier version, or by Powertools itself
                condition += "attribute_not_exists(#owner))"
        self.client.put_item(
            TableName=self.table_name,
            Item={
                **self._get_key(record.idempotency_key),
                self.expiry_attr: {"N": str(record.expiry_timestamp)},
                self.in_progress_expiry_attr: {"N": str(record.in_progress_expiry_timestamp)},
                self.status_attr: {"S": record.status},
                _OWNER: {"S": record.payload_hash},
                ATTEMPTS: {"N": str(number)},
                MESSAGE_ID: {"S": message_id},
            },
            ConditionExpression=condition,
            ExpressionAttributeNames=names,
            ExpressionAttributeValues=values,
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )

    def _item_to_data_record(self, item: dict[str, Any]) -> DataRecord:
        record = super()._item_to_data_record(item)
        vars(record)[ATTEMPTS] = int(item.get(ATTEMPTS, {}).get("N", 1))
        vars(record)[MESSAGE_ID] = item.get(MESSAGE_ID, {}).get("S")
        vars(record)[ANSWER] = item.get(ANSWER, {}).get("S")
        return record

    def _stored(self, key: str, refusal: aws.ClientError) -> DataRecord:
        """Return the record that stood in the way of a write; it comes with the *refusal*."""
        item = refusal.response.get("Item")
        return self._item_to_data_record(item) if item else self._get_record(key)

    def complete(
        self,
        key: str,
        *,
        life_seconds: int,
        ending: Ending = Ending.DONE,
        answer: str | None = None,
    ) -> None:
        """Remember for *life_seconds* that *key* has run, with that *ending*.

        What is done stays done: that it is unfinished may be said late, by another thread.

        :param answer: what a caller who asks once more is told.
        """
        record = _completed_record(key, life_seconds, ending)
        if answer is not None:
            self._update_with_answer(record, answer)
        elif ending is Ending.UNFINISHED:
            self._update_unless_completed(record)
        elif self._write_together(self._completion(record)).written is not Written.YES:
            self._update_record(record)

    def complete_behind(
        self, key: str, *, life_seconds: int, ending: Ending, then: Callable[[bool], None]
    ) -> None:
        """Begin to remember that *key* has run; see :meth:`complete`.

        *then* is told whether it is written, on another thread, and must not wait for anything.
        """
        record = _completed_record(key, life_seconds, ending)
        assert self._group is not None
        self._group.submit(
            self._completion(record), lambda result: then(result.written is Written.YES)
        )

    def _update_with_answer(self, record: DataRecord, answer: str) -> None:
        self.client.update_item(
            TableName=self.table_name,
            Key=self._get_key(record.idempotency_key),
            UpdateExpression=(
                "SET #data = :data, #expiry = :expiry, #status = :completed, #answer = :answer"
            ),
            ExpressionAttributeNames={
                "#data": self.data_attr,
                "#expiry": self.expiry_attr,
                "#status": self.status_attr,
                "#answer": ANSWER,
            },
            ExpressionAttributeValues={
                ":data": {"S": record.response_data},
                ":expiry": {"N": str(record.expiry_timestamp)},
                ":completed": {"S": record.status},
                ":answer": {"S": answer},
            },
        )

    def _update_unless_completed(self, record: DataRecord) -> None:
        # It has been claimed; where it is gone, its message was parked meanwhile, and may be run.
        try:
            self.client.update_item(
                TableName=self.table_name,
                Key=self._get_key(record.idempotency_key),
                UpdateExpression="SET #data = :data, #expiry = :expiry, #status = :completed",
                ConditionExpression="attribute_exists(#status) AND #status <> :completed",
                ExpressionAttributeNames={
                    "#data": self.data_attr,
                    "#expiry": self.expiry_attr,
                    "#status": self.status_attr,
                },
                ExpressionAttributeValues={
                    ":data": {"S": record.response_data},
                    ":expiry": {"N": str(record.expiry_timestamp)},
                    ":completed": {"S": record.status},
                },
            )
        except aws.ClientError as exc:
            if aws.error_code(exc) != "ConditionalCheckFailedException":
                raise

    def _insertion(self, record: DataRecord, message_id: str) -> Statement:
        """Return what writes *record* together with others, if it has no predecessor at all.

        Whose predecessor is told with the refusal is spared a request. Where it is not told (see
        :class:`~lambda_runtime.table.group_commit.Result`), the conditional write asks for it.
        """
        return Statement(
            record.idempotency_key,
            f"INSERT INTO \"{self.table_name}\" VALUE {{'{self.key_attr}': ?, "
            f"'{self.expiry_attr}': ?, '{self.in_progress_expiry_attr}': ?, "
            f"'{self.status_attr}': ?, '{_OWNER}': ?, '{ATTEMPTS}': ?, '{MESSAGE_ID}': ?}}",
            (
                {"S": record.idempotency_key},
                {"N": str(record.expiry_timestamp)},
                {"N": str(record.in_progress_expiry_timestamp)},
                {"S": IN_PROGRESS},  # the record would look at the clock first
                {"S": record.payload_hash},
                {"N": "1"},
                {"S": message_id},
            ),
            wants_item=True,
        )

    def _completion(self, record: DataRecord) -> Statement:
        """Return what writes what has become of *record* together with others, if it is there."""
        return Statement(
            record.idempotency_key,
            f'UPDATE "{self.table_name}" SET "{self.data_attr}"=? SET "{self.expiry_attr}"=? '  # noqa: S608 - a setting
            f'SET "{self.status_attr}"=? WHERE "{self.key_attr}"=?',
            (
                {"S": record.response_data},
                {"N": str(record.expiry_timestamp)},
                {"S": _COMPLETED},
                {"S": record.idempotency_key},
            ),
            is_urgent=True,
        )

    def _write_together(self, statement: Statement) -> Result:
        return Result(Written.NO) if self._group is None else self._group.write(statement)

    def release(self, key: str, claimed: Claimed, *, has_run: bool = True) -> None:
        """Give up what was *claimed*, so that *key* can run again: now its lock is 0.

        The attempts stay counted, this one too if it *has_run*.
        """
        self._give_up(
            self.client.update_item,
            key,
            claimed,
            UpdateExpression="SET #lock = :free, #attempts = :attempts",
            names={"#lock": self.in_progress_expiry_attr, "#attempts": ATTEMPTS},
            values={
                ":free": {"N": "0"},
                ":attempts": {"N": str(claimed.number - (not has_run))},
            },
        )

    def drop(self, key: str, claimed: Claimed) -> None:
        """Forget what was *claimed*: *key* can run again, from its first attempt on."""
        self._give_up(self.client.delete_item, key, claimed, names={}, values={})

    def _give_up(
        self,
        write: Callable[..., Any],
        key: str,
        claimed: Claimed,
        *,
        names: dict[str, str],
        values: dict[str, dict[str, str]],
        **expression: str,
    ) -> None:
        """Write, if the record is still that of *claimed*.

        A run that outlived its lock (a suspended machine) must not take away the claim
        of its successor, nor the successor's completed record: hence the condition.
        """
        try:
            write(
                TableName=self.table_name,
                Key=self._get_key(key),
                ConditionExpression="#status = :inprogress AND #owner = :owner",
                ExpressionAttributeNames={"#status": self.status_attr, "#owner": _OWNER, **names},
                ExpressionAttributeValues={
                    ":inprogress": {"S": IN_PROGRESS},
                    ":owner": {"S": claimed.owner},
                    **values,
                },
                **expression,
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

    def look_up(self, key: str, lineage: tuple[str, ...] = ()) -> Claimed | None:
        """Return what stands in the record of *key*; ``None`` if there is no such record.

        It is foreign if it was written for no message of the *lineage*.
        """
        try:
            record = self._get_record(key)
        except IdempotencyItemNotFoundError:
            return None
        found = _read(record)
        if found is None:
            return None
        return replace(found, is_foreign=getattr(record, MESSAGE_ID, None) not in lineage)

    def is_completed(self, key: str) -> bool:
        """Whether *key* has run to its end."""
        found = self.look_up(key)
        return found is not None and found.claim is Claim.COMPLETED


def lock_end(run_ends: float) -> float:
    """Return when the lock ends of a run that ends at *run_ends* (epoch seconds) at the latest."""
    return run_ends + _LOCK_MARGIN_SECONDS


def _new_record(key: str, life_seconds: int, run_ends: float, call_id: str | None) -> DataRecord:
    lock_ends_ms = int(lock_end(run_ends) * 1000)
    return DataRecord(
        idempotency_key=key,
        status=IN_PROGRESS,
        # Not before the lock ends: a life may be shorter than a run.
        expiry_timestamp=max(int(time.time()) + life_seconds, lock_ends_ms // 1000 + 1),
        in_progress_expiry_timestamp=lock_ends_ms,
        payload_hash=_new_owner() + (f"{_CALL_SEPARATOR}{call_id}" if call_id else ""),
    )


def _new_owner() -> str:
    """Return what no other run has: asking the system for it each time costs more than it looks.

    The interpreter is given up for it, and others take it.
    """
    return f"{_of_process(os.getpid())}-{next(_counted):x}"


@cache
def _of_process(_id: int) -> str:
    return uuid.uuid4().hex  # another one in a forked child


def _completed_record(key: str, life_seconds: int, ending: Ending) -> DataRecord:
    return DataRecord(
        idempotency_key=key,
        status=_COMPLETED,
        expiry_timestamp=int(time.time()) + life_seconds,
        response_data=ending.value,
    )


def _read(record: DataRecord) -> Claimed | None:
    # DynamoDB's numbers are Decimals.
    lock_ends_ms = int(record.in_progress_expiry_timestamp or 0)
    if record.status == _COMPLETED:
        unfinished = record.response_data == Ending.UNFINISHED.value
        claim = Claim.UNFINISHED if unfinished else Claim.COMPLETED
        return Claimed(claim, answer=getattr(record, ANSWER, None))
    if record.status == IN_PROGRESS:
        claim = Claim.IN_PROGRESS
        if lock_ends_ms <= time.time() * 1000:
            claim = Claim.LOST if lock_ends_ms else Claim.RELEASED
        return Claimed(claim, lock_ends_ms, number=getattr(record, ATTEMPTS, 1))
    return None  # expired, and not yet removed by DynamoDB's TTL


def _is_done(record: DataRecord) -> bool:
    """Whether *record* says that its publication has run to its end, which stays true."""
    return record.status == _COMPLETED and record.response_data == Ending.DONE.value


def _is_of_another_call(record: DataRecord, call_id: str | None) -> bool:
    """Whether *record*, of a task's own key, was written by another call than *call_id*."""
    _, separator, written_by = (record.payload_hash or "").partition(_CALL_SEPARATOR)
    return call_id is not None and bool(separator) and written_by != call_id


def _is_repeated(exc: aws.ClientError) -> bool:
    """Whether botocore repeated the write that failed with *exc*, and so may have met itself."""
    return int(exc.response.get("ResponseMetadata", {}).get("RetryAttempts", 0)) > 0
