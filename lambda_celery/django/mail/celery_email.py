"""What django-celery-email, and its fork django-celery-email-reboot, have put on the queue."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import django
from django.conf import settings
from django.core.mail import EmailMessage
from django.utils.module_loading import import_string

from lambda_celery.django.mail.parts import read_part

#: Attributes of a mail that its constructor does not take.
_SET_LATER = ("content_subtype", "mixed_subtype", "alternative_subtype")


def read_messages(messages: Any) -> list[EmailMessage]:
    """Return the mails of a call of its task: one or several, as dicts or as mails."""
    several = messages if isinstance(messages, (list, tuple)) else [messages]
    return [each if isinstance(each, EmailMessage) else _read(each) for each in several]


def _read(form: Mapping[str, Any]) -> EmailMessage:
    fields = dict(form)
    fields["attachments"] = list(_attachments(fields.pop("attachments", ())))
    extra = getattr(settings, "CELERY_EMAIL_MESSAGE_EXTRA_ATTRIBUTES", None) or ()
    later = {name: fields.pop(name) for name in (*_SET_LATER, *extra) if name in fields}
    cls = _class("MULTI_ALTERNATIVES" if "alternatives" in fields else "MESSAGE")
    mail: EmailMessage = cls(**fields)
    for name, value in later.items():
        if name == "content_subtype" or name in extra or django.VERSION < (6, 0):
            vars(mail)[name] = value
    return mail


def _class(which: str) -> Any:
    default = "EmailMultiAlternatives" if which == "MULTI_ALTERNATIVES" else "EmailMessage"
    name = f"CELERY_EMAIL_{which}_CLASS"
    return import_string(getattr(settings, name, f"django.core.mail.{default}"))


def _attachments(forms: Sequence[Any]) -> Iterator[Any]:
    for form in forms:
        if isinstance(form, Mapping):
            name = "MIMEPart" if django.VERSION >= (6, 0) else "MIMEBase"
            yield read_part(name, base64.b64decode(form["mime"]))
            continue
        file_name, text, mimetype = form
        content: bytes | str = base64.b64decode(text)
        if isinstance(content, bytes) and mimetype and mimetype.startswith("text/"):
            content = content.decode()
        yield file_name, content, mimetype
