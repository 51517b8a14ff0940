"""What a Django project is told that has made no Celery app, or does not import it."""

from __future__ import annotations

import subprocess
import sys

import pytest

SETTINGS = """
import django
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["lambda_celery.django"],
    EMAIL_BACKEND="lambda_celery.django.mail.EmailBackend",
    EMAIL_TIMEOUT=9,
    CELERY_LAMBDA_QUEUE_URL="https://sqs.eu-west-1.amazonaws.com/123456789012/mail",
)
django.setup()
"""
APP = """
from celery import Celery

app = Celery("proj")
app.config_from_object("django.conf:settings", namespace="CELERY")
"""
CHECK = """
from django.core.checks import run_checks

print([each.id for each in run_checks()])
"""
SEND = """
from django.core.mail import send_mail

from lambda_celery import ConfigurationError

try:
    send_mail("s", "b", "f@example.com", ["ann@example.com"])
except ConfigurationError as exc:
    print(exc)
"""


def printed(script: str) -> str:
    """Return what a new process prints: in this one somebody has made an app."""
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("script", "ids"),
    [(SETTINGS + CHECK, "['lambda_celery.W003']"), (SETTINGS + APP + CHECK, "[]")],
)
def test_a_check_says_that_nothing_reads_the_settings(script, ids):
    assert printed(script) == ids


def test_who_sends_is_told_that_the_app_lacks_and_not_a_setting_that_is_there():
    told = printed(SETTINGS + SEND)

    assert told.startswith("This process has loaded no Celery app")
    assert "lambda_queue_url" not in told


def test_an_app_without_a_queue_is_told_the_setting():
    told = printed(SETTINGS.replace("CELERY_LAMBDA_QUEUE_URL", "OTHER") + APP + SEND)

    assert told.startswith("Set lambda_queue_url")
