"""What reads a sender's words without AWS. It returns, or says that they are unreadable."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from celery import Celery

from lambda_celery.conf import Settings
from lambda_celery.decompression import decompress
from lambda_celery.envelope import read_envelope, read_message
from lambda_celery.exceptions import UnreadableMessageError
from lambda_celery.payloads import is_pointer, locate
from lambda_runtime.messages.delivery import Delivery
from lambda_runtime.messages.headers import check_embed, check_headers
from lambda_runtime.messages.publication import publication_of
from lambda_runtime.messages.request import UnregisteredTaskError, read_request, task_name

#: What a reader may raise.
PROMISED = (UnreadableMessageError, UnregisteredTaskError)
COMPRESSIONS = ("zlib", "bzip2", "lzma")
#: Small, so that a fuzzer finds it.
_MAXIMUM_BYTES = 10_000

_settings = Settings(maximum_body_bytes=_MAXIMUM_BYTES)


def make_app() -> Celery:
    """Return an app that knows the tasks that every app has."""
    app = Celery("fuzzed", set_as_current=False)
    app.finalize()
    return app


def read_record(app: Celery, record: Mapping[str, Any]) -> None:
    """Read all that is in *record*, as it is done for a message of a batch."""
    delivery = Delivery.from_record({"messageId": "m", **record})
    for facts in (
        delivery.receive_count, delivery.lineage, delivery.message_group_id,
        delivery.age_seconds, delivery.fifo_group,
    ):  # fmt: skip
        repr(facts)
    delivery.attributes_of_call()
    delivery.attributes_to_send_on()
    task_name(delivery)
    read_body(app, delivery.body, delivery)


def read_body(app: Celery, body: str, delivery: Delivery | None = None) -> None:
    """Read the task message, or the pointer to one, in *body*."""
    try:
        if is_pointer(body):
            locate(body)
            return
        if delivery is None:
            delivery = Delivery.from_record({"messageId": "m", "body": body})
        publication_of(read_request(app, _settings, delivery, body, "host"))
    except PROMISED as exc:
        str(exc)  # a sentence can be made of it


def read_compressed(data: bytes) -> None:
    """Read *data*, whose first byte chooses the format."""
    first, rest = data[:1], data[1:]
    name = COMPRESSIONS[(first or b"\0")[0] % len(COMPRESSIONS)]
    with suppress(UnreadableMessageError):
        assert len(decompress(rest, name, _MAXIMUM_BYTES)) <= _MAXIMUM_BYTES


def read_bytes(app: Celery, data: bytes) -> None:
    """Read *data* as each thing that it may be, whatever another part of a message would say."""
    text = data.decode(errors="surrogateescape")
    read_body(app, text)
    read_compressed(data)
    with suppress(UnreadableMessageError):
        locate(text)
    with suppress(UnreadableMessageError):
        message = read_message(read_envelope(text), ["json"], {}, _MAXIMUM_BYTES)
        check_headers(message.headers, _settings)


def read_headers(headers: Mapping[str, Any]) -> None:
    """Read *headers* alone."""
    with suppress(UnreadableMessageError):
        check_headers(headers, _settings)


def read_embed(embed: Mapping[str, Any]) -> None:
    """Read what is to follow a task."""
    with suppress(UnreadableMessageError):
        check_embed(embed)
