"""``manage.py check --deploy``: the rules of ``celery lambda check`` that concern settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery.app import app_or_default
from django.core.checks import ERROR, INFO, WARNING, CheckMessage, Error, Warning, register  # noqa: A004 - Django's name

from lambda_celery.django.management.app_name import loaded_app_name

if TYPE_CHECKING:
    from lambda_celery.check.model import Finding

#: The number of each rule among this app's checks. One that has been given stays.
_NUMBERS = {
    "queue-url": 11,
    "refused-setting": 12,
    "unknown-setting": 13,
    "function-limits": 14,
    "time-limit": 15,
    "limit-order": 16,
    "record-life": 17,
    "backoff-order": 18,
    "always-eager": 19,
    "pickle": 20,
    "serializer": 21,
    "database-connections": 22,
    "connection-life": 23,
    "server-side-cursors": 24,
    "direct-calls": 25,
}


@register("lambda_celery", deploy=True)
def check_deployment(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:  # noqa: ARG001 - Django's own names
    """Return what the rules find in the settings of the Celery app that Django has loaded."""
    name = loaded_app_name()
    if name is None:
        return []
    # Here: no web process and no function needs the rules.
    try:
        from lambda_celery.check.doctor import check
        from lambda_celery.check.facts import Facts
        from lambda_celery.check.model import CheckError
    except ModuleNotFoundError as exc:
        hint = "Run `pip install 'lambda-celery[deploy]'` where this check runs."
        sentence = f"The settings for Lambda could not be checked: {exc}."
        return [Warning(sentence, hint=hint, id="lambda_celery.W010")]

    try:
        report = check(Facts.collect(app_or_default(), Path.cwd(), name), _NUMBERS)
    except CheckError as exc:
        hint = "Correct that: the settings for Lambda could not be checked."
        return [Error(str(exc), hint=hint, id="lambda_celery.E010")]
    return [_message(each) for each in report.findings]


def _message(finding: Finding) -> CheckMessage:
    from lambda_celery.check.model import Grade

    level, letter = {
        Grade.RED: (ERROR, "E"),
        Grade.AMBER: (WARNING, "W"),
        Grade.GREEN: (INFO, "I"),
    }[finding.grade]
    return CheckMessage(
        level,
        finding.sentence,
        hint=f"{finding.remedy} docs/check.md#{finding.rule} says more.",
        obj=finding.subject,
        id=f"lambda_celery.{letter}{_NUMBERS[finding.rule]:03}",
    )
