"""One record of an SQS event, as Lambda hands it over."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from lambda_celery.direct_calls import InvocationType
from lambda_celery.envelope import read_envelope
from lambda_celery.failures.record import REASON_ATTRIBUTE
from lambda_celery.message import MAXIMUM_ATTRIBUTES, is_fifo
from lambda_celery.payloads import POINTER_ATTRIBUTES
from lambda_celery.trace_context import XRAY_ATTRIBUTE, xray_header
from lambda_runtime.messages.note import Note

#: The message attribute in which one that is sent on names the messages that it was before.
SENT_ON_ATTRIBUTE = "LambdaCelerySentOnFrom"
#: Of those, the last ones: its attempts were counted under one of them.
_MESSAGES_BEFORE = 3
#: How the names of the attributes begin that we add ourselves.
_OWN_PREFIX = "LambdaCelery"

#: Of a count or a time in milliseconds.
_MAXIMUM_DIGITS = 15


@dataclass(frozen=True)
class Delivery:
    """One receive of one message.

    Field names are those of Lambda's event, see
    https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html.
    """

    message_id: str
    receipt_handle: str
    body: str
    source_arn: str
    attributes: Mapping[str, str]
    message_attributes: Mapping[str, Mapping[str, Any]]
    #: How the function was called with it, where that is a direct call.
    called_as: InvocationType | None = None
    #: How often SQS has handed this message out, this time included.
    receive_count: int = field(init=False)
    note: Note = field(default_factory=Note, init=False, repr=False, compare=False)
    #: Between its two readers. Python 3.11's cached properties have a lock, one for all deliveries.
    _envelope: list[dict[str, Any]] = field(
        default_factory=list, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        """Work out what is asked for again and again."""
        count = _whole_number(self.attributes.get("ApproximateReceiveCount"))
        object.__setattr__(self, "receive_count", max(1, count))

    @classmethod
    def from_record(
        cls, record: Mapping[str, Any], called_as: InvocationType | None = None
    ) -> Delivery:
        """Read a record, which has a ``messageId``.

        Raises nothing: a field that is missing, or none that SQS would send, is empty. A
        message without a body is unreadable.
        """
        return cls(
            message_id=record["messageId"],
            receipt_handle=_text(record.get("receiptHandle")),
            body=_text(record.get("body")),
            source_arn=_text(record.get("eventSourceARN")),
            attributes=_texts(record.get("attributes")),
            message_attributes={
                name: each
                for name, each in _mapping(record.get("messageAttributes")).items()
                if isinstance(each, Mapping)
            },
            called_as=called_as,
        )

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for the answer of a direct call."""
        return self.called_as is InvocationType.REQUEST_RESPONSE

    @property
    def envelope(self) -> dict[str, Any]:
        """kombu's envelope; raises :exc:`UnreadableMessageError` if the body is none."""
        if not self._envelope:
            self._envelope.append(read_envelope(self.body))
        return self._envelope[0]

    def take_envelope(self) -> dict[str, Any]:
        """Return the envelope, and keep it no longer: thousands are a load for the collector."""
        kept = self._envelope
        return kept.pop() if kept else read_envelope(self.body)

    @property
    def lineage(self) -> tuple[str, ...]:
        """The ids of this message and of those that it was before it was sent on.

        Anybody can write that attribute: an id that is none leads to no record.
        """
        before = self._attribute(SENT_ON_ATTRIBUTE)
        return (self.message_id, *before.split(maxsplit=_MESSAGES_BEFORE)[:_MESSAGES_BEFORE])

    def _attribute(self, name: str) -> str:
        return _text(self.message_attributes.get(name, {}).get("stringValue"))

    @property
    def message_group_id(self) -> str | None:
        """The message group, on FIFO and fair queues."""
        return self.attributes.get("MessageGroupId")

    @property
    def trace_header(self) -> str | None:
        """X-Ray's header, if the message was sent as part of a trace of X-Ray's."""
        return xray_header(self.attributes.get(XRAY_ATTRIBUTE))

    @property
    def age_seconds(self) -> float:
        """Seconds since the message was sent."""
        sent = self.sent_at
        return max(0.0, time.time() - sent) if sent else 0.0

    @property
    def sent_at(self) -> float:
        """When the message was sent, in seconds since the epoch; 0 where nobody says."""
        return _whole_number(self.attributes.get("SentTimestamp")) / 1000

    @property
    def fifo_group(self) -> str | None:
        """The message group whose order must be kept, or ``None`` on a standard queue."""
        return self.message_group_id if is_fifo(self.source_arn) else None

    def attributes_to_send_on(self) -> dict[str, dict[str, Any]]:
        """Return the message attributes for a copy of the message on the same queue."""
        sent = self.attributes_to_send()
        if (reason := self._attribute(REASON_ATTRIBUTE)) and len(sent) < MAXIMUM_ATTRIBUTES:
            sent[REASON_ATTRIBUTE] = {"DataType": "String", "StringValue": reason}
        is_first = self.receive_count == 1 and self.called_as is None
        may_have_run = not is_first or len(self.lineage) > 1
        if may_have_run and len(sent) < MAXIMUM_ATTRIBUTES:
            before = " ".join(self.lineage[:_MESSAGES_BEFORE])
            sent[SENT_ON_ATTRIBUTE] = {"DataType": "String", "StringValue": before}
        return sent

    def attributes_of_call(self) -> dict[str, dict[str, Any]]:
        """Return the message attributes that the call was given, in the form of SendMessage."""
        sent = self.attributes_to_send().items()
        return {name: each for name, each in sent if name not in POINTER_ATTRIBUTES}

    def attributes_to_send(self) -> dict[str, dict[str, Any]]:
        """Return the message attributes in the form that SendMessage takes, without our own."""
        sent: dict[str, dict[str, Any]] = {}
        for name, value in self.message_attributes.items():
            data_type = value.get("dataType")
            if name.startswith(_OWN_PREFIX) or not isinstance(data_type, str):
                continue
            if value.get("binaryValue") is not None:
                with suppress(TypeError, ValueError):  # none that SQS has sent
                    binary = base64.b64decode(value["binaryValue"])
                    sent[name] = {"DataType": data_type, "BinaryValue": binary}
            else:
                sent[name] = {"DataType": data_type, "StringValue": _text(value.get("stringValue"))}
        return sent


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _texts(value: Any) -> dict[str, str]:
    return {name: str(each) for name, each in _mapping(value).items() if each is not None}


def _whole_number(value: Any) -> int:
    """Return the number that *value* writes, or 0: Python itself refuses to read 5,000 digits."""
    is_number = isinstance(value, str) and value.isdecimal() and len(value) <= _MAXIMUM_DIGITS
    return int(value) if is_number else 0
