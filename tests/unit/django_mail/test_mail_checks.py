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


def publishing(using: str | None) -> dict[str, object]:
    return {"BACKEND": OURS, "OPTIONS": {"using": using} if using else {}}


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
    ],
)
def test_settings_of_mail(changed, ids):
    with override_settings(**changed):
        assert [each.id for each in check_mail(None)] == ids
