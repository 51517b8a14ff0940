"""Whose rate it is that SES is asked for, and who asks for it."""

from __future__ import annotations

import django
import pytest
from anymail.backends.amazon_ses import EmailBackend as AmazonSes
from celery import Celery
from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

import tests.django_settings  # noqa: F401 - before what reads them
from lambda_celery.django.mail import EmailBackend, options
from lambda_celery.django.mail.ses_account import Account, account_of
from lambda_celery.testing import LambdaCeleryQueue

OURS = "lambda_celery.django.mail.EmailBackend"
SMTP = "django.core.mail.backends.smtp.EmailBackend"
ANYMAIL = "anymail.backends.amazon_ses.EmailBackend"
DJANGO_SES = "django_ses.SESBackend"
KEYS = {"aws_access_key_id": "AKIA", "aws_secret_access_key": "x"}


class Own:
    """A back end of a project's own: nobody knows what it delivers by."""


def make_own(**_: object) -> Own:
    """Make one, as Django lets a project do."""
    return Own()


class OfAnymail(AmazonSes):
    """A project's own of django-anymail's."""


@pytest.mark.parametrize(
    ("path", "made_with", "settings", "account"),
    [
        (f"{__name__}.Own", {}, {}, Account()),
        (f"{__name__}.make_own", {}, {}, Account()),
        (
            f"{__name__}.OfAnymail",
            {"session_params": KEYS},
            {},
            Account(None, None, (*KEYS.items(),)),
        ),
        (SMTP, {}, {"EMAIL_HOST": "mail.example.com"}, Account()),
        (
            SMTP,
            {},
            {"EMAIL_HOST": "email-smtp.eu-west-1.amazonaws.com"},
            Account("eu-west-1"),
        ),
        (
            SMTP,
            {"host": "email-smtp-fips.us-gov-west-1.amazonaws.com"},
            {},
            Account("us-gov-west-1"),
        ),
        (
            SMTP,
            {"host": "vpce-0a1-b2.email-smtp.us-east-2.vpce.amazonaws.com"},
            {},
            Account("us-east-2"),
        ),
        (ANYMAIL, {}, {}, Account()),
        (
            ANYMAIL,
            {},
            {
                "ANYMAIL": {
                    "AMAZON_SES_SESSION_PARAMS": KEYS,
                    "AMAZON_SES_CLIENT_PARAMS": {"region_name": "eu-west-1", "use_ssl": True},
                }
            },
            Account("eu-west-1", None, tuple(KEYS.items())),
        ),
        (
            ANYMAIL,
            {"client_params": {"endpoint_url": "https://ses.example.com"}},
            {"ANYMAIL_AMAZON_SES_SESSION_PARAMS": {"profile_name": "mail"}},
            Account(None, "https://ses.example.com", (("profile_name", "mail"),)),
        ),
        (DJANGO_SES, {}, {}, Account("us-east-1")),
        (
            DJANGO_SES,
            {},
            {
                "AWS_SES_REGION_NAME": "eu-west-1",
                "AWS_SES_REGION_ENDPOINT": "email.eu-west-1.amazonaws.com",
                "AWS_SES_ACCESS_KEY_ID": "AKIA",
                "AWS_SES_SECRET_ACCESS_KEY": "x",
            },
            Account("eu-west-1", "https://email.eu-west-1.amazonaws.com", tuple(KEYS.items())),
        ),
        (
            DJANGO_SES,
            {"aws_region_name": "eu-west-2", "aws_access_key": "AKIA", "aws_secret_key": "x"},
            {"AWS_SES_REGION_NAME": "eu-west-1", "AWS_SES_REGION_ENDPOINT_URL": "https://s"},
            Account("eu-west-2", "https://s", tuple(KEYS.items())),
        ),
    ],
)
def test_the_account_is_the_one_that_the_mails_are_sent_by(path, made_with, settings, account):
    with override_settings(**settings):
        assert account_of(path, made_with) == account


def test_a_rate_that_is_none_is_refused_where_a_mail_is_sent():
    with (
        override_settings(CELERY_EMAIL_RATE_LIMIT="14/s"),
        pytest.raises(ImproperlyConfigured, match="rate_limit in CELERY_EMAIL_TASK_CONFIG"),
    ):
        EmailBackend()


def test_it_is_a_setting_and_nothing_for_one_connection():
    with pytest.raises(ImproperlyConfigured, match="CELERY_EMAIL_RATE_LIMIT"):
        EmailBackend(rate_limit="ses")


@pytest.mark.skipif(django.VERSION < (6, 1), reason="MAILERS came with Django 6.1")
def test_a_mailer_asks_for_the_rate_of_the_one_that_delivers_its_mails():
    mailers = {
        "default": {"BACKEND": OURS, "OPTIONS": {"using": "out", "rate_limit": "ses"}},
        "out": {"BACKEND": SMTP, "OPTIONS": {"host": "email-smtp.eu-west-1.amazonaws.com"}},
        "other": {"BACKEND": OURS, "OPTIONS": {"using": "elsewhere"}},
        "elsewhere": {"BACKEND": SMTP, "OPTIONS": {"host": "mail.example.com"}},
        "wrong": {"BACKEND": OURS, "OPTIONS": {"using": "out", "rate_limit": "14/s"}},
    }
    with override_settings(MAILERS=mailers):
        assert mail.mailers["default"].using == "out"
        assert options.asks_for_ses_rate("out")
        assert options.asks_for_ses_rate(None)  # sent before there were mailers
        assert not options.asks_for_ses_rate("elsewhere")
        assert account_of(*options.delivery_options("out", {})) == Account("eu-west-1")
        with pytest.raises(ImproperlyConfigured, match="rate_limit"):
            assert mail.mailers["wrong"]


def test_a_test_of_a_project_sends_without_it():
    app = Celery("proj")
    app.conf.lambda_tasks = ["*"]
    with (
        override_settings(
            EMAIL_BACKEND=OURS,
            CELERY_EMAIL_BACKEND="django.core.mail.backends.locmem.EmailBackend",
            CELERY_EMAIL_RATE_LIMIT="ses",
        ),
        LambdaCeleryQueue(app) as queue,
    ):
        mail.outbox = []
        mail.send_mail("s", "b", "f@example.com", ["ann@example.com"])
        queue.run()

        assert [each.to for each in mail.outbox] == [["ann@example.com"]]
