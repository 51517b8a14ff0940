"""The mail back end: what Django is given to send goes to the queue."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import django
from celery.app import app_or_default
from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import DNS_NAME, EmailMessage, make_msgid
from django.core.mail.backends.base import BaseEmailBackend
from django.db import transaction

from lambda_celery.django.mail.contents import contents_of
from lambda_celery.django.mail.delivery import REPRS, deliver
from lambda_celery.django.mail.form import mail_to_json
from lambda_celery.exceptions import BatchPublishError, PublishError
from lambda_celery.publishing.batch_block import batch

#: What Django raises for a line break in a header: from 6.0 on, Python's own error.
_HeaderError: type[ValueError] = ValueError if django.VERSION >= (6, 0) else mail.BadHeaderError


class EmailBackend(BaseEmailBackend):
    """Publishes each mail as a task of its own, which another back end delivers.

    Where the project has ``MAILERS``, its ``OPTIONS`` are the arguments. Otherwise
    ``CELERY_EMAIL_BACKEND`` names the back end that delivers.

    :param using: the mailer that delivers.
    :param on_commit: publish when the transaction of the database commits.
    :param queue: the Celery queue of the mails, if it is not the task's.
    """

    def __init__(
        self,
        fail_silently: bool = False,
        *,
        using: str | None = None,
        on_commit: bool = False,
        queue: str | None = None,
        **arguments: Any,
    ) -> None:
        alias = arguments.pop("alias", None)
        ignored = arguments.pop("_ignore_unknown_kwargs", None) or ()
        if alias is None:
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
        self.fail_silently = fail_silently
        self.using = using
        self._on_commit = on_commit
        self._queue = queue
        self._arguments = {name: each for name, each in arguments.items() if each is not None}

    def send_messages(self, email_messages: Sequence[EmailMessage] | None) -> int:
        """Publish the mails, and return how many were published, or will be at the commit.

        :raises UnsupportedMailError: a mail holds what cannot travel.
        :raises PublishError: AWS did not take it, unless ``fail_silently`` is set.
        """
        try:
            forms = [self._form(each) for each in email_messages or () if each.recipients()]
        except PublishError:
            if not self.fail_silently:
                raise
            return 0
        if self._on_commit:
            transaction.on_commit(lambda: self._publish(forms), robust=self.fail_silently)
            return len(forms)
        return self._publish(forms)

    def _form(self, message: EmailMessage) -> dict[str, Any]:
        contents = contents_of(app_or_default())
        headers = message.extra_headers
        names = {name.lower() for name in headers}
        _refuse_lines(message)
        if "message-id" in names:
            return mail_to_json(message, contents)
        # Whoever gets it twice, after a crash, can tell.
        message.extra_headers = {**headers, "Message-ID": make_msgid(domain=str(DNS_NAME))}
        try:
            return mail_to_json(message, contents)
        finally:
            message.extra_headers = headers

    def _publish(self, forms: Iterable[dict[str, Any]]) -> int:
        options = {"queue": self._queue} if self._queue else {}
        known = {"using": self.using, "arguments": self._arguments}
        kwargs = {name: each for name, each in known.items() if each}
        published = 0
        try:
            with batch():
                for form in forms:
                    deliver.apply_async((form,), kwargs, **REPRS, **options)
                    published += 1
        except PublishError as exc:
            if not self.fail_silently:
                raise
            return exc.sent if isinstance(exc, BatchPublishError) else 0
        return published


def _refuse_lines(message: EmailMessage) -> None:
    """Refuse what Django refuses when it makes the mail's text: a header with a line break."""
    headers = {"Subject": message.subject, "From": message.from_email, **message.extra_headers}
    lists = {"To": message.to, "Cc": message.cc, "Reply-To": message.reply_to, "Bcc": message.bcc}
    for name, value in [*headers.items(), *((n, v) for n, all_ in lists.items() for v in all_)]:
        text = str(value)
        if "\n" in text or "\r" in text:
            raise _HeaderError(
                f"Header values can't contain newlines (got {text!r} for header {name!r})"
            )
