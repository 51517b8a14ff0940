"""The mail back end: what Django is given to send goes to the queue."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.db import transaction

from lambda_celery.django.mail.options import (
    DELIVER,
    RATE_HINT,
    RATE_SETTING,
    SES_RATE,
    rate_setting,
)
from lambda_celery.django.mail.publishing import publish, to_form
from lambda_celery.exceptions import BatchPublishError, PublishError


class EmailBackend(BaseEmailBackend):
    """Publishes each mail as a task of its own, which another back end delivers.

    Where the project has ``MAILERS``, its ``OPTIONS`` are the arguments. Otherwise
    ``CELERY_EMAIL_BACKEND`` names the back end that delivers.

    :param using: the mailer that delivers.
    :param on_commit: publish when the transaction of the database commits.
    :param queue: the Celery queue of the mails, if it is not the task's.
    :param rate_limit: ``"ses"`` for the rate that SES allows; in ``MAILERS`` alone.
    """

    #: What delivers must not have it: a mail would go round and round.
    publishes_mails = True
    #: The task that each mail is.
    celery_task = DELIVER

    def __init__(
        self,
        fail_silently: bool = False,
        *,
        using: str | None = None,
        on_commit: bool = False,
        queue: str | None = None,
        rate_limit: str | None = None,
        **arguments: Any,
    ) -> None:
        alias = arguments.pop("alias", None)
        ignored = arguments.pop("_ignore_unknown_kwargs", None) or ()
        if alias is None:
            if rate_limit is not None:
                raise ImproperlyConfigured(
                    f"rate_limit is an option of MAILERS: set {RATE_SETTING} in the settings."
                )
            super().__init__()
        else:
            # Django names the options that nobody knows.
            unknown = {name: each for name, each in arguments.items() if name not in ignored}
            super().__init__(alias=alias, **unknown)
            arguments = {}
            if using is None or using == alias:
                raise ImproperlyConfigured(
                    f"MAILERS[{alias!r}]['OPTIONS'] must have 'using': the alias of the mailer "
                    "that delivers, which is another one."
                )
        asked = rate_setting() if alias is None else rate_limit
        if asked not in (None, SES_RATE):
            place = f"MAILERS[{alias!r}]['OPTIONS']['rate_limit']" if alias else RATE_SETTING
            raise ImproperlyConfigured(f"{place} is {asked!r}. {RATE_HINT}")
        if arguments.get("password"):
            raise ImproperlyConfigured(
                "A password does not go to the queue: set EMAIL_HOST_PASSWORD where the mails are "
                "delivered, or a mailer of its own in MAILERS."
            )
        self.fail_silently = fail_silently
        self.using = using
        self._on_commit = on_commit
        self._queue = queue
        self._arguments = {name: each for name, each in arguments.items() if each is not None}

    def send_messages(self, email_messages: Iterable[EmailMessage] | None) -> int:
        """Publish the mails, and return how many were published, or will be at the commit.

        :raises UnsupportedMailError: a mail holds what cannot travel.
        :raises PublishError: AWS did not take it, unless ``fail_silently`` is set.
        """
        try:
            forms = [to_form(each) for each in email_messages or () if each.recipients()]
            if self._on_commit:
                transaction.on_commit(lambda: self._publish(forms), robust=self.fail_silently)
            else:
                self._publish(forms)
        except PublishError as exc:
            if not self.fail_silently:
                raise
            return exc.sent if isinstance(exc, BatchPublishError) else 0
        return len(forms)

    def _publish(self, forms: list[dict[str, Any]]) -> None:
        publish(forms, self.using, self._arguments, self._queue)
