"""Where a mailer has its account of SES: as the back end that delivers is configured.

django-ses and django-anymail are told by their settings, and SMTP by its host. What they leave
open is boto3's to find.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from django.conf import settings
from django.utils.module_loading import import_string

from lambda_celery.django.mail.options import DEFAULT_DELIVERY, has_mailers

#: SES by SMTP: its endpoints, those for FIPS and those of a VPC.
_SMTP_HOST = re.compile(
    r"(?:[\w-]+\.)*email-smtp(?:-fips)?\.([a-z0-9-]+)\.(?:vpce\.)?amazonaws\.com(?:\.cn)?",
    re.IGNORECASE,
)
_ANYMAIL_SES = "anymail.backends.amazon_ses"
#: What django-ses has where nothing is set, whatever the environment says.
_DJANGO_SES_REGION = "us-east-1"
#: Of django-anymail's parameters, those that say whose account it is.
_CREDENTIALS = (
    "aws_access_key_id", "aws_secret_access_key", "aws_session_token", "profile_name",
)  # fmt: skip


class Account(NamedTuple):
    """Whose rate it is, and where to ask for it; ``None`` leaves it to boto3."""

    region: str | None = None
    endpoint_url: str | None = None
    #: As ``boto3.Session`` takes them.
    credentials: tuple[tuple[str, str], ...] = ()


def account_of(path: str, options: Mapping[str, Any]) -> Account:
    """Return the account of the back end at *path*.

    :param options: what it is made with.
    """
    modules = _modules(path)
    if any(each.startswith(_ANYMAIL_SES) for each in modules):
        return _of_anymail(options)
    if any(each.partition(".")[0] == "django_ses" for each in modules):
        return _of_django_ses(options)
    found = _SMTP_HOST.fullmatch(_smtp_host(options))
    return Account(found[1] if found else None)


def delivers_elsewhere(path: str, options: Mapping[str, Any]) -> bool:
    """Whether the back end at *path* is known to deliver by something else than SES."""
    modules = _modules(path)
    if any(each.startswith((_ANYMAIL_SES, "django_ses")) for each in modules):
        return False
    if path == DEFAULT_DELIVERY:
        return not _SMTP_HOST.fullmatch(_smtp_host(options))
    return path.startswith(("anymail.backends.", "django.core.mail.backends."))


def _smtp_host(options: Mapping[str, Any]) -> str:
    return str(options.get("host") or ("" if has_mailers() else settings.EMAIL_HOST))


def _modules(path: str) -> list[str]:
    """Return the modules of the class at *path* and of its bases: a project may have its own.

    There are none of a function that makes the back end, which Django takes as well.
    """
    try:
        return [each.__module__ for each in getattr(import_string(path), "__mro__", ())]
    except ImportError:
        return [path]  # Django says so where it is used


def _of_anymail(options: Mapping[str, Any]) -> Account:
    known: dict[str, Any] = {}
    of_all = getattr(settings, "ANYMAIL", {})
    for name in ("session_params", "client_params"):
        setting = f"AMAZON_SES_{name.upper()}"
        known |= (
            options.get(name) or of_all.get(setting) or getattr(settings, f"ANYMAIL_{setting}", {})
        )
    return _account(known.get("region_name"), known.get("endpoint_url"), known)


def _of_django_ses(options: Mapping[str, Any]) -> Account:
    def found(option: str, *names: str) -> Any:
        given = (getattr(settings, each, None) for each in names)
        return options.get(option) or next(filter(None, given), None)

    region = found("aws_region_name", "AWS_SES_REGION_NAME", "AWS_DEFAULT_REGION")
    endpoint = found("aws_region_endpoint", "AWS_SES_REGION_ENDPOINT_URL")
    if endpoint is None and (host := getattr(settings, "AWS_SES_REGION_ENDPOINT", None)):
        endpoint = f"https://{host}"
    profile = found("aws_session_profile", "AWS_SESSION_PROFILE")
    keys = {
        "aws_access_key_id": found("aws_access_key", "AWS_SES_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID"),
        "aws_secret_access_key": found(
            "aws_secret_key", "AWS_SES_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY"
        ),
        "aws_session_token": found(
            "aws_session_token", "AWS_SES_SESSION_TOKEN", "AWS_SESSION_TOKEN"
        ),
    }
    known = {"profile_name": profile} if profile else keys
    return _account(region or _DJANGO_SES_REGION, endpoint, known)


def _account(region: str | None, endpoint_url: str | None, known: Mapping[str, Any]) -> Account:
    credentials = tuple((name, str(known[name])) for name in _CREDENTIALS if known.get(name))
    return Account(region, endpoint_url, credentials)
