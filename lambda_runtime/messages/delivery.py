"""One record of an SQS event, as Lambda hands it over."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lambda_celery.envelope import read_envelope
from lambda_celery.message import MAXIMUM_ATTRIBUTES, is_fifo

#: The message attribute in which one that is sent on carries its receives along.
EARLIER_RECEIVES_ATTRIBUTE = "LambdaCeleryEarlierReceives"


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

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Delivery:
        """Read a record; a missing field raises :exc:`KeyError`, for Lambda sends them all."""
        return cls(
            message_id=record["messageId"],
            receipt_handle=record["receiptHandle"],
            body=record["body"],
            source_arn=record["eventSourceARN"],
            attributes=record.get("attributes") or {},
            message_attributes=record.get("messageAttributes") or {},
        )

    @cached_property
    def envelope(self) -> dict[str, Any]:
        """kombu's envelope; raises :exc:`UnreadableMessageError` if the body is none."""
        return read_envelope(self.body)

    @cached_property
    def receive_count(self) -> int:
        """How often SQS has handed the message out, this time included.

        One that was sent on is a new message to SQS; what it had come back from before counts.
        """
        return self._own_receives + self._earlier_receives

    @property
    def _own_receives(self) -> int:
        return int(self.attributes.get("ApproximateReceiveCount", 1))

    @property
    def _earlier_receives(self) -> int:
        earlier = self.message_attributes.get(EARLIER_RECEIVES_ATTRIBUTE, {}).get("stringValue")
        return int(earlier) if earlier and earlier.isdecimal() else 0

    @property
    def message_group_id(self) -> str | None:
        """The message group, on FIFO and fair queues."""
        return self.attributes.get("MessageGroupId")

    @property
    def age_seconds(self) -> float:
        """Seconds since the message was sent."""
        sent = int(self.attributes.get("SentTimestamp", 0)) / 1000
        return max(0.0, time.time() - sent) if sent else 0.0

    @property
    def fifo_group(self) -> str | None:
        """The message group whose order must be kept, or ``None`` on a standard queue."""
        return self.message_group_id if is_fifo(self.source_arn) else None

    def attributes_to_send_on(self) -> dict[str, dict[str, Any]]:
        """Return the message attributes for a copy of the message on the same queue."""
        sent = self.attributes_to_send()
        # This receive is none that the task has failed in.
        if (earlier := self.receive_count - 1) and len(sent) < MAXIMUM_ATTRIBUTES:
            sent[EARLIER_RECEIVES_ATTRIBUTE] = {"DataType": "Number", "StringValue": str(earlier)}
        return sent

    def attributes_to_send(self) -> dict[str, dict[str, Any]]:
        """Return the message attributes in the form that SendMessage takes, without our own."""
        sent: dict[str, dict[str, Any]] = {}
        for name, value in self.message_attributes.items():
            if name == EARLIER_RECEIVES_ATTRIBUTE:
                continue
            sent[name] = {"DataType": value["dataType"]}
            if value.get("binaryValue") is not None:
                sent[name]["BinaryValue"] = base64.b64decode(value["binaryValue"])
            else:
                sent[name]["StringValue"] = value.get("stringValue") or ""
        return sent
