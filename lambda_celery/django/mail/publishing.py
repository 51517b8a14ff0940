"""From mails to messages on the queue."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from email.message import Message
from email.utils import parseaddr
from itertools import chain
from typing import Any

import django
from celery.app import app_or_default
from django.core import mail
from django.core.mail import DNS_NAME, EmailMessage, make_msgid

from lambda_celery.django.mail.contents import contents_of
from lambda_celery.django.mail.form import ALTERNATIVES, mail_to_json
from lambda_celery.django.mail.options import DELIVER, REPRS
from lambda_celery.publishing.batch_block import batch
from lambda_celery.publishing.marks import id_in_run

#: What Django raises for a line break in a header: from 6.0 on, Python's own error.
_HeaderError: type[ValueError] = ValueError if django.VERSION >= (6, 0) else mail.BadHeaderError


_DOMAIN = re.compile(r"[A-Za-z0-9.-]+")


def to_form(message: EmailMessage) -> dict[str, Any]:
    """Return *message* as the task takes it, with a ``Message-ID`` of its own.

    :raises UnsupportedMailError: it holds what cannot travel.
    :raises PublishError: S3 does not take its attachments.
    :raises ValueError: a header, or an attachment's name or type, has a line break.
    """
    _refuse_lines(message)
    contents = contents_of(app_or_default())
    headers = message.extra_headers
    if any(name.lower() == "message-id" for name in headers):
        return mail_to_json(message, contents)
    # Whoever gets it twice, after a crash, can tell.
    message.extra_headers = {**headers, "Message-ID": ""}
    try:
        form = mail_to_json(message, contents)
    finally:
        message.extra_headers = headers
    form["attributes"]["extra_headers"]["Message-ID"] = _message_id(message, form)
    return form


def publish(
    forms: Iterable[dict[str, Any]],
    using: str | None,
    arguments: Mapping[str, Any],
    queue: str | None = None,
) -> None:
    """Publish mails, each as a task of its own.

    :param using: the mailer that delivers.
    :param arguments: those of the back end that delivers, where there are no mailers.
    :param queue: a Celery queue, if it is not the task's.
    :raises PublishError: AWS did not take some of them.
    """
    options = {"queue": queue} if queue else {}
    known = {"using": using, "arguments": dict(arguments)}
    kwargs = {name: each for name, each in known.items() if each}
    deliver = app_or_default().tasks[DELIVER]
    with batch():
        for form in forms:
            deliver.apply_async((form,), kwargs, **REPRS, **options)


def _message_id(message: EmailMessage, form: Mapping[str, Any]) -> str:
    """Return the ``Message-ID`` of a mail: the same one if the task that sends it runs again.

    By its arguments is known that a mail of that task has been published already.
    """
    if (known := id_in_run(json.dumps(form, sort_keys=True))) is None:
        drawn: str = make_msgid(domain=str(DNS_NAME))
        return drawn
    # Not this host's name, which another process does not have.
    _, _, domain = parseaddr(str(message.from_email))[1].rpartition("@")
    return f"<{known}@{domain if _DOMAIN.fullmatch(domain) else 'localhost'}>"


def _refuse_lines(message: EmailMessage) -> None:
    """Refuse what Django refuses when it makes the mail's text."""
    for name, value in _header_values(message):
        text = str(value)
        if "\n" in text or "\r" in text:
            raise _HeaderError(
                f"Header values can't contain newlines (got {text!r} for header {name!r})"
            )
    for each in message.attachments:
        for part in () if isinstance(each, Message) else each:
            if isinstance(part, EmailMessage):
                _refuse_lines(part)


def _header_values(message: EmailMessage) -> Iterator[tuple[str, Any]]:
    """Yield what becomes headers, of the mail and of its parts, with their names."""
    yield from {"Subject": message.subject, "From": message.from_email}.items()
    yield from message.extra_headers.items()
    lists = {"To": message.to, "Cc": message.cc, "Reply-To": message.reply_to, "Bcc": message.bcc}
    for name, values in lists.items():
        yield from ((name, each) for each in values)
    yield "Content-Type", message.content_subtype
    # Not those of a property: it would render a template here.
    for _, mimetype in chain.from_iterable(vars(message).get(each, ()) for each in ALTERNATIVES):
        yield "Content-Type", mimetype
    for each in message.attachments:
        if not isinstance(each, Message):  # as it travels, Python itself refuses its line breaks
            filename, _, mimetype = (*each, None, None, None)[:3]
            yield "Content-Disposition", filename
            yield "Content-Type", mimetype
