"""kombu's wire format: what stands in the body of an SQS message.

The body is ``base64(json({body, content-type, content-encoding, headers,
properties}))``, and the inner body is base64 again. ``sqs_base64_encoding:
False`` and ``body_encoding: utf-8``, kombu's transport options, each take one
layer away. Writers are kombu itself; this reader takes all four.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from kombu.message import Message
from kombu.serialization import prepare_accept_content

from lambda_celery.decoding import decode_json
from lambda_celery.decompression import decompress
from lambda_celery.exceptions import UnreadableMessageError

#: The header of a message that a schedule puts on the queue: ``time`` of the occurrence, and
#: ``expires_seconds`` and ``countdown_seconds``, which count from it. Others do not know it.
SCHEDULE_HEADER = "lambda_schedule"
#: The header with the mark of the publication (:mod:`lambda_celery.publishing.marks`). Others
#: do not know it; a stock worker's retry has that of the message that it retries.
MARK_HEADER = "lambda_publication"
#: What stands in the place of arguments in headers and logs.
REDACTED = "<redacted>"
_REPRS = ("argsrepr", "kwargsrepr")


def redacted(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return *headers* without what they tell of the arguments."""
    return {name: REDACTED if name in _REPRS else value for name, value in headers.items()}


def accepted_types(accept_content: Any) -> frozenset[str] | None:
    """Return the content types, by their full names, that an app's *accept_content* means."""
    types = prepare_accept_content(accept_content)
    return frozenset(types) if types is not None else None


def read_message(
    envelope: Mapping[str, Any],
    accept: Any,
    delivery_info: Mapping[str, Any],
    maximum_bytes: int = 64 * 1024 * 1024,
) -> Message:
    """Return the kombu message in an *envelope*, decompressed but not yet deserialised.

    :param accept: the content types that may be decoded, as ``accept_content``; a frozen set is
        taken for what :func:`accepted_types` has returned.
    :param delivery_info: facts of this delivery, added to the message's own.
    :param maximum_bytes: the size up to which a body is decompressed.
    :raises UnreadableMessageError: it is not a message of Celery's.
    """
    properties = envelope.get("properties")
    if not isinstance(properties, dict):
        if envelope.get("Type") == "Notification" and "TopicArn" in envelope:
            raise UnreadableMessageError(
                f"The body is in an envelope of SNS: set RawMessageDelivery on this queue's "
                f"subscription to {str(envelope['TopicArn'])[:256]}."
            )
        raise UnreadableMessageError("The body is JSON, but not kombu's envelope.")
    body = envelope.get("body")
    if not isinstance(body, str):
        raise UnreadableMessageError("The envelope has no body.")
    raw: str | bytes = body
    if properties.get("body_encoding") == "base64":
        try:
            raw = base64.b64decode(body, validate=True)
        except (binascii.Error, ValueError) as exc:
            raise UnreadableMessageError(f"The inner body is not base64: {exc}.") from exc
    headers, own_info = envelope.get("headers") or {}, properties.get("delivery_info") or {}
    if not (isinstance(headers, dict) and isinstance(own_info, dict)):
        raise UnreadableMessageError("The envelope's headers or delivery_info are no mappings.")
    compression = headers.get("compression")
    left = headers
    if compression:
        # Before kombu does, which would decompress a megabyte into a gigabyte.
        raw = decompress(raw, compression, maximum_bytes)
        left = {name: each for name, each in headers.items() if name != "compression"}
    message = Message(
        body=raw,
        content_type=envelope.get("content-type"),
        content_encoding=envelope.get("content-encoding"),
        headers=left,
        properties=properties,
        delivery_info={**own_info, **delivery_info},
        delivery_tag=properties.get("delivery_tag"),
        accept=accept if isinstance(accept, frozenset) else accepted_types(accept),
        postencode="utf-8",
    )
    if message.errors:
        _, cause, _ = message.errors[0]
        raise UnreadableMessageError(f"The body cannot be encoded: {cause}.") from cause
    message.headers = headers
    return message


def read_envelope(text: str) -> dict[str, Any]:
    """Return what stands in the SQS body *text*, its own body still encoded.

    :raises UnreadableMessageError: it is not kombu's envelope.
    """
    # JSON objects start with a brace, which base64's alphabet does not have.
    if not text.lstrip().startswith("{"):
        try:
            text = base64.b64decode(text, validate=True).decode()
        except (binascii.Error, ValueError) as exc:
            raise UnreadableMessageError("The body is neither base64 nor JSON.") from exc
    try:
        envelope = decode_json(text)
    except Exception as exc:  # kombu's hooks for typed values raise what they like
        raise UnreadableMessageError(f"The body is not JSON: {exc}.") from exc
    if not isinstance(envelope, dict):
        raise UnreadableMessageError("The body is JSON, but not kombu's envelope.")
    return envelope
