"""The wire format of direct calls: what Lambda's Invoke carries to the function, and back.

An event has a task message as SQS would have it, kombu's envelope and all, in the form of a record
of Lambda's event::

    {"lambda_celery_call": 1, "invocation_type": "RequestResponse",
     "message": {"messageId": …, "body": …, "attributes": {…}, "messageAttributes": {…}}}

By hand, or for EventBridge Scheduler, it is Celery's own, in the older protocol::

    {"task": "proj.tasks.add", "args": [2, 3], "kwargs": {}}

An answer has one of Celery's states, and what belongs to it::

    {"lambda_celery_answer": 1, "state": "SUCCESS", "result": {…}}
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from celery import states
from kombu.serialization import dumps, loads, prepare_accept_content

from lambda_celery.exceptions import UnreadableMessageError
from lambda_celery.message import OutgoingMessage

#: The field of an event that is a direct call, with the version of its format; and of an answer.
CALL_FIELD = "lambda_celery_call"
ANSWER_FIELD = "lambda_celery_answer"
VERSION = 1
#: Lambda takes and gives no more in a synchronous invocation: 6 MB, and 100 bytes of its own.
#: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MAXIMUM_SYNCHRONOUS_BYTES = 6 * 1024 * 1024
#: And takes no more for an asynchronous one.
MAXIMUM_EVENT_BYTES = 1024 * 1024
#: What is bigger than this goes through S3, if it has to be kept in an item of DynamoDB (400 KB).
KEPT_BYTES = 262_144
#: What is told of a call whose answer is gone.
NOT_KEPT = (
    "It has run before, and its result is not kept: read it from the result back end, or call it "
    "under another id."
)
#: Celery's states, and one for a call that was not run, or is being run: to be asked again.
WAIT = states.PENDING


class InvocationType(Enum):
    """How Lambda is called, in its own words."""

    #: Somebody waits for the answer.
    REQUEST_RESPONSE = "RequestResponse"
    #: Nobody does.
    EVENT = "Event"

    @classmethod
    def _missing_(cls, value: object) -> None:
        known = " or ".join(each.value for each in cls)
        raise ValueError(f"invocation_type is {str(value)[:200]!r}: give {known}.")


def call_event(
    record: Mapping[str, Any], invocation_type: InvocationType, queue_url: str
) -> dict[str, Any]:
    """Return the event that calls what *record* has: see :func:`record_of`.

    :param queue_url: where it goes if it fails, and nobody waits for it.
    """
    return {
        CALL_FIELD: VERSION,
        "invocation_type": invocation_type.value,
        "queue_url": queue_url,
        "message": record,
    }


def record_of(call_id: str, message: OutgoingMessage) -> dict[str, Any]:
    """Return *message* as Lambda's event has it when SQS hands it over for the first time."""
    attributes = {
        "ApproximateReceiveCount": "1",
        "SentTimestamp": str(int(time.time() * 1000)),
        "MessageGroupId": message.message_group_id,
        "AWSTraceHeader": message.trace_header,
    }
    return {
        "messageId": call_id,
        "body": message.body,
        "attributes": {name: each for name, each in attributes.items() if each is not None},
        "messageAttributes": {name: _attribute(each) for name, each in message.attributes.items()},
    }


def _attribute(value: Mapping[str, Any]) -> dict[str, Any]:
    if "BinaryValue" in value:
        binary = base64.b64encode(value["BinaryValue"]).decode()
        return {"dataType": value["DataType"], "binaryValue": binary}
    return {"dataType": value["DataType"], "stringValue": value["StringValue"]}


@dataclass(frozen=True)
class Answer:
    """What the function says of a call."""

    #: One of Celery's.
    state: str
    #: What the task returned, or the exception that it raised, encoded: see :func:`encoded`.
    result: Mapping[str, str] | None = None
    traceback: str | None = None
    #: Why it was not run, or what a state without a result means.
    reason: str = ""
    #: When to ask again: of what was not run, or of a retry.
    seconds: float = 0.0
    #: The retry that the task has asked for, as a record: it is to be called next.
    message: Mapping[str, Any] | None = None
    #: Where the whole of it is, in the payload bucket, if it was too big.
    pointer: str = ""
    #: Whether others may ask for it as well: then it stays there, for the bucket's lifecycle rule.
    is_shared: bool = False

    def to_fields(self) -> dict[str, Any]:
        """Return it as what is written as JSON."""
        fields = {name: value for name, value in vars(self).items() if value not in (None, "", 0)}
        return {ANSWER_FIELD: VERSION, **fields}

    def to_text(self) -> str:
        """Return it as JSON."""
        return json.dumps(self.to_fields())


def read_answer(value: Any) -> Answer:
    """Return the answer that is written in *value*, which was JSON.

    :raises UnreadableMessageError: it is none that is known here.
    """
    if not isinstance(value, Mapping) or value.get(ANSWER_FIELD) != VERSION:
        raise UnreadableMessageError(
            "The function's answer is not one to a direct call: deploy the version of "
            f"lambda-celery that the caller has. It begins {repr(value)[:200]}."
        )
    state, result, message = value.get("state"), value.get("result"), value.get("message")
    seconds = value.get("seconds", 0)
    is_sound = (
        isinstance(state, str)
        and isinstance(result, Mapping | None)
        and isinstance(message, Mapping | None)
        and isinstance(seconds, int | float)
    )
    if not is_sound:
        raise UnreadableMessageError("The function's answer to a direct call is malformed.")
    return Answer(
        state=str(state),
        result=result,
        traceback=_text(value.get("traceback")) or None,
        reason=_text(value.get("reason")),
        seconds=float(seconds),
        message=message,
        pointer=_text(value.get("pointer")),
        is_shared=value.get("is_shared") is True,
    )


def encoded(value: Any, serializer: str) -> dict[str, str]:
    """Return *value* written by kombu's *serializer*, for a JSON document.

    Raises what the serializer raises for a value that it cannot write.
    """
    content_type, content_encoding, body = dumps(value, serializer)
    written = {"content_type": content_type, "content_encoding": content_encoding}
    if isinstance(body, bytes):
        return {**written, "base64": base64.b64encode(body).decode()}
    return {**written, "body": body}


def decoded(written: Mapping[str, str], accept: Any) -> Any:
    """Return the value that :func:`encoded` has *written*.

    :param accept: the content types that may be decoded, as Celery's ``accept_content``.
    :raises UnreadableMessageError: it is of another type, or cannot be decoded.
    """
    try:
        body: Any = written.get("body")
        if body is None:
            body = base64.b64decode(written["base64"], validate=True)
        return loads(
            body, written["content_type"], written["content_encoding"],
            accept=prepare_accept_content(accept),
        )  # fmt: skip
    except Exception as exc:  # what a deserialiser raises is its own affair
        raise UnreadableMessageError(f"The result cannot be decoded: {exc}.") from exc


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
