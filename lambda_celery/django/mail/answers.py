"""What the answers of mail servers and providers mean for the mail.

They are told apart by what SMTP, SES and django-anymail say, without importing a package that may
not be there. The table is in docs/django-mail.md.
"""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, NamedTuple

from lambda_celery import aws
from lambda_celery.aws.refusals import THROTTLED


class Meaning(Enum):
    """What an answer means."""

    #: The server is busy, or away: the mail is tried again, and has an attempt less.
    TEMPORARY = "temporary"
    #: Too many at a time: it comes back in a moment.
    TOO_FAST = "too fast"
    #: The day's mails are used up: it comes back in hours.
    QUOTA = "quota"
    #: Nothing of this mailer is taken, such as with wrong credentials: all its mails wait.
    CLOSED = "closed"
    #: This very mail is not taken, and never will be.
    PERMANENT = "permanent"


class Answer(NamedTuple):
    """What an exception means, and how long the server asks to wait, in seconds, if it does."""

    meaning: Meaning
    wait_seconds: float | None = None


def read_answer(exc: BaseException, *, opening: bool) -> Answer | None:
    """Return what *exc* means; ``None`` if that is not known.

    :param opening: it was raised before the server was told of a mail, so no mail is its reason.
    """
    for each in _causes(exc):
        if (found := _read(each)) is None and opening and isinstance(each, OSError):
            found = Answer(Meaning.TEMPORARY)
        if found is not None:
            is_refused = opening and found.meaning is Meaning.PERMANENT
            return Answer(Meaning.CLOSED, found.wait_seconds) if is_refused else found
    return None


def was_taken(mail: Any, headers_before: Mapping[str, Any]) -> bool:
    """Whether a provider has taken *mail*, whatever was raised after that.

    Such as by a receiver of a signal: django-anymail and django-ses note at the mail what they were
    answered, and then tell the receivers.

    :param headers_before: the mail's own headers before it was sent.
    """
    statuses = getattr(getattr(mail, "anymail_status", None), "status", None) or set()
    if statuses - _NOT_TAKEN:
        return True
    noted = mail.extra_headers
    is_new = noted.get("message_id") != headers_before.get("message_id")
    return is_new and bool(noted.get("status") == 200)


#: What django-anymail calls a recipient's status.
_NOT_TAKEN = {"invalid", "rejected", "failed"}


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """Yield *exc* and what led to it: a package's exception hides SES's."""
    seen: set[int] = set()
    current: BaseException | None = exc
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        hidden = None if current.__suppress_context__ else current.__context__
        current = current.__cause__ or hidden


def _read(exc: BaseException) -> Answer | None:
    if isinstance(exc, smtplib.SMTPException):
        return _of_smtp(exc)
    if isinstance(exc, aws.ClientError) and exc.operation_name.startswith("Send"):
        return _of_ses(exc)
    if any(each.__name__ == "AnymailError" for each in type(exc).__mro__):
        return _of_anymail(exc)
    if isinstance(exc, ssl.SSLCertVerificationError):
        return Answer(Meaning.CLOSED)
    if isinstance(exc, _AWAY) or aws.is_transient(exc):
        return Answer(Meaning.TEMPORARY)
    return None


#: Whom an API's client did not reach: it opens its connection with the first mail.
_AWAY = (ConnectionError, TimeoutError, socket.gaierror, ssl.SSLError)


def _of_smtp(exc: smtplib.SMTPException) -> Answer | None:
    if isinstance(exc, smtplib.SMTPRecipientsRefused):
        # Nobody has it. It is tried again as long as one of them may take it later.
        found = [_of_reply(code, _text(reply)) for code, reply in exc.recipients.values()]
        return min(found, key=lambda each: _FIRST.index(each.meaning))
    if isinstance(exc, smtplib.SMTPAuthenticationError):
        return _of_reply(exc.smtp_code, _text(exc.smtp_error), Meaning.CLOSED)
    if isinstance(exc, smtplib.SMTPResponseException):
        return _of_reply(exc.smtp_code, _text(exc.smtp_error))
    if isinstance(exc, (smtplib.SMTPServerDisconnected, smtplib.SMTPHeloError)):
        return Answer(Meaning.TEMPORARY)
    if isinstance(exc, smtplib.SMTPNotSupportedError):
        return Answer(Meaning.PERMANENT)
    return None


#: Of several recipients' answers, the one that decides.
_FIRST = (Meaning.CLOSED, Meaning.QUOTA, Meaning.TOO_FAST, Meaning.TEMPORARY, Meaning.PERMANENT)
#: SMTP's replies that are about whoever sends, and not about the mail.
_NOT_LET_IN = {530, 534, 535, 538}


def _of_reply(code: int, text: str, otherwise: Meaning | None = None) -> Answer:
    known = _of_text(text)
    if known is not None:
        return known
    if code in _NOT_LET_IN:
        return Answer(Meaning.CLOSED)
    if 400 <= code < 500:
        return Answer(Meaning.TEMPORARY)
    return Answer(otherwise or Meaning.PERMANENT)


def _of_text(text: str) -> Answer | None:
    """Return what SES means, whose codes 454 and 554, ``Throttling`` and ``MessageRejected`` each
    say two things.
    """
    lower = text.lower()
    if "daily message quota" in lower:
        return Answer(Meaning.QUOTA)
    if "maximum sending rate" in lower:
        return Answer(Meaning.TOO_FAST)
    if any(each in lower for each in _NOBODY_SENDS):
        return Answer(Meaning.CLOSED)
    return None


#: What SES says by SMTP and by its older API where the newer one has an exception.
_NOBODY_SENDS = (
    "sending paused for", "sending suspended for", "is not authorized to perform `ses:send",
)  # fmt: skip
_SES: dict[str, Meaning] = {
    **dict.fromkeys(THROTTLED, Meaning.TOO_FAST),
    "LimitExceededException": Meaning.QUOTA,
    "SendingPausedException": Meaning.CLOSED,
    "AccountSendingPausedException": Meaning.CLOSED,
    "ConfigurationSetSendingPausedException": Meaning.CLOSED,
    "AccountSuspendedException": Meaning.CLOSED,
    "MailFromDomainNotVerifiedException": Meaning.CLOSED,
    "ConfigurationSetDoesNotExist": Meaning.CLOSED,
    "ConfigurationSetDoesNotExistException": Meaning.CLOSED,
}


def _of_ses(exc: aws.ClientError) -> Answer | None:
    known = _of_text(str(exc))
    if known is not None:
        return known
    if (meaning := _SES.get(aws.error_code(exc))) is not None:
        return Answer(meaning)
    if aws.misconfigured(exc):
        return Answer(Meaning.CLOSED)
    return Answer(Meaning.TEMPORARY if aws.is_transient(exc) else Meaning.PERMANENT)


def _of_anymail(exc: Any) -> Answer | None:
    name = type(exc).__name__
    if name == "AnymailRecipientsRefused":
        return Answer(Meaning.PERMANENT)
    status = getattr(exc, "status_code", None)
    if status is None:
        return None
    if status == 429:
        return Answer(Meaning.TOO_FAST, _retry_after(getattr(exc, "response", None)))
    if status in (401, 402, 403):
        return Answer(Meaning.CLOSED)
    return Answer(Meaning.TEMPORARY if status >= 500 else Meaning.PERMANENT)


#: A server that asks for more is asked again earlier: what it says may be wrong.
_LONGEST_WAIT_SECONDS = 3600.0


def _retry_after(response: Any) -> float | None:
    headers = getattr(response, "headers", None) or {}
    value = str(headers.get("Retry-After", ""))
    return min(float(value), _LONGEST_WAIT_SECONDS) if value.isdecimal() else None


def _text(reply: bytes | str) -> str:
    return reply.decode(errors="replace") if isinstance(reply, bytes) else reply
