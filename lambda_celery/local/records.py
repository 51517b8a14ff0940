"""SQS messages as the records of a Lambda event."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

#: What surrounds the records in the event's JSON.
EVENT_OVERHEAD_BYTES = len('{"Records":[]}')


def record(message: Mapping[str, Any], queue_arn: str) -> dict[str, Any]:
    """Return the record that Lambda makes of *message*, as ``ReceiveMessage`` answered it."""
    made = {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": dict(message.get("Attributes") or {}),
        "messageAttributes": {
            name: _message_attribute(value)
            for name, value in (message.get("MessageAttributes") or {}).items()
        },
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": queue_arn,
        "awsRegion": queue_arn.split(":")[3],
    }
    if "MD5OfMessageAttributes" in message:
        made["md5OfMessageAttributes"] = message["MD5OfMessageAttributes"]
    return made


def size_bytes(made: Mapping[str, Any]) -> int:
    """Return what a record adds to the event's JSON, its comma included."""
    return len(json.dumps(made, ensure_ascii=False, separators=(",", ":")).encode()) + 1


def _message_attribute(value: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if "StringValue" in value:
        made["stringValue"] = value["StringValue"]
    if "BinaryValue" in value:
        made["binaryValue"] = base64.b64encode(value["BinaryValue"]).decode("ascii")
    return made | {
        "stringListValues": [],
        "binaryListValues": [],
        "dataType": value["DataType"],
    }
