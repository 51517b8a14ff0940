"""From the body of a message to Celery's :class:`~celery.worker.request.Request`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from weakref import WeakKeyDictionary

from celery import Celery
from celery.exceptions import InvalidTaskError
from celery.utils.time import maybe_iso8601
from celery.worker.request import Request
from celery.worker.strategy import hybrid_to_proto2
from kombu.message import Message

from lambda_celery.conf import Settings, setting_names
from lambda_celery.decoding import decode_payload
from lambda_celery.envelope import (
    MARK_HEADER,
    SCHEDULE_HEADER,
    accepted_types,
    read_envelope,
    read_message,
    redacted,
)
from lambda_celery.exceptions import LambdaCeleryError, UnreadableMessageError, cut
from lambda_runtime.messages.delivery import Delivery
from lambda_runtime.messages.headers import check_embed, check_headers


@dataclass(frozen=True)
class _Way:
    """How an app has its messages read: its configuration, of which each look-up is a search."""

    accepted: frozenset[str] | None
    uses_utc: bool


_ways: WeakKeyDictionary[Celery, _Way] = WeakKeyDictionary()


class UnregisteredTaskError(LambdaCeleryError):
    """The message names a task that this deployment does not have."""

    def __str__(self) -> str:
        return cut(super().__str__())


def task_name(delivery: Delivery) -> str | None:
    """Return the name of the task, if the envelope tells it: one in S3 is not fetched for that."""
    try:
        headers = delivery.envelope.get("headers")
    except UnreadableMessageError:
        return None
    name = headers.get("task") if isinstance(headers, Mapping) else None
    return name if isinstance(name, str) else None


def read_request(
    app: Celery, settings: Settings, delivery: Delivery, body: str, hostname: str
) -> Request:
    """Return the request in *body*, deserialised, of task message protocol 1 or 2.

    :raises UnreadableMessageError: it is no task message, or of a content type
        that the app's ``accept_content`` does not allow.
    :raises UnregisteredTaskError: its task is not in the app's registry.
    """
    # kombu on SQS loses the flag; the receive count has it.
    redelivered = {"redelivered": delivery.receive_count > 1}
    envelope = delivery.take_envelope() if body is delivery.body else read_envelope(body)
    way = _way_of(app)
    message = read_message(envelope, way.accepted, redelivered, settings.maximum_body_bytes)
    try:
        payload = decode_payload(message)
    except Exception as exc:  # what a deserialiser raises is its own affair
        raise UnreadableMessageError(f"The arguments cannot be decoded: {exc}.") from exc
    try:
        arguments, headers, utc = _protocol_2(way, message, payload)
        headers = _of_occurrence(redacted(headers) if settings.redact_arguments else headers)
        name = headers.get("task")
        check_headers(headers, settings)
        check_embed(arguments[2])
        # Ours, and none of those that a task sees and its retry takes over.
        headers = dict(headers)
        headers.pop(MARK_HEADER, None)
        if name not in app.tasks:
            raise UnregisteredTaskError(
                f"The task {name!r} is not registered here: deploy the code that has it, "
                "and see that the app imports its module."
            )
        request = Request(
            message, app=app, hostname=hostname, headers=headers,
            body=arguments, decoded=True, utc=utc,
        )  # fmt: skip
        _check_eta(request, settings)
    except (UnregisteredTaskError, UnreadableMessageError):
        raise
    except Exception as exc:  # a message may hold anything anywhere
        raise UnreadableMessageError(f"It is not a task message: {exc!r}.") from exc
    return request


def _way_of(app: Celery) -> _Way:
    if (found := _ways.get(app)) is not None:
        return found
    made = _Way(accepted_types(app.conf.accept_content), app.uses_utc_timezone())
    return _ways.setdefault(app, made)


def _protocol_2(
    way: _Way, message: Message, payload: Any
) -> tuple[tuple[Any, Any, Mapping[str, Any]], dict[str, Any], bool]:
    if isinstance(payload, Mapping):  # protocol 1: everything is in the body
        body, headers, _, utc = hybrid_to_proto2(message, payload)
        return body, headers, utc
    args, kwargs, embed = payload
    embed = embed or {}
    if not (isinstance(args, list | tuple) and isinstance(kwargs, Mapping)):
        raise InvalidTaskError("arguments must be a list, keyword arguments a mapping")
    if not isinstance(embed, Mapping):
        raise InvalidTaskError("callbacks, errbacks, chain and chord must be a mapping")
    return (args, kwargs, embed), message.headers, way.uses_utc


def _check_eta(request: Request, settings: Settings) -> None:
    if request.eta is None and request.expires is None:
        return
    now = datetime.now(UTC)
    for each in (request.eta, request.expires):
        if each is not None:
            _ = each <= now  # what cannot be compared raises here
    if request.eta is None:
        return
    seconds = (request.eta - now).total_seconds()
    if seconds > settings.maximum_delay_seconds:
        raise UnreadableMessageError(
            f"Its eta is {seconds:.0f} s ahead, and {setting_names('maximum_delay_seconds')} "
            f"allows {settings.maximum_delay_seconds}."
        )


def _of_occurrence(headers: dict[str, Any]) -> dict[str, Any]:
    """Return *headers* with the times that count from a schedule's occurrence worked out.

    The header that has them is gone then: a retry takes over what it finds, and must keep
    the expiry of its occurrence, but not the countdown.
    """
    if SCHEDULE_HEADER not in headers:
        return headers
    headers = dict(headers)
    schedule = headers.pop(SCHEDULE_HEADER)
    occurrence = maybe_iso8601(schedule["time"])
    for name, option in (("expires", "expires_seconds"), ("eta", "countdown_seconds")):
        # A stock worker's retry has both that header and an eta of its own.
        if option in schedule and not headers.get(name):
            headers[name] = (occurrence + timedelta(seconds=schedule[option])).isoformat()
    return headers
