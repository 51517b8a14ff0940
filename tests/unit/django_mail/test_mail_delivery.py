"""How long a mail waits, and what is told of it."""

from __future__ import annotations

import smtplib
import subprocess
import sys
from typing import ClassVar

from anymail.message import AnymailMessage
from anymail.signals import post_send
from celery import Celery
from django.core.mail import EmailMessage
from django.test import override_settings

import tests.django_settings  # noqa: F401 - before what reads them
from lambda_celery.django.mail import delivery, options
from lambda_celery.django.mail.connections import Connections
from lambda_celery.django.mail.form import mail_to_json
from lambda_celery.testing import LambdaCeleryQueue


class UsedUp:
    """A back end whose daily quota was used up once."""

    answers: ClassVar[list[Exception]] = []
    sent: ClassVar[list[str]] = []

    def open(self) -> None:
        """Need no connection."""

    def close(self) -> None:
        """Have none."""

    def send_messages(self, mails: list[EmailMessage]) -> int:
        """Note who gets them."""
        if self.answers:
            raise self.answers.pop()
        self.sent += [to for mail in mails for to in mail.to]
        return len(mails)


def test_the_time_that_a_test_lets_pass_is_that_of_a_quota(monkeypatch):
    quota = smtplib.SMTPDataError(454, b"Throttling failure: Daily message quota exceeded.")
    monkeypatch.setattr(UsedUp, "answers", [quota])
    app = Celery("proj")
    app.conf.lambda_tasks = ["*"]
    path = f"{__name__}.UsedUp"
    with (
        override_settings(
            EMAIL_BACKEND="lambda_celery.django.mail.EmailBackend", CELERY_EMAIL_BACKEND=path
        ),
        LambdaCeleryQueue(app) as queue,
    ):
        EmailMessage("s", "b", "f@example.com", ["ann@example.com"]).send()
        EmailMessage("s", "b", "f@example.com", ["bob@example.com"]).send()
        queue.run()
        assert UsedUp.sent == []

        while queue.messages:
            queue.advance()
            queue.run()

    assert sorted(UsedUp.sent) == ["ann@example.com", "bob@example.com"]


def test_no_address_is_logged_of_a_mail_that_is_put_off(monkeypatch, caplog):
    caplog.set_level("INFO")
    busy = smtplib.SMTPRecipientsRefused({"ann@example.com": (450, b"<ann@example.com>: later")})
    monkeypatch.setattr(UsedUp, "answers", [busy])
    monkeypatch.setattr(UsedUp, "sent", [])
    app = Celery("proj")
    app.conf.lambda_tasks = ["*"]
    path = f"{__name__}.UsedUp"
    with (
        override_settings(
            EMAIL_BACKEND="lambda_celery.django.mail.EmailBackend", CELERY_EMAIL_BACKEND=path
        ),
        LambdaCeleryQueue(app) as queue,
    ):
        EmailMessage("s", "b", "f@example.com", ["ann@example.com"]).send()
        queue.run()

    assert UsedUp.sent == []
    assert "s: SMTPRecipientsRefused({'…@example.com': (450, " in caplog.text
    assert "ann@" not in caplog.text


def test_what_a_receiver_raises_after_a_mail_was_taken_does_not_send_it_again(monkeypatch):
    monkeypatch.setattr(delivery, "_connections", Connections())
    taken: list[str] = []

    def receiver(sender, message, **_):
        taken.extend(message.to)
        raise LookupError

    post_send.connect(receiver)
    try:
        with override_settings(CELERY_EMAIL_BACKEND="anymail.backends.test.EmailBackend"):
            mail = AnymailMessage("s", "b", "f@example.com", ["ann@example.com"])
            assert delivery._send(mail, None, {}) == (1, {})
    finally:
        post_send.disconnect(receiver)
    assert taken == ["ann@example.com"]


def test_a_function_without_the_senders_mailers_says_so():
    mail = mail_to_json(EmailMessage("s", "b", "f@example.com", ["ann@example.com"]), None)
    app = Celery("proj")
    app.conf.lambda_tasks = ["*"]
    with LambdaCeleryQueue(app) as queue:
        app.tasks[options.DELIVER].delay(mail, using="smtp")
        [outcome] = queue.run()

    assert outcome.fate == "returned"
    assert "'smtp', and there are no MAILERS here" in str(outcome.exception)


def test_a_greylist_of_a_quarter_of_an_hour_lets_a_mail_in():
    waits = [delivery._backoff(attempt) for attempt in range(delivery._RETRIES)]

    assert 15 * 60 < sum(waits) < 90 * 60
    assert max(waits) <= 601


def test_the_reason_that_all_processes_read_has_no_address():
    exc = smtplib.SMTPSenderRefused(530, b"<ann@example.com>: log in", "Bob <bob@example.com>")

    text = delivery._without_addresses(str(exc))

    assert "ann" not in text
    assert "bob@" not in text
    assert "530" in text


def test_what_is_told_of_one_server_is_nothing_to_another():
    own = options.mailer_name(None, {})

    others = {
        options.mailer_name("default", {}),  # an alias of MAILERS
        options.mailer_name("other", {}),
        options.mailer_name("CELERY_EMAIL_BACKEND", {}),
        options.mailer_name(None, {"host": "mail.example.com"}),
        options.mailer_name(None, {"host": "mail.example.org"}),
    }

    assert len(others) == 5
    assert own not in others


def test_nothing_but_the_tasks_of_mails_retries_them():
    script = """
from django.conf import settings
settings.configure(CELERY_EMAIL_TASK_CONFIG={"autoretry_for": (Exception,), "queue": "mail"})
from celery import Celery
app = Celery("proj")
from lambda_celery.django.mail import tasks
assert app.tasks[tasks.deliver.name].queue == "mail"
assert not hasattr(app.tasks[tasks.deliver.name], "_orig_run")  # what Celery's autoretry keeps
"""

    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
