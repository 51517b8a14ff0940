"""Records of an SQS event."""

from __future__ import annotations

import time

import pytest

from lambda_celery.failures.record import EXCEPTION_ATTRIBUTE, REASON_ATTRIBUTE
from lambda_runtime.messages.delivery import Delivery
from lambda_runtime.messages.outcome import Parked
from lambda_runtime.messages.settlement import _with_reason

RECORD = {
    "messageId": "1",
    "receiptHandle": "handle",
    "body": "body",
    "attributes": {"ApproximateReceiveCount": "3", "SentTimestamp": "1000"},
    "messageAttributes": {
        "text": {"dataType": "String", "stringValue": "a", "stringListValues": []},
        "bytes": {"dataType": "Binary", "binaryValue": "AAE=", "binaryListValues": []},
        "number": {"dataType": "Number.int", "stringValue": "5"},
    },
    "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:mail",
}


def test_its_facts():
    delivery = Delivery.from_record(RECORD)
    assert delivery.receive_count == 3
    assert delivery.age_seconds == pytest.approx(time.time() - 1, abs=60)
    assert delivery.fifo_group is None


def test_an_envelope_is_decoded_once_and_not_kept_after_its_reader(monkeypatch):
    """Else those of thousands of messages would be in memory together."""
    decoded = []

    def decode(body):
        decoded.append(body)
        return {"headers": {}}

    monkeypatch.setattr("lambda_runtime.messages.delivery.read_envelope", decode)
    delivery = Delivery.from_record(RECORD)
    envelope = delivery.envelope
    assert delivery.envelope is envelope
    assert delivery.take_envelope() is envelope
    assert decoded == ["body"]
    assert delivery.take_envelope() is not envelope


def test_attributes_to_send_are_those_received():
    assert Delivery.from_record(RECORD).attributes_to_send() == {
        "text": {"DataType": "String", "StringValue": "a"},
        "bytes": {"DataType": "Binary", "BinaryValue": b"\x00\x01"},
        "number": {"DataType": "Number.int", "StringValue": "5"},
    }


def test_a_message_group_counts_for_the_order_on_fifo_queues_alone():
    fair = {**RECORD, "attributes": {"MessageGroupId": "tenant"}}
    fifo = {**fair, "eventSourceARN": RECORD["eventSourceARN"] + ".fifo"}
    assert Delivery.from_record(fair).fifo_group is None
    assert Delivery.from_record(fifo).fifo_group == "tenant"


def test_a_reason_is_made_fit_for_an_attribute():
    outcome = Parked("line\nbreak \x00" + "é" * 5000, ValueError(""))
    attributes = _with_reason(Delivery.from_record(RECORD), outcome)
    text = attributes[REASON_ATTRIBUTE]["StringValue"]
    assert len(text.encode()) <= 1024
    assert "\n" not in text
    assert "\x00" not in text
    assert attributes[EXCEPTION_ATTRIBUTE]["StringValue"] == "ValueError: "


def test_reasons_give_way_to_the_messages_own_attributes_and_to_its_size():
    full = {f"a{n}": {"dataType": "String", "stringValue": "x"} for n in range(10)}
    crowded = Delivery.from_record({**RECORD, "messageAttributes": full})
    assert set(_with_reason(crowded, Parked("why"))) == set(full)
    big = Delivery.from_record({**RECORD, "body": "x" * 1_048_570, "messageAttributes": {}})
    assert _with_reason(big, Parked("why")) == {}
