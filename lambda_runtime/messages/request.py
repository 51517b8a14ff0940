"""From the body of a message to Celery's :class:`~celery.worker.request.Request`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import Celery
from celery.exceptions import InvalidTaskError
from celery.utils.time import maybe_iso8601
from celery.worker.request import Request
from celery.worker.strategy import hybrid_to_proto2
from kombu.message import Message

from lambda_celery.conf import Settings, setting_names
from lambda_celery.envelope import (
    MARK_HEADER,
    SCHEDULE_HEADER,
    read_envelope,
    read_message,
    redacted,
)
from lambda_celery.exceptions import LambdaCeleryError, UnreadableMessageError, cut
from lambda_runtime.messages.delivery import Delivery
from lambda_runtime.messages.headers import check_embed, check_headers


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
    envelope = delivery.envelope if body is delivery.body else read_envelope(body)
    message = read_message(
        envelope, app.conf.accept_content, redelivered, settings.maximum_body_bytes
    )
    try:
        payload = message.payload
    except Exception as exc:  # what a deserialiser raises is its own affair
        raise UnreadableMessageError(f"The arguments cannot be decoded: {exc}.") from exc
    try:
        arguments, headers, utc = _protocol_2(app, message, payload)
        headers = _of_occurrence(redacted(headers) if settings.redact_arguments else headers)
        name = headers.get("task")
        check_headers(headers, settings)
        check_embed(arguments[2])
        # Ours, and none of those that a task sees and its retry takes over.
        headers = {header: each for header, each in headers.items() if header != MARK_HEADER}
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


def _protocol_2(
    app: Celery, message: Message, payload: Any
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
    return (args, kwargs, embed), message.headers, app.uses_utc_timezone()


def _check_eta(request: Request, settings: Settings) -> None:
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
