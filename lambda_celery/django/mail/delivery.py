"""The delivery of one mail, where it runs.

A mail is one message, and so one idempotent unit: what becomes of one is nothing to the others.
"""

from __future__ import annotations

import logging
import random
import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from celery import Task, signals
from django.core.mail import EmailMessage

from lambda_celery.conf import settings_of
from lambda_celery.django.mail.answers import Meaning, read_answer, was_taken
from lambda_celery.django.mail.breaker import Breaker
from lambda_celery.django.mail.connections import Connections
from lambda_celery.django.mail.contents import contents_of
from lambda_celery.django.mail.form import mail_from_json
from lambda_celery.django.mail.options import (
    REPRS,
    asks_for_ses_rate,
    delivery_options,
    mailer_name,
)
from lambda_celery.django.mail.refused import noting_refused
from lambda_celery.django.mail.ses_account import Account, account_of
from lambda_celery.django.mail.ses_rate import SesRate

logger = logging.getLogger(__name__)

#: How often a mail that its server takes later is tried again: for about an hour, as a greylist and
#: a server that starts anew want it.
_RETRIES = 12
_FIRST_BACKOFF_SECONDS = 10
_LONGEST_BACKOFF_SECONDS = 600
_TOO_FAST_SECONDS = (1.0, 10.0)
#: Thousands that come back in the same seconds are too fast again.
_MOST_DOUBLINGS = 5
#: SES counts the last 24 hours: a part of its quota is there again after a part of that.
_QUOTA_SECONDS = 3600.0

_connections = Connections()
_breakers: dict[str, Breaker] = {}
_breakers_lock = threading.Lock()
_rates: dict[Account, SesRate] = {}
_rates_lock = threading.Lock()


@signals.worker_process_init.connect
def _begin_anew(**_: Any) -> None:
    # Two processes on one connection would send each other's mails.
    _connections.forget()
    _breakers.clear()
    _rates.clear()


def deliver_mail(
    self: Task,
    mail: Mapping[str, Any],
    using: str | None,
    arguments: Mapping[str, Any] | None,
    attempt: int,
    only: Sequence[str] | None,
    closed: bool,
) -> int:
    """Do what :data:`~lambda_celery.django.mail.tasks.deliver` says, as the task *self*."""
    breaker = _breaker(self, mailer_name(using, arguments or {}))

    def later(wait: float, exc: BaseException | None = None, **changed: Any) -> Exception:
        known = {
            "using": using, "arguments": arguments, "attempt": attempt, "only": only,
            "closed": closed,
        }  # fmt: skip
        # Celery logs it each time.
        told = None if exc is None else _PutOffError(_without_addresses(repr(exc)))
        made: Exception = self.retry(
            (mail,), {**known, **changed}, exc=told, countdown=wait, throw=False, **REPRS
        )
        return made

    if wait := breaker.seconds_to_wait():
        raise later(wait)
    was_well = breaker.is_known_to_be_well()
    message = mail_from_json(mail, contents_of(self.app))
    if only is not None:
        vars(message)["recipients"] = lambda: list(only)
    rate = _rate(self, using, arguments or {})
    # A probe is awaited by all the others.
    if rate and was_well and (wait := rate.seconds_to_wait(len(message.recipients()))):
        raise later(wait)
    try:
        sent, refused = _send(message, using, arguments or {})
    except _NotSentError as failed:
        exc = failed.reason
        answer = read_answer(exc, opening=failed.was_opening)
        if answer is None:
            raise exc from exc.__cause__
        # Others were taken since this mail was told so: it is the mail's own fault.
        is_its_own = closed and was_well and not failed.was_opening
        match answer.meaning:
            case Meaning.QUOTA:
                breaker.leave_alone(_without_addresses(str(exc)), _QUOTA_SECONDS)
                raise later(breaker.seconds_to_wait(), exc) from exc
            case Meaning.CLOSED if not is_its_own:
                breaker.leave_alone(_without_addresses(str(exc)), answer.wait_seconds)
                told = closed or not failed.was_opening
                raise later(breaker.seconds_to_wait(), exc, closed=told) from exc
            case Meaning.TOO_FAST:
                if rate:
                    rate.is_exceeded()
                wait = answer.wait_seconds or _too_fast(self.request.retries)
                raise later(wait, exc) from exc
            case Meaning.TEMPORARY | Meaning.CLOSED if attempt < _RETRIES:
                raise later(_backoff(attempt), exc, attempt=attempt + 1) from exc
            case Meaning.TEMPORARY if failed.was_opening:
                # No mail is the reason, so none is parked for it.
                breaker.leave_alone(_without_addresses(str(exc)))
                raise later(breaker.seconds_to_wait(), exc, attempt=0) from exc
        # To try it again would change nothing: Celery's word for that is a retry too many.
        self.retry(exc=exc, max_retries=0)
    breaker.is_well()
    if refused:
        # They are asked again, alone: a server that refuses them for good says so then.
        raise later(_backoff(attempt), attempt=attempt + 1, only=sorted(refused))
    return sent


class _PutOffError(Exception):
    """A mail is tried again later; what its server has said is without addresses."""

    def __repr__(self) -> str:
        # Celery writes it into the log: it is the server's word that is to stand there.
        return str(self)


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
    headers = dict(message.extra_headers)
    try:
        with _connections.borrow(using, arguments) as backend:
            backend.open()
            is_opening = False
            with noting_refused(backend) as refused:
                # django-ses and others return nothing.
                sent = backend.send_messages([message])
    except Exception as exc:
        if was_taken(message, headers):
            logger.exception("A mail was taken, so it is not sent again for what was raised then.")
            return 1, {}
        raise _NotSentError(exc, was_opening=is_opening) from exc
    return int(sent or 0), refused


def _backoff(attempt: int) -> float:
    longest = min(_FIRST_BACKOFF_SECONDS * 2**attempt, _LONGEST_BACKOFF_SECONDS)
    return 1 + random.uniform(longest / 2, longest)


def _too_fast(retries: int) -> float:
    shortest, longest = _TOO_FAST_SECONDS
    return random.uniform(shortest, longest * 2 ** min(retries, _MOST_DOUBLINGS))


def _without_addresses(text: str) -> str:
    """Return *text* for a log and a table that are no place for people's addresses."""
    return re.sub(r"[^\s<>\"'(,;:]+@", "…@", text)


def _breaker(self: Task, mailer: str) -> Breaker:
    with _breakers_lock:
        found = _breakers.get(mailer)
        if found is None:
            found = _breakers[mailer] = Breaker(settings_of(self.app), mailer)
        return found


def _rate(self: Task, using: str | None, arguments: Mapping[str, Any]) -> SesRate | None:
    """Return the rate of the account that the mailer has with SES, if that is asked for.

    Without the table, nobody could keep it. A mail that is sent eagerly waits for nothing.
    """
    settings = settings_of(self.app)
    if not asks_for_ses_rate(using) or not settings.idempotency_table or self.request.is_eager:
        return None
    account = account_of(*delivery_options(using, arguments))
    with _rates_lock:
        found = _rates.get(account)
        if found is None:
            found = _rates[account] = SesRate(settings, account)
        return found
