"""What is sent, in SQS's words, and SQS's numbers: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-quotas.html."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from lambda_celery.trace_context import XRAY_ATTRIBUTE

#: A message, attributes counted, and the messages of a request together.
MAXIMUM_MESSAGE_SIZE_BYTES = 1_048_576
#: A message is delayed by no more, from its sending on.
MAXIMUM_DELAY_SECONDS = 900
#: A message that was received is hidden for no more: 12 hours.
MAXIMUM_VISIBILITY_SECONDS = 43_200
#: A message waits in EventBridge Scheduler for no longer, 13 days. What is due later comes by the
#: queue on its way, where a revoke is looked for whose record would be gone when the task is due.
MAXIMUM_SCHEDULE_SECONDS = 13 * 86_400
#: A queue keeps a message for no longer: 14 days.
MAXIMUM_RETENTION_SECONDS = 14 * 86_400
#: Messages of a request: SendMessageBatch, ReceiveMessage and their like.
MAXIMUM_ENTRIES = 10
#: Message attributes of a message.
MAXIMUM_ATTRIBUTES = 10
#: How the name of a FIFO queue ends, and with it its URL and its ARN.
FIFO_SUFFIX = ".fifo"


@dataclass(frozen=True)
class OutgoingMessage:
    """What is to be sent, in SQS's words."""

    body: str
    attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    delay_seconds: int | None = None
    message_group_id: str | None = None
    deduplication_id: str | None = None
    #: When its task is due, and the id of that: for what is further off than SQS can delay it.
    due: datetime | None = None
    task_id: str | None = None
    #: X-Ray's header: the trace that the call belongs to.
    trace_header: str | None = None

    @property
    def size_bytes(self) -> int:
        """The size as SQS counts it: the body, and each attribute's name, type and value."""
        return len(self.body.encode()) + sum(
            len(name.encode())
            + len(value["DataType"].encode())
            + len(value["StringValue"].encode() if "StringValue" in value else value["BinaryValue"])
            for name, value in self.attributes.items()
        )

    @property
    def is_far_off(self) -> bool:
        """Whether it is due later than SQS can delay it."""
        return self.due is not None and self.seconds_ahead() > MAXIMUM_DELAY_SECONDS

    def seconds_ahead(self) -> float:
        """Return the seconds until its task is due."""
        if self.due is None:
            return float(self.delay_seconds or 0)
        return max(0.0, (self.due - datetime.now(UTC)).total_seconds())

    def parameters(self) -> dict[str, Any]:
        """Return it as SQS's SendMessage has it, and an entry of SendMessageBatch."""
        parameters: dict[str, Any] = {
            "MessageBody": self.body,
            "MessageAttributes": self.attributes,
            "DelaySeconds": self.delay_seconds,
            "MessageGroupId": self.message_group_id,
            "MessageDeduplicationId": self.deduplication_id,
        }
        if self.trace_header is not None:
            header = {"DataType": "String", "StringValue": self.trace_header}
            parameters["MessageSystemAttributes"] = {XRAY_ATTRIBUTE: header}
        return {name: value for name, value in parameters.items() if value not in (None, {})}


def is_fifo(queue: str) -> bool:
    """Whether *queue*, a URL, an ARN or a name, is a FIFO queue's."""
    return queue.endswith(FIFO_SUFFIX)


def delay_until(eta: datetime, now: datetime | None = None) -> int:
    """Return the ``DelaySeconds`` of the next hop to *eta*: rounded up, so never early."""
    now = now or datetime.now(UTC)
    return max(0, min(MAXIMUM_DELAY_SECONDS, math.ceil((eta - now).total_seconds())))
