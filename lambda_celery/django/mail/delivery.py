"""The delivery of one mail, where it runs.

A mail is one message, and so one idempotent unit: what becomes of one is nothing to the others.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from celery import Task
from celery.utils.time import get_exponential_backoff_interval
from django.core.mail import EmailMessage

from lambda_celery.conf import settings_of
from lambda_celery.django.mail.answers import Meaning, read_answer
from lambda_celery.django.mail.breaker import Breaker
from lambda_celery.django.mail.connections import Connections
from lambda_celery.django.mail.contents import contents_of
from lambda_celery.django.mail.form import mail_from_json
from lambda_celery.django.mail.options import REPRS
from lambda_celery.django.mail.refused import noting_refused

#: How often a mail that its server takes later is tried again.
_RETRIES = 5
_FIRST_BACKOFF_SECONDS = 5
_LONGEST_BACKOFF_SECONDS = 600
_TOO_FAST_SECONDS = (1.0, 10.0)
#: SES counts the last 24 hours: a part of its quota is there again after a part of that.
_QUOTA_SECONDS = 3600.0

_connections = Connections()
_breakers: dict[str, Breaker] = {}
_breakers_lock = threading.Lock()


def deliver_mail(
    self: Task,
    mail: Mapping[str, Any],
    using: str | None,
    arguments: Mapping[str, Any] | None,
    attempt: int,
    only: Sequence[str] | None,
) -> int:
    """Do what :data:`~lambda_celery.django.mail.tasks.deliver` says, as the task *self*."""
    breaker = _breaker(self, using)

    def later(wait: float, exc: BaseException | None = None, **changed: Any) -> Exception:
        known = {"using": using, "arguments": arguments, "attempt": attempt, "only": only}
        made: Exception = self.retry(
            (mail,), {**known, **changed}, exc=exc, countdown=wait, throw=False, **REPRS
        )
        return made

    if wait := breaker.seconds_to_wait():
        raise later(wait)
    message = mail_from_json(mail, contents_of(self.app))
    if only is not None:
        vars(message)["recipients"] = lambda: list(only)
    try:
        sent, refused = _send(message, using, arguments or {})
    except _NotSentError as failed:
        exc = failed.reason
        answer = read_answer(exc, opening=failed.was_opening)
        if answer is None:
            raise exc from exc.__cause__
        match answer.meaning:
            case Meaning.QUOTA:
                breaker.leave_alone(str(exc), _QUOTA_SECONDS)
                raise later(breaker.seconds_to_wait(), exc) from exc
            case Meaning.CLOSED:
                breaker.leave_alone(str(exc), answer.wait_seconds)
                raise later(breaker.seconds_to_wait(), exc) from exc
            case Meaning.TOO_FAST:
                raise later(answer.wait_seconds or random.uniform(*_TOO_FAST_SECONDS), exc) from exc
            case Meaning.TEMPORARY if attempt < _RETRIES:
                raise later(_backoff(attempt), exc, attempt=attempt + 1) from exc
        # To try it again would change nothing: Celery's word for that is a retry too many.
        self.retry(exc=exc, max_retries=0)
    breaker.is_well()
    if refused:
        # They are asked again, alone: a server that refuses them for good says so then.
        raise later(_backoff(attempt), attempt=attempt + 1, only=sorted(refused))
    return sent


class _NotSentError(Exception):
    """A back end did not send a mail."""

    def __init__(self, reason: Exception, *, was_opening: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.was_opening = was_opening


def _send(
    message: EmailMessage, using: str | None, arguments: Mapping[str, Any]
) -> tuple[int, Mapping[str, Any]]:
    """Return how many were sent, and the recipients that the server has refused."""
    is_opening = True
    try:
        with _connections.borrow(using, arguments) as backend:
            backend.open()
            is_opening = False
            with noting_refused(backend) as refused:
                # django-ses and others return nothing.
                sent = backend.send_messages([message])
    except Exception as exc:
        raise _NotSentError(exc, was_opening=is_opening) from exc
    return int(sent or 0), refused


def _backoff(attempt: int) -> float:
    drawn: int = get_exponential_backoff_interval(
        _FIRST_BACKOFF_SECONDS, attempt, _LONGEST_BACKOFF_SECONDS, full_jitter=True
    )
    return 1 + drawn


def _breaker(self: Task, using: str | None) -> Breaker:
    name = using or "default"
    with _breakers_lock:
        found = _breakers.get(name)
        if found is None:
            found = _breakers[name] = Breaker(settings_of(self.app), name)
        return found
