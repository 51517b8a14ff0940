"""A mail as one JSON object, and back: all that Django and its packages know of it.

What travels is the mail's own attributes, and not its MIME text: a delivery back end such as
django-anymail's reads the attributes, and Django makes the MIME text of them when it sends.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.message import Message
from typing import Any, Protocol

from django.core.mail import EmailAlternative, EmailAttachment, EmailMessage, EmailMultiAlternatives
from django.utils.module_loading import import_string

from lambda_celery.django.mail.parts import read_part, write_part
from lambda_celery.django.mail.values import from_json, to_json
from lambda_celery.exceptions import UnsupportedMailError

#: The alternatives; and where a class has a property for them.
ALTERNATIVES = frozenset({"alternatives", "_alternatives"})
#: The connection stays behind: the delivery back end opens one of its own.
_LEFT_BEHIND = frozenset({"connection", "_connection"})


class Contents(Protocol):
    """Where the contents of large attachments are kept."""

    def keep(self, content: bytes) -> dict[str, Any] | None:
        """Return where *content* is kept; ``None`` if it is to stay in the message."""

    def fetch(self, kept: Mapping[str, Any]) -> bytes:
        """Return the content that is *kept* there."""


def mail_to_json(mail: EmailMessage, contents: Contents) -> dict[str, Any]:
    """Return *mail* as one object in JSON's types.

    :raises UnsupportedMailError: a part of it cannot travel; the sentence names the part.
    """
    cls = type(mail)
    path = f"{cls.__module__}.{cls.__qualname__}"
    try:
        is_found = import_string(path) is cls
    except ImportError:
        is_found = False
    if not is_found:
        raise UnsupportedMailError(
            f"The mail's class {path} cannot be imported by that name. Move it to the top level of "
            "a module that is deployed with the function."
        )
    new = vars(_new(cls))
    attributes: dict[str, Any] = {}
    for name, value in vars(mail).items():
        if name in _LEFT_BEHIND or _is_unset(value, new.get(name, _ABSENT)):
            continue
        try:
            attributes[name] = _attribute_to_json(name, value, contents)
        except UnsupportedMailError as exc:
            raise UnsupportedMailError(f"The mail's attribute {name} cannot travel. {exc}") from exc
    return {"class": path, "attributes": attributes}


def mail_from_json(form: Mapping[str, Any], contents: Contents) -> EmailMessage:
    """Return the mail that :func:`mail_to_json` was given.

    :raises UnsupportedMailError: this process cannot read it.
    """
    path = form["class"]
    try:
        cls = import_string(path)
    except ImportError as exc:
        raise UnsupportedMailError(
            f"The mail's class {path} cannot be imported here: {exc}. Deploy the function with the "
            "code of the process that sends."
        ) from exc
    if not (isinstance(cls, type) and issubclass(cls, EmailMessage)):
        raise UnsupportedMailError(f"{path} is no class of Django's mails.")
    mail = _new(cls)
    for name, value in form["attributes"].items():
        if name == "attachments":
            mail.attachments = [_attachment_from_json(each, contents) for each in value]
        elif name in ALTERNATIVES:
            setattr(mail, name, [EmailAlternative(*map(from_json, each)) for each in value])
        else:
            setattr(mail, name, from_json(value))
    return mail


def _attribute_to_json(name: str, value: Any, contents: Contents) -> Any:
    if name == "attachments":
        return [_attachment_to_json(each, contents) for each in value]
    if name in ALTERNATIVES:
        return [[to_json(part) for part in each] for each in value]
    return to_json(value)


_ABSENT = object()


def _new(cls: type[EmailMessage]) -> EmailMessage:
    """Return a mail of *cls* as it is before anything is known of it."""
    try:
        return cls()
    except Exception:  # noqa: BLE001 - a constructor that asks for more, or does more
        made: EmailMessage = object.__new__(cls)
        if isinstance(made, EmailMultiAlternatives):
            EmailMultiAlternatives.__init__(made)
        else:
            EmailMessage.__init__(made)
        return made


def _is_unset(value: Any, new: Any) -> bool:
    """Whether *value* is an object that a *new* mail of its class has as well.

    Such as the status of what has not been sent. Plain values travel, whatever they are: the
    settings that gave them may be others there.
    """
    if type(value).__module__ == "builtins" and not isinstance(value, type):
        return False
    return value is new or (
        type(value) is type(new)
        and getattr(value, "__dict__", _ABSENT) == getattr(new, "__dict__", None)
    )


def _attachment_to_json(attachment: Any, contents: Contents) -> dict[str, Any]:
    if isinstance(attachment, Message):
        return _content_to_json(attachment, contents)
    if not isinstance(attachment, (tuple, list)):
        raise UnsupportedMailError(
            f"{type(attachment).__qualname__} is no attachment. Attach a file name with its "
            "content, or one of Python's MIME parts."
        )
    return {
        "named": isinstance(attachment, EmailAttachment),
        # The file's name, its content and its type, as far as they are given.
        "parts": [_content_to_json(part, contents) for part in attachment],
    }


def _attachment_from_json(form: Mapping[str, Any], contents: Contents) -> Any:
    if "parts" not in form:
        return _content_from_json(form, contents)
    parts = [_content_from_json(part, contents) for part in form["parts"]]
    return EmailAttachment(*parts) if form["named"] else tuple(parts)


def _content_to_json(content: Any, contents: Contents) -> dict[str, Any]:
    if isinstance(content, EmailMessage):
        return {"mail": mail_to_json(content, contents)}
    if isinstance(content, Message):
        name, data = write_part(content)
        return {"mime": name} | _kept(data, contents)
    if isinstance(content, (bytes, bytearray, memoryview)):
        return _kept(bytes(content), contents)
    if isinstance(content, str) and (kept := contents.keep(content.encode(*_UTF8))):
        return {"text": True, "kept": kept}
    return {"value": to_json(content)}


def _kept(data: bytes, contents: Contents) -> dict[str, Any]:
    kept = contents.keep(data)
    return {"kept": kept} if kept else {"value": to_json(data)}


def _content_from_json(form: Mapping[str, Any], contents: Contents) -> Any:
    if "mail" in form:
        return mail_from_json(form["mail"], contents)
    content = contents.fetch(form["kept"]) if "kept" in form else from_json(form["value"])
    if "mime" in form:
        return read_part(form["mime"], content)
    return content.decode(*_UTF8) if "text" in form else content


#: A text may hold what is no Unicode, as Django's own mails may.
_UTF8 = ("utf-8", "surrogatepass")
