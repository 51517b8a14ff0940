"""How long a mail waits, and what is told of it."""

from __future__ import annotations

import smtplib

import tests.django_settings  # noqa: F401 - before what reads them
from lambda_celery.django.mail import delivery


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
