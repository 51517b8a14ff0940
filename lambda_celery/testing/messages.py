"""A message as a test looks at it: a call of a task, in Celery's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from celery import Celery
from celery.utils.time import maybe_iso8601

from lambda_celery.decoding import decode_payload
from lambda_celery.envelope import read_envelope, read_message
from lambda_celery.failures.record import EXCEPTION_ATTRIBUTE, REASON_ATTRIBUTE
from lambda_celery.testing.sqs import StoredMessage

#: Of the arguments, where a message is written in a line.
_SHOWN_CHARACTERS = 200


@dataclass(frozen=True)
class Message:
    """A message on a queue.

    :ivar task: the name of the task.
    :ivar args: as the task is given them: a list that was sent as a tuple is a list.
    :ivar kwargs: likewise.
    :ivar queue: the name of the Celery queue that it was sent to.
    :ivar queue_url: the URL of the SQS queue that it is on.
    :ivar task_id: the id of the call.
    :ivar eta: when it is due, if the call says so: by the process's clock, and as it was sent.
    :ivar countdown: how many seconds that was ahead when it was sent; 0 if it had passed.
    :ivar retries: how often the call was retried.
    :ivar group: the id of Celery's group, or chord, that it is a part of.
    :ivar message_group_id: the message group of SQS.
    :ivar waits_seconds: how long it is still delayed or hidden; 0 where it is due.
    :ivar receive_count: how often it was handed out.
    :ivar headers: those of Celery's message.
    :ivar attributes: the message attributes, in the form of SendMessage.
    :ivar reason: why it is in the dead-letter queue; ``None`` if SQS itself has moved it.
    :ivar exception: what its task has raised then, as text.
    """

    task: str
    args: list[Any]
    kwargs: dict[str, Any]
    queue: str
    queue_url: str
    task_id: str
    eta: datetime | None
    countdown: float | None
    retries: int
    group: str | None
    message_group_id: str | None
    waits_seconds: float
    receive_count: int
    headers: Mapping[str, Any] = field(repr=False)
    attributes: Mapping[str, Any] = field(repr=False)
    reason: str | None = None
    exception: str | None = None

    def __str__(self) -> str:
        """Return it as a person would write the call, and what is special about it."""
        arguments = [*map(repr, self.args), *(f"{n}={each!r}" for n, each in self.kwargs.items())]
        shown = ", ".join(arguments)
        if len(shown) > _SHOWN_CHARACTERS:
            shown = f"{shown[:_SHOWN_CHARACTERS]}…"
        told = f"{self.task}({shown}) on queue {self.queue!r}"
        if self.countdown:
            told += f", countdown {self.countdown:.0f} s"
        if self.retries:
            told += f", retry {self.retries}"
        if self.waits_seconds > 0:
            told += f", due in {self.waits_seconds:.0f} s"
        if self.reason is not None:
            told += f": {self.reason}"
        if self.exception is not None:
            told += f" ({self.exception})"
        return told


def read(stored: StoredMessage, body: str, app: Celery, now: float) -> Message:
    """Return *stored* as a test looks at it.

    :param body: what is in the message, or in the bucket.
    :param now: the queue's time.
    :raises UnreadableMessageError: it is no message of Celery's.
    """
    envelope = read_envelope(body)
    payload, headers = _call_in(envelope, app)
    if isinstance(payload, Mapping):
        args, kwargs = payload.get("args") or [], payload.get("kwargs") or {}
    else:
        args, kwargs, _ = payload
    eta = maybe_iso8601(headers.get("eta")) if headers.get("eta") else None
    if eta is not None and eta.tzinfo is None:
        eta = eta.replace(tzinfo=UTC)  # as for a worker
    sent_at = stored.sent_at - stored.sent_after_seconds
    return Message(
        task=str(headers.get("task")),
        args=list(args),
        kwargs=dict(kwargs),
        queue=str(envelope["properties"].get("delivery_info", {}).get("routing_key")),
        queue_url=stored.queue.url,
        task_id=str(headers.get("id")),
        eta=eta,
        countdown=None if eta is None else max(0.0, eta.timestamp() - sent_at),
        retries=headers.get("retries") or 0,
        group=headers.get("group"),
        message_group_id=stored.group,
        waits_seconds=max(0.0, stored.visible_at - now),
        receive_count=stored.receive_count,
        headers=headers,
        attributes=stored.attributes,
        reason=_text(stored, REASON_ATTRIBUTE),
        exception=_text(stored, EXCEPTION_ATTRIBUTE),
    )


def task_in(body: str, app: Celery) -> str:
    """Return the name of the task that the message *body* calls.

    :raises UnreadableMessageError: it is no message of Celery's.
    """
    return str(_call_in(read_envelope(body), app)[1].get("task"))


def _call_in(envelope: Mapping[str, Any], app: Celery) -> tuple[Any, Mapping[str, Any]]:
    """Return what is called, and the headers, which Celery's older protocol has in there."""
    message = read_message(envelope, app.conf.accept_content, {})
    payload = decode_payload(message)
    is_older = isinstance(payload, Mapping)
    return payload, {**payload, **message.headers} if is_older else message.headers


def _text(stored: StoredMessage, name: str) -> str | None:
    value = stored.attributes.get(name, {}).get("StringValue")
    return str(value) if value is not None else None
