"""What is known of a task that has failed for good, and how it is written down."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from lambda_celery.envelope import redacted
from lambda_celery.table.schema import (
    EXPIRATION,
    FAILED_AT,
    FAILURES_PARTITION,
    KEY,
)

#: Message attributes of a parked message. SQS's own redrive leaves them, and so does a retry: by
#: the first one the runtime knows that the message has a record.
REASON_ATTRIBUTE = "LambdaCeleryReason"
EXCEPTION_ATTRIBUTE = "LambdaCeleryException"
RECEIVE_COUNT_ATTRIBUTE = "LambdaCeleryReceiveCount"

#: Partitions of the index: one takes 1,000 writes a second.
PARTITIONS = 8
#: An item of DynamoDB has 400 KB at most. What is larger is in the dead-letter queue alone.
MAXIMUM_KEPT_BYTES = 300_000
_TEXT_BYTES = 1024
#: Anybody can write a number that DynamoDB has no room for.
_MAXIMUM_RETRIES = 2**31
_ARGUMENTS_BYTES = 2048
_TRACEBACK_BYTES = 16_384


@dataclass(frozen=True)
class Failure:
    """A task that has failed for good, whose message is in the dead-letter queue.

    From an index, what follows ``retried_at`` is empty: see :meth:`~.store.Failures.get`.

    :ivar id: the key of its record.
    :ivar task: its name; empty where the message does not tell it, as for ``task_id``.
    :ivar queue: the ARN of the queue that it came from.
    :ivar dead_letter_queue: the URL of the queue that it was moved to.
    :ivar reason: why it was parked, as in the message attribute ``LambdaCeleryReason``.
    :ivar exception: the type of what it has raised; empty where nothing was.
    :ivar attempts: how often it was run, or received where it could not be.
    :ivar size: of the message, in bytes.
    :ivar retried_at: when somebody has sent it back.
    :ivar message: the text of the exception.
    :ivar args: as the message's headers show them (``argsrepr``), as for ``kwargs``.
    :ivar version: of the function.
    :ivar body: as it was sent; ``None`` if it is too large to be kept.
    :ivar attributes: the message attributes that it was sent with, in SendMessage's form.
    """

    id: str
    task: str
    task_id: str
    queue: str
    dead_letter_queue: str
    reason: str
    exception: str
    failed_at: datetime
    attempts: int
    size: int
    retried_at: datetime | None = None
    message: str = ""
    traceback: str = ""
    args: str = ""
    kwargs: str = ""
    version: str = ""
    trace_id: str = ""
    root_id: str = ""
    parent_id: str = ""
    retries: int = 0
    message_group_id: str = ""
    body: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


def texts_of(headers: Mapping[str, Any], *, redact: bool) -> dict[str, Any]:
    """Return what a record tells of a message's *headers*, which may hold anything.

    :param redact: whether the arguments are to be left out.
    """

    def text(name: str) -> str:
        value = shown.get(name)
        return value if isinstance(value, str) else ""

    shown = redacted(headers) if redact else headers
    retries = shown.get("retries")
    is_number = type(retries) is int and 0 <= retries <= _MAXIMUM_RETRIES
    return {
        "task": text("task"),
        "task_id": text("id"),
        "args": text("argsrepr"),
        "kwargs": text("kwargsrepr"),
        "trace_id": text("traceparent"),
        "root_id": text("root_id"),
        "parent_id": text("parent_id"),
        "retries": retries if is_number else 0,
    }


def partition_of(task_id: str) -> str:
    """Return the partition of the index in which the failures of *task_id* are."""
    return str(zlib.crc32(task_id.encode(errors="replace")) % PARTITIONS)


def partitions() -> list[str]:
    """Return all partitions of the index."""
    return [str(number) for number in range(PARTITIONS)]


def to_item(failure: Failure, expires: int) -> dict[str, Any]:
    """Return the item of *failure*, which DynamoDB may delete at *expires*, in epoch seconds."""
    texts = {
        "task": _cut(failure.task, _TEXT_BYTES),
        "task_id": _cut(failure.task_id, _TEXT_BYTES),
        "queue": failure.queue,
        "dead_letter_queue": failure.dead_letter_queue,
        "reason": _cut(failure.reason, _TEXT_BYTES),
        "exception": _cut(failure.exception, _TEXT_BYTES),
        "message": _cut(failure.message, _TEXT_BYTES),
        "traceback": _end_of(failure.traceback, _TRACEBACK_BYTES),
        "args": _cut(failure.args, _ARGUMENTS_BYTES),
        "kwargs": _cut(failure.kwargs, _ARGUMENTS_BYTES),
        "version": failure.version,
        "trace_id": _cut(failure.trace_id, _TEXT_BYTES),
        "root_id": _cut(failure.root_id, _TEXT_BYTES),
        "parent_id": _cut(failure.parent_id, _TEXT_BYTES),
        "message_group_id": failure.message_group_id,
    }
    numbers = {
        "attempts": failure.attempts,
        "size": failure.size,
        "retries": failure.retries,
        FAILED_AT: milliseconds(failure.failed_at),
        EXPIRATION: expires,
    }
    item = {
        KEY: {"S": failure.id},
        FAILURES_PARTITION: {"S": partition_of(failure.task_id)},
        **{name: {"S": text} for name, text in texts.items() if text},
        **{name: {"N": str(number)} for name, number in numbers.items()},
    }
    if failure.body is not None:
        kept = {"body": failure.body}
        if failure.attributes:
            kept["attributes"] = _attributes_text(failure.attributes)
        if sum(len(text.encode(errors="replace")) for text in kept.values()) <= MAXIMUM_KEPT_BYTES:
            item |= {name: {"S": text} for name, text in kept.items()}
    return item


def from_item(item: Mapping[str, Mapping[str, Any]]) -> Failure:
    """Return the failure in *item*, or in what the index has of it."""

    def text(name: str) -> str:
        return str(item.get(name, {}).get("S", ""))

    def number(name: str) -> int:
        return int(item.get(name, {}).get("N", 0))

    retried = number("retried_at")
    return Failure(
        id=text(KEY),
        task=text("task"),
        task_id=text("task_id"),
        queue=text("queue"),
        dead_letter_queue=text("dead_letter_queue"),
        reason=text("reason"),
        exception=text("exception"),
        failed_at=moment(number(FAILED_AT)),
        attempts=number("attempts"),
        size=number("size"),
        retried_at=moment(retried) if retried else None,
        message=text("message"),
        traceback=text("traceback"),
        args=text("args"),
        kwargs=text("kwargs"),
        version=text("version"),
        trace_id=text("trace_id"),
        root_id=text("root_id"),
        parent_id=text("parent_id"),
        retries=number("retries"),
        message_group_id=text("message_group_id"),
        body=text("body") if "body" in item else None,
        attributes=_attributes(text("attributes")),
    )


def milliseconds(when: datetime) -> int:
    """Return *when* in milliseconds since the epoch, as the table has all moments of failures."""
    return round(when.timestamp() * 1000)


def moment(since_epoch: int) -> datetime:
    """Return the moment that is *since_epoch* milliseconds after the epoch.

    Raises what :meth:`datetime.fromtimestamp` does.
    """
    return datetime.fromtimestamp(since_epoch / 1000, UTC)


def _attributes_text(attributes: Mapping[str, Any]) -> str:
    """Return *attributes* as JSON, which has no bytes."""
    return json.dumps(
        {
            name: {**value, "BinaryValue": base64.b64encode(value["BinaryValue"]).decode()}
            if "BinaryValue" in value
            else dict(value)
            for name, value in attributes.items()
        }
    )


def _attributes(text: str) -> dict[str, Any]:
    attributes: dict[str, Any] = json.loads(text) if text else {}
    for value in attributes.values():
        if "BinaryValue" in value:
            value["BinaryValue"] = base64.b64decode(value["BinaryValue"])
    return attributes


def _cut(text: str, most_bytes: int) -> str:
    return text.encode(errors="replace")[:most_bytes].decode(errors="ignore")


def _end_of(text: str, most_bytes: int) -> str:
    return text.encode(errors="replace")[-most_bytes:].decode(errors="ignore")
