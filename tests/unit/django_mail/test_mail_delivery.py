"""How long a mail waits, and what is told of it."""

from __future__ import annotations

import smtplib
import subprocess
import sys

from celery import Celery

import tests.django_settings  # noqa: F401 - before what reads them
from lambda_celery.django.mail import delivery, tasks


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
    app = Celery("proj", set_as_current=False)
    task = app.tasks[tasks.deliver.name]

    own = delivery._breaker(task, None, {})

    assert own is delivery._breaker(task, "default", {})
    assert own is not delivery._breaker(task, None, {"host": "mail.example.com"})
    assert own is not delivery._breaker(task, "other", {})


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
