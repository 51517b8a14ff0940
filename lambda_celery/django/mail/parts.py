"""MIME parts as bytes, and back: each of the class that Django and the delivery look at."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Mapping
from email.message import Message, MIMEPart
from email.mime.base import MIMEBase
from typing import Any, NamedTuple


class _ParsedMIMEBase(MIMEBase):
    """A :class:`MIMEBase` that the parser can make: the other one asks for its type first."""

    def __init__(self, policy: Any = email.policy.compat32) -> None:
        Message.__init__(self, policy=policy)


class _Parsed(NamedTuple):
    """How a part of one of Python's classes is parsed."""

    kind: type[Message]
    made: type[Message]
    policy: Any


#: Subclasses come before what they are made of.
_PARTS: Mapping[str, _Parsed] = {
    "EmailMessage": _Parsed(
        email.message.EmailMessage, email.message.EmailMessage, email.policy.default
    ),
    "MIMEPart": _Parsed(MIMEPart, MIMEPart, email.policy.default),
    "MIMEBase": _Parsed(MIMEBase, _ParsedMIMEBase, email.policy.compat32),
    "Message": _Parsed(Message, Message, email.policy.compat32),
}


def write_part(part: Message) -> tuple[str, bytes]:
    """Return the name of the class of *part*, for :func:`read_part`, and the part."""
    name = next(name for name, each in _PARTS.items() if isinstance(part, each.kind))
    # A header that is folded for the journey would stay so.
    policy = part.policy.clone(mangle_from_=False, max_line_length=0)
    return name, part.as_bytes(policy=policy)


def read_part(name: str, data: bytes) -> Message:
    """Return the part that :func:`write_part` was given."""
    found = _PARTS[name]
    made: Message = email.message_from_bytes(data, _class=found.made, policy=found.policy)
    return made
