"""The settings of the mail back end, as a Django project has them.

The names are those of django-celery-email, whose users change one line.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

BACKEND_PATH = "lambda_celery.django.mail.EmailBackend"
#: The name of the task that delivers.
DELIVER = "lambda_celery.django.mail.deliver"
#: A mail's text and addresses are nothing for headers and logs.
REPRS = {"argsrepr": "(<a mail>,)", "kwargsrepr": "{}"}
#: What delivers where no setting says so.
DEFAULT_DELIVERY = "django.core.mail.backends.smtp.EmailBackend"
#: The value that asks for the rate that SES allows, of this setting and of ``rate_limit``.
SES_RATE = "ses"
RATE_SETTING = "CELERY_EMAIL_RATE_LIMIT"
#: What to do about another value.
RATE_HINT = (
    f'Set it to "{SES_RATE}", or leave it out: a rate in figures is the rate_limit in '
    "CELERY_EMAIL_TASK_CONFIG."
)


def delivery_backend() -> str:
    """Return the path of the back end that delivers, where ``MAILERS`` is not set."""
    path: str = getattr(settings, "CELERY_EMAIL_BACKEND", DEFAULT_DELIVERY)
    return path


def has_mailers() -> bool:
    """Whether the project is configured by ``MAILERS``, which Django 6.1 has brought."""
    return hasattr(settings, "MAILERS") and hasattr(mail, "mailers")


def make_delivery(using: str | None, arguments: Mapping[str, Any]) -> Any:
    """Return the back end that delivers the mails of the mailer *using*.

    :param using: an alias of ``MAILERS``; ``None`` stands for ``CELERY_EMAIL_BACKEND``.
    :param arguments: what was given to ``get_connection``; only where *using* is ``None``.
    :raises ImproperlyConfigured: there is no such mailer, or it would publish the mail again.
    """
    using = _alias(using)
    made = import_string(delivery_backend())(**arguments) if using is None else _mailer(using)
    if publishes(made):
        name = f"The mailer {using!r}" if using else "CELERY_EMAIL_BACKEND"
        raise ImproperlyConfigured(
            f"{name} is {BACKEND_PATH} itself, which would send each mail to the queue again. "
            "Name the back end that delivers."
        )
    if vars(made).get("fail_silently"):
        # A mail that it drops without a word would be done.
        made.fail_silently = False
    return made


def mailer_name(using: str | None, arguments: Mapping[str, Any]) -> str:
    """Return the name of what :func:`make_delivery` returns for the same parameters.

    No mailer's name is that of ``CELERY_EMAIL_BACKEND``, whatever its alias.
    """
    if (alias := _alias(using)) is not None:
        return f"MAILERS[{alias!r}]"
    if not arguments:
        return "CELERY_EMAIL_BACKEND"
    # Another server, or another account, whose troubles and connections are its own.
    text = json.dumps(sorted(arguments.items()), default=str)
    return f"CELERY_EMAIL_BACKEND/{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def delivery_options(
    using: str | None, arguments: Mapping[str, Any]
) -> tuple[str, Mapping[str, Any]]:
    """Return the path of what :func:`make_delivery` returns, and what it is made with."""
    if (alias := _alias(using)) is None:
        return delivery_backend(), arguments
    mailer = _configured(alias).get(alias, {})
    return mailer.get("BACKEND", DEFAULT_DELIVERY), mailer.get("OPTIONS", {})


def asks_for_ses_rate(using: str | None) -> bool:
    """Whether the mails of the mailer *using* are to go at the rate that SES allows."""
    if (alias := _alias(using)) is None:
        return bool(rate_setting() == SES_RATE)
    options = [each.get("OPTIONS", {}) for each in _configured(alias).values()]
    asked = [each.get("rate_limit") for each in options if each.get("using") == alias]
    return SES_RATE in asked


def rate_setting() -> Any:
    """Return the rate that is asked for where ``MAILERS`` is not set."""
    return getattr(settings, RATE_SETTING, None)


def _alias(using: str | None) -> str | None:
    """Return the mailer that delivers; ``None`` stands for ``CELERY_EMAIL_BACKEND``."""
    if using is not None or not has_mailers():
        return using
    # It was sent before the project had mailers.
    default = _mailer("default")
    found: str = default.using if publishes(default) else "default"
    return found


def _configured(alias: str) -> Mapping[str, Mapping[str, Any]]:
    """Return ``MAILERS``, for the mailer *alias*.

    :raises ImproperlyConfigured: whoever sent the mail has them, and this process has not.
    """
    if not has_mailers():
        raise ImproperlyConfigured(
            f"The mail was sent for the mailer {alias!r}, and there are no MAILERS here: deploy "
            "the function with the settings, and the Django, of the process that sends."
        )
    mailers: Mapping[str, Mapping[str, Any]] = settings.MAILERS
    return mailers


def _mailer(alias: str) -> Any:
    _configured(alias)
    return mail.mailers[alias]  # type: ignore[attr-defined,unused-ignore]


def publishes(backend: Any) -> bool:
    """Whether *backend*, or a class of them, sends mails to the queue, and delivers none."""
    return getattr(backend, "publishes_mails", False) is True
