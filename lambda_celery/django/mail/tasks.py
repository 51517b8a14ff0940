"""The tasks of mails. They are registered in each process, and load nothing before they run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from celery import Task
from django.conf import settings

from lambda_celery.django.mail.options import DELIVER
from lambda_celery.task import task

#: The name that django-celery-email gives its task, if the settings give no other.
_CELERY_EMAIL_NAME = "djcelery_email_send_multiple"

_configured: Mapping[str, Any] = getattr(settings, "CELERY_EMAIL_TASK_CONFIG", {})
#: Without a limit of retries: what a mailer's own troubles make of them has none. So nothing but
#: these tasks may retry, or a mail that is refused for good would be sent for ever.
_OPTIONS = {"ignore_result": True, **_configured, "max_retries": None, "autoretry_for": ()}


@task(**{**_OPTIONS, "bind": True, "name": DELIVER})
def deliver(
    self: Task,
    mail: Mapping[str, Any],
    using: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    attempt: int = 0,
    only: Sequence[str] | None = None,
    closed: bool = False,
) -> int:
    """Deliver a mail that :func:`~lambda_celery.django.mail.form.mail_to_json` has made.

    Returns how many were sent: one, if the back end that delivers has not dropped it.

    :param using: the mailer that delivers, as ``MAILERS`` names it.
    :param arguments: those of the back end that delivers, where there are no mailers.
    :param attempt: how often the server has put it off for a reason of the mail's own.
    :param only: the recipients that have yet to get it; all, if that is ``None``.
    :param closed: its mailer was left alone for what this mail was told.
    """
    from lambda_celery.django.mail.delivery import deliver_mail

    return deliver_mail(self, mail, using, arguments, attempt, only, closed)


@task(**{"name": _CELERY_EMAIL_NAME, **_OPTIONS, "bind": False})
def send_emails(
    messages: Any,
    backend_kwargs: Mapping[str, Any] | None = None,
    *,
    using: str | None = None,
    **arguments: Any,
) -> int:
    """Publish what django-celery-email had put on the queue: each mail as one of ours.

    Parameters are those of its task ``send_emails``, and of that of its fork.
    """
    from lambda_celery.django.mail.celery_email import read_messages
    from lambda_celery.django.mail.publishing import publish, to_form

    forms = [to_form(each) for each in read_messages(messages)]
    publish(forms, using, {**(backend_kwargs or {}), **arguments})
    return len(forms)
