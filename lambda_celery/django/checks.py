"""What ``manage.py check`` says of the settings: who reads them, and those of mail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from celery.app import app_or_default
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Tags, register
from django.utils.module_loading import import_string

from lambda_celery.celery_hooks.apps import is_made_by_celery
from lambda_celery.django.mail.options import (
    DEFAULT_DELIVERY,
    RATE_HINT,
    RATE_SETTING,
    SES_RATE,
    delivery_backend,
    publishes,
    rate_setting,
)
from lambda_celery.django.mail.ses_account import delivers_elsewhere

_PAGE = "docs/django-mail.md says more."


@register(Tags.compatibility)
def check_app(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:  # noqa: ARG001 - Django's own names
    """Return a warning where no Celery app reads the settings."""
    unread = sorted(name for name in dir(settings) if name.startswith("CELERY_LAMBDA_"))
    if not unread or not is_made_by_celery(app_or_default()):
        return []
    return [
        checks.Warning(
            f"Nothing reads {', '.join(unread)}: Django has loaded no Celery app.",
            hint="Make one in a celery.py beside the settings, and import it in the __init__.py "
            f"there, as Celery's guide for Django has it. {_PAGE}",
            id="lambda_celery.W003",
        )
    ]


@register(Tags.compatibility)
def check_mail(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:  # noqa: ARG001 - Django's own names
    """Return what is wrong with the back ends that send and that deliver."""
    mailers = getattr(settings, "MAILERS", None)
    return list(_of_settings() if mailers is None else _of_mailers(mailers))


def _of_settings() -> Iterator[CheckMessage]:
    if not _publishes(settings.EMAIL_BACKEND):
        return
    delivery = delivery_backend()
    if _publishes(delivery):
        yield Error(
            "CELERY_EMAIL_BACKEND is the back end that publishes: each mail would go to the queue "
            "again.",
            hint=f"Name the back end that delivers, such as {DEFAULT_DELIVERY}. {_PAGE}",
            id="lambda_celery.E001",
        )
    if delivery == DEFAULT_DELIVERY and settings.EMAIL_TIMEOUT is None:
        yield _without_timeout("EMAIL_TIMEOUT", None)
    yield from _of_rate(RATE_SETTING, rate_setting(), delivery, {}, None)


def _of_mailers(mailers: Mapping[str, Mapping[str, Any]]) -> Iterator[CheckMessage]:
    for alias, mailer in mailers.items():
        if not _publishes(mailer.get("BACKEND")):
            continue
        using = mailer.get("OPTIONS", {}).get("using")
        name = f"MAILERS[{alias!r}]"
        if using not in mailers:
            yield Error(
                f"{name} publishes mails, and {using!r}, its option 'using', is no mailer that "
                "could deliver them.",
                hint=f"Set 'using' in its OPTIONS to the alias of another mailer. {_PAGE}",
                obj=alias,
                id="lambda_celery.E002",
            )
            continue
        delivery = mailers[using]
        if _publishes(delivery.get("BACKEND")):
            yield Error(
                f"{name} delivers by MAILERS[{using!r}], which publishes as well: each mail would "
                "go to the queue again.",
                hint=f"Set 'using' to the alias of a mailer that delivers. {_PAGE}",
                obj=alias,
                id="lambda_celery.E001",
            )
        is_smtp = delivery.get("BACKEND", DEFAULT_DELIVERY) == DEFAULT_DELIVERY
        if is_smtp and delivery.get("OPTIONS", {}).get("timeout") is None:
            yield _without_timeout(f"MAILERS[{using!r}]['OPTIONS']['timeout']", using)
        asked = mailer["OPTIONS"].get("rate_limit")
        yield from _of_rate(
            f"{name}['OPTIONS']['rate_limit']",
            asked,
            delivery.get("BACKEND", DEFAULT_DELIVERY),
            delivery.get("OPTIONS", {}),
            alias,
        )


def _of_rate(
    setting: str, asked: Any, delivery: str, options: Mapping[str, Any], alias: str | None
) -> Iterator[CheckMessage]:
    if asked is None:
        return
    if asked != SES_RATE:
        yield Error(
            f"{setting} is {asked!r}.",
            hint=f"{RATE_HINT} {_PAGE}",
            obj=alias,
            id="lambda_celery.E003",
        )
    elif delivers_elsewhere(delivery, options):
        yield checks.Warning(
            f"{setting} asks for the rate of SES, and {delivery} does not deliver by SES.",
            hint=f"Leave it out, or deliver by SES. {_PAGE}",
            obj=alias,
            id="lambda_celery.W002",
        )


def _publishes(path: str | None) -> bool:
    """Whether the back end at *path* publishes: ours, by any of its names, or a subclass."""
    try:
        return path is not None and publishes(import_string(path))
    except ImportError:
        return False  # Django says so where it is used


def _without_timeout(setting: str, alias: str | None) -> CheckMessage:
    return checks.Warning(
        f"{setting} is not set: a mail server that does not answer holds a mail until the function "
        "is killed.",
        hint=f"Set it to some seconds, such as 20. {_PAGE}",
        obj=alias,
        id="lambda_celery.W001",
    )
