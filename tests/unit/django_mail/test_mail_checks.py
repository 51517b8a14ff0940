"""What ``manage.py check`` says of the settings of mail."""

from __future__ import annotations

import pytest
from django.test import override_settings

import tests.django_settings  # noqa: F401 - before what reads them
from lambda_celery.django.checks import check_mail

OURS = "lambda_celery.django.mail.EmailBackend"
BY_ITS_MODULE = "lambda_celery.django.mail.backend.EmailBackend"
SMTP = "django.core.mail.backends.smtp.EmailBackend"
CONSOLE = "django.core.mail.backends.console.EmailBackend"
ANYMAIL_SES = "anymail.backends.amazon_ses.EmailBackend"
SES_BY_SMTP = {"host": "email-smtp.eu-west-1.amazonaws.com", "timeout": 9}
#: With a back end that delivers, and asks for a rate.
ASKING = {"EMAIL_BACKEND": OURS, "EMAIL_TIMEOUT": 9, "CELERY_EMAIL_RATE_LIMIT": "ses"}


def publishing(using: str | None, **options: object) -> dict[str, object]:
    return {"BACKEND": OURS, "OPTIONS": {"using": using, **options} if using else {}}


def asking(rate: str, delivery: dict[str, object]) -> dict[str, object]:
    return {"MAILERS": {"default": publishing("out", rate_limit=rate), "out": delivery}}


@pytest.mark.parametrize(
    ("changed", "ids"),
    [
        ({"EMAIL_BACKEND": SMTP}, []),
        ({"EMAIL_BACKEND": OURS, "CELERY_EMAIL_BACKEND": CONSOLE}, []),
        ({"EMAIL_BACKEND": OURS, "EMAIL_TIMEOUT": 20}, []),
        ({"EMAIL_BACKEND": OURS}, ["lambda_celery.W001"]),
        ({"EMAIL_BACKEND": OURS, "CELERY_EMAIL_BACKEND": OURS}, ["lambda_celery.E001"]),
        (
            {"EMAIL_BACKEND": OURS, "CELERY_EMAIL_BACKEND": BY_ITS_MODULE},
            ["lambda_celery.E001"],
        ),
        ({"EMAIL_BACKEND": "absent.EmailBackend"}, []),
        ({"MAILERS": {"default": publishing("out"), "out": {"BACKEND": CONSOLE}}}, []),
        ({"MAILERS": {"default": publishing("out"), "out": {}}}, ["lambda_celery.W001"]),
        ({"MAILERS": {"default": publishing("out"), "out": {"OPTIONS": {"timeout": 9}}}}, []),
        ({"MAILERS": {"default": publishing(None)}}, ["lambda_celery.E002"]),
        ({"MAILERS": {"default": publishing("absent")}}, ["lambda_celery.E002"]),
        ({"MAILERS": {"default": publishing("default")}}, ["lambda_celery.E001"]),
        ({**ASKING, "CELERY_EMAIL_BACKEND": ANYMAIL_SES}, []),
        ({**ASKING, "CELERY_EMAIL_BACKEND": "django_ses.SESBackend"}, []),
        ({**ASKING, "CELERY_EMAIL_BACKEND": "proj.mail.OwnBackend"}, []),
        ({**ASKING, "EMAIL_HOST": SES_BY_SMTP["host"]}, []),
        (ASKING, ["lambda_celery.W002"]),
        ({**ASKING, "CELERY_EMAIL_BACKEND": CONSOLE}, ["lambda_celery.W002"]),
        (
            {**ASKING, "CELERY_EMAIL_BACKEND": "anymail.backends.postmark.EmailBackend"},
            ["lambda_celery.W002"],
        ),
        ({**ASKING, "CELERY_EMAIL_RATE_LIMIT": "14/s"}, ["lambda_celery.E003"]),
        (asking("ses", {"OPTIONS": SES_BY_SMTP}), []),
        (asking("ses", {"BACKEND": CONSOLE}), ["lambda_celery.W002"]),
        (asking("sess", {"BACKEND": ANYMAIL_SES}), ["lambda_celery.E003"]),
    ],
)
def test_settings_of_mail(changed, ids):
    with override_settings(**changed):
        assert [each.id for each in check_mail(None)] == ids
