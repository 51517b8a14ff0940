"""A message that is sent again with something changed: its arguments, its id, its queue.

What is not changed stays as its sender wrote it, in the same layers of encoding.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import Celery
from celery.utils.saferepr import saferepr
from celery.utils.time import maybe_iso8601
from kombu.compression import compress
from kombu.serialization import dumps, registry
from kombu.utils.json import dumps as json_dumps

from lambda_celery.conf import Settings
from lambda_celery.decoding import decode_payload
from lambda_celery.envelope import (
    MARK_HEADER,
    REDACTED,
    SCHEDULE_HEADER,
    read_envelope,
    read_message,
)
from lambda_celery.exceptions import FailedTaskError, UnreadableMessageError
from lambda_celery.publishing.marks import mark_for


class Call:
    """The call in the SQS body *text*, which may be changed and written again.

    :raises UnreadableMessageError: it is no message of Celery's.
    """

    def __init__(self, app: Celery, settings: Settings, text: str) -> None:
        self._app = app
        self._settings = settings
        self._is_base64 = not text.lstrip().startswith("{")
        self._envelope = read_envelope(text)
        headers = self._envelope.get("headers")
        if not isinstance(headers, dict):
            raise UnreadableMessageError("The envelope has no headers.")
        properties = self._envelope.get("properties")
        if not isinstance(properties, dict):
            raise UnreadableMessageError("The envelope has no properties.")
        if not isinstance(properties.get("delivery_info") or {}, dict):
            raise UnreadableMessageError("The envelope's delivery_info is no mapping.")
        self._headers = headers

    @property
    def headers(self) -> Mapping[str, Any]:
        """The headers, as they are."""
        return self._headers

    @property
    def task(self) -> str:
        """The name of the task."""
        return str(self._headers.get("task") or "")

    @property
    def task_id(self) -> str:
        """The id of the call."""
        return str(self._headers.get("id") or "")

    @property
    def queue(self) -> str | None:
        """The name of the Celery queue that it was sent to, if the message tells it."""
        info = self._envelope["properties"].get("delivery_info") or {}
        key = info.get("routing_key")
        return key if isinstance(key, str) and key else None

    @property
    def expired_at(self) -> datetime | None:
        """When it has expired; ``None`` if it has not.

        :raises UnreadableMessageError: that cannot be told.
        """
        try:
            expires = maybe_iso8601(self._headers.get("expires") or None)
            schedule = self._headers.get(SCHEDULE_HEADER) or {}
            if expires is None and "expires_seconds" in schedule:
                occurrence = maybe_iso8601(schedule["time"])
                expires = occurrence + timedelta(seconds=schedule["expires_seconds"])
            if expires is None:
                return None
            if expires.tzinfo is None:
                expires = expires.replace(tzinfo=UTC)
            return expires if expires <= datetime.now(UTC) else None
        except Exception as exc:  # a message may hold anything anywhere
            raise UnreadableMessageError(f"Its expires is no time: {exc!r}.") from exc

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """Return the positional and the keyword arguments.

        :raises UnreadableMessageError: they cannot be decoded here.
        :raises FailedTaskError: the message is of Celery's older protocol.
        """
        args, kwargs, _ = self._payload()
        return list(args), dict(kwargs)

    def set_arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Replace the arguments, and what the headers show of them.

        What the call itself has given to be shown, ``argsrepr``, stays: it hides something.

        :raises UnreadableMessageError: the old ones cannot be decoded here.
        :raises FailedTaskError: the new ones cannot be written as the old ones were.
        """
        old_args, old_kwargs, embed = self._payload()
        envelope, headers = self._envelope, self._headers
        try:
            name = registry.type_to_name[envelope["content-type"]]
            _, encoding, body = dumps([list(args), dict(kwargs), embed], serializer=name)
        except Exception as exc:  # what a serialiser raises is its own affair
            raise FailedTaskError(f"The arguments cannot be serialised: {exc}.") from exc
        raw = body if isinstance(body, bytes) else body.encode()
        if headers.get("compression"):
            raw, _ = compress(raw, headers["compression"])
        is_base64 = envelope["properties"].get("body_encoding") == "base64"
        envelope["body"] = base64.b64encode(raw).decode() if is_base64 else raw.decode()
        envelope["content-encoding"] = encoding
        for header, old, new in (
            ("argsrepr", tuple(old_args), tuple(args)),
            ("kwargsrepr", dict(old_kwargs), dict(kwargs)),
        ):
            if self._settings.redact_arguments:
                headers[header] = REDACTED
            elif headers.get(header) in (None, self._shown(old), self._shown(list(old))):
                headers[header] = self._shown(new)

    def set_id(self, task_id: str) -> None:
        """Make it another call, with the id *task_id*: tried never before, due now."""
        headers = self._headers
        if headers.get("root_id") == headers.get("id"):
            headers["root_id"] = task_id
        headers |= {"id": task_id, "retries": 0, "eta": None, "expires": None}
        headers.pop(SCHEDULE_HEADER, None)
        if MARK_HEADER in headers:
            headers[MARK_HEADER] = mark_for(task_id)
        self._envelope["properties"]["correlation_id"] = task_id

    def set_queue(self, name: str) -> None:
        """Have its retries go to the Celery queue *name*."""
        self._envelope["properties"]["delivery_info"] = {"exchange": "", "routing_key": name}

    def text(self) -> str:
        """Return the SQS body."""
        text = json_dumps(self._envelope)
        return base64.b64encode(text.encode()).decode() if self._is_base64 else text

    def _payload(self) -> tuple[Any, Any, Any]:
        message = read_message(
            self._envelope, self._app.conf.accept_content, {}, self._settings.maximum_body_bytes
        )
        try:
            payload = decode_payload(message)
        except Exception as exc:  # the same holds of deserialisers
            raise UnreadableMessageError(f"The arguments cannot be decoded: {exc}.") from exc
        if isinstance(payload, Mapping):
            raise FailedTaskError(
                "The message is of Celery's older protocol: retry it as it is, for it cannot be "
                "changed."
            )
        try:
            args, kwargs, embed = payload
            return [*args], {**kwargs}, embed
        except (TypeError, ValueError) as exc:
            raise UnreadableMessageError(f"The arguments are not a task's: {exc}.") from exc

    def _shown(self, value: Any) -> str:
        maximum = self._app.amqp.argsrepr_maxsize
        return str(saferepr(value, maximum, maxlevels=self._app.conf.task_repr_maxlevels))
