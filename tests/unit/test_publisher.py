"""Sizes as SQS counts them."""

from __future__ import annotations

from lambda_celery.message import OutgoingMessage


def test_the_size_counts_bytes_and_every_part_of_an_attribute():
    message = OutgoingMessage(
        "é" * 10,
        {
            "text": {"DataType": "String", "StringValue": "ab"},
            "bytes": {"DataType": "Binary", "BinaryValue": b"\x00\x01\x02"},
        },
    )
    assert message.size_bytes == 20 + (4 + 6 + 2) + (5 + 6 + 3)
