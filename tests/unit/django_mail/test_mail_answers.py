"""What servers and providers say, and what it means for the mail."""

from __future__ import annotations

import smtplib
import socket
import ssl
from types import SimpleNamespace

import pytest
from anymail import exceptions as anymail
from anymail.message import AnymailMessage
from botocore.exceptions import ClientError, EndpointConnectionError
from django.core.mail import EmailMessage

import tests.django_settings  # noqa: F401 - before what reads them
from lambda_celery.django.mail.answers import Answer, Meaning, read_answer, was_taken


def ses(code: str, text: str = "", operation: str = "SendEmail", status: int = 400) -> ClientError:
    answer = {"Error": {"Code": code, "Message": text}}
    return ClientError({**answer, "ResponseMetadata": {"HTTPStatusCode": status}}, operation)  # type: ignore[arg-type]


def http(status: int, **headers: str) -> Exception:
    response = SimpleNamespace(status_code=status, headers=headers, text="", reason="")
    return anymail.AnymailRequestsAPIError(response=response)


def caused(cause: Exception) -> Exception:
    made = anymail.AnymailAPIError("SES")
    made.__cause__ = cause
    return made


RATE = "Throttling failure: Maximum sending rate exceeded."
QUOTA = "Throttling failure: Daily message quota exceeded."
PAUSED = (
    "Sending paused for this account. For more information, please check the inbox of the email "
    "address associated with your AWS account."
)
SENDING = [
    (smtplib.SMTPDataError(451, b"busy"), Meaning.TEMPORARY),
    (smtplib.SMTPDataError(452, b"full"), Meaning.TEMPORARY),
    (
        smtplib.SMTPSenderRefused(421, b"too many on this connection", "f@example.com"),
        Meaning.TEMPORARY,
    ),
    (smtplib.SMTPServerDisconnected("gone"), Meaning.TEMPORARY),
    (smtplib.SMTPDataError(550, b"no such mailbox"), Meaning.PERMANENT),
    (
        smtplib.SMTPDataError(554, b"Message rejected: Email address is not verified."),
        Meaning.PERMANENT,
    ),
    (smtplib.SMTPNotSupportedError("SMTPUTF8"), Meaning.PERMANENT),
    (smtplib.SMTPDataError(454, RATE.encode()), Meaning.TOO_FAST),
    (smtplib.SMTPDataError(454, QUOTA.encode()), Meaning.QUOTA),
    (smtplib.SMTPSenderRefused(530, b"Authentication required", "f@example.com"), Meaning.CLOSED),
    (smtplib.SMTPAuthenticationError(535, b"bad"), Meaning.CLOSED),
    (smtplib.SMTPRecipientsRefused({"a": (550, b"no"), "b": (450, b"later")}), Meaning.TEMPORARY),
    (smtplib.SMTPRecipientsRefused({"a": (550, b"no"), "b": (550, b"no")}), Meaning.PERMANENT),
    (ConnectionResetError(), Meaning.TEMPORARY),
    (TimeoutError(), Meaning.TEMPORARY),
    (caused(socket.gaierror(-3, "Temporary failure in name resolution")), Meaning.TEMPORARY),
    (caused(ssl.SSLEOFError()), Meaning.TEMPORARY),
    (caused(ssl.SSLCertVerificationError()), Meaning.CLOSED),
    (EndpointConnectionError(endpoint_url="https://ses"), Meaning.TEMPORARY),
    (ses("Throttling", RATE), Meaning.TOO_FAST),
    (ses("Throttling", QUOTA), Meaning.QUOTA),
    (ses("TooManyRequestsException"), Meaning.TOO_FAST),
    (ses("LimitExceededException"), Meaning.QUOTA),
    (ses("SendingPausedException"), Meaning.CLOSED),
    (ses("AccountSuspendedException"), Meaning.CLOSED),
    (ses("MailFromDomainNotVerifiedException"), Meaning.CLOSED),
    (ses("SignatureDoesNotMatch", status=403), Meaning.CLOSED),
    (ses("AccessDenied", status=403), Meaning.CLOSED),
    (ses("MessageRejected"), Meaning.PERMANENT),
    (ses("MessageRejected", PAUSED), Meaning.CLOSED),
    (smtplib.SMTPDataError(554, f"Message rejected: {PAUSED}".encode()), Meaning.CLOSED),
    (
        smtplib.SMTPDataError(
            554,
            b"Access denied: User `arn:aws:iam::1:user/smtp' is not authorized to perform "
            b"`ses:SendRawEmail' on resource `arn:aws:ses:eu-west-1:1:identity/example.com'",
        ),
        Meaning.CLOSED,
    ),
    (ses("InternalFailure", status=500), Meaning.TEMPORARY),
    (http(429), Meaning.TOO_FAST),
    (http(503), Meaning.TEMPORARY),
    (http(401), Meaning.CLOSED),
    (http(403), Meaning.CLOSED),
    (http(400), Meaning.PERMANENT),
    (anymail.AnymailRecipientsRefused(), Meaning.PERMANENT),
    (caused(ses("Throttling", RATE)), Meaning.TOO_FAST),
    (caused(ses("SendingPausedException")), Meaning.CLOSED),
]
#: Before the server has heard of a mail, it is never the mail's fault.
OPENING = [
    (smtplib.SMTPConnectError(554, b"not you"), Meaning.CLOSED),
    (smtplib.SMTPConnectError(421, b"later"), Meaning.TEMPORARY),
    (smtplib.SMTPAuthenticationError(535, b"bad"), Meaning.CLOSED),
    (smtplib.SMTPAuthenticationError(454, b"Temporary authentication failure"), Meaning.TEMPORARY),
    (smtplib.SMTPNotSupportedError("STARTTLS"), Meaning.CLOSED),
    (socket.gaierror(-2, "unknown"), Meaning.TEMPORARY),
    (ConnectionRefusedError(), Meaning.TEMPORARY),
    (ssl.SSLCertVerificationError(), Meaning.CLOSED),
]


@pytest.mark.parametrize(("exc", "meaning"), SENDING, ids=lambda each: str(each)[:60])
def test_an_answer_to_a_mail(exc, meaning):
    found = read_answer(exc, opening=False)

    assert found is not None
    assert found.meaning is meaning


@pytest.mark.parametrize(("exc", "meaning"), OPENING, ids=lambda each: str(each)[:60])
def test_an_answer_before_a_mail(exc, meaning):
    found = read_answer(exc, opening=True)

    assert found is not None
    assert found.meaning is meaning


@pytest.mark.parametrize(
    "exc",
    [
        ValueError("a template"),
        OSError("a disk"),
        ses("AccessDenied", operation="GetObject"),
        anymail.AnymailUnsupportedFeature(),
    ],
    ids=type,
)
def test_what_is_no_answer_of_a_server_is_unknown(exc):
    assert read_answer(exc, opening=False) is None


def test_how_long_to_wait_is_told_by_the_server():
    assert read_answer(http(429, **{"Retry-After": "17"}), opening=False) == Answer(
        Meaning.TOO_FAST, 17
    )
    assert read_answer(http(429, **{"Retry-After": "9" * 400}), opening=False) == Answer(
        Meaning.TOO_FAST, 3600
    )
    assert read_answer(http(429, **{"Retry-After": "Thu"}), opening=False) == Answer(
        Meaning.TOO_FAST
    )


def test_what_happened_before_and_was_overcome_is_no_cause():
    with pytest.raises(ValueError, match="a bug") as raised:
        try:
            raise smtplib.SMTPDataError(550, b"an earlier one")
        except smtplib.SMTPDataError:
            raise ValueError("a bug") from None

    assert read_answer(raised.value, opening=False) is None


def test_whether_a_provider_has_taken_a_mail_is_noted_at_the_mail():
    mail = AnymailMessage("s", "b", "f@example.com", ["ann@example.com"])
    assert not was_taken(mail, {})

    mail.anymail_status.status = {"rejected"}
    assert not was_taken(mail, {})
    mail.anymail_status.status = {"rejected", "queued"}
    assert was_taken(mail, {})

    noted = {"status": 200, "message_id": "of django-ses"}
    assert was_taken(EmailMessage(headers=noted), {})
    assert not was_taken(EmailMessage(headers=noted), noted)  # of an earlier time
