"""Whose a file is: a line in it has the digest of what was written, for as long as it is ours."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import PurePath
from typing import Any

_MARK_TEXT = (
    "Written by celery lambda init, which updates this file while nobody else changes it. sha256:{}"
)
_MARK = re.compile(r"^.*\bcelery lambda init\b.*\bsha256:([0-9a-f]{32})\b.*\n?", re.MULTILINE)


def stamped(name: str, text: str) -> str:
    """Return *text* of the file *name*, with the line that :func:`written_digest` looks for."""
    if PurePath(name).suffix == ".json":
        # JSON has no comments. CDK passes over keys that it does not know.
        own = json.loads(text)
        mark = _MARK_TEXT.format(digest(name, _json(own)))
        return _json({"//": mark, **own})
    return f"# {_MARK_TEXT.format(digest(name, text))}\n{text}"


def _json(document: Any) -> str:
    return json.dumps(document, indent=2) + "\n"


def digest(name: str, text: str) -> str:
    """Return the digest of *text* of the file *name*, whether or not it has the line."""
    own = _MARK.sub("", text, count=1).replace("\r\n", "\n")
    if PurePath(name).suffix == ".tf":
        # `terraform fmt` changes nothing but blanks.
        own = " ".join(own.split())
    return hashlib.sha256(own.encode()).hexdigest()[:32]


def written_digest(text: str) -> str | None:
    """Return the digest of what was last written to a file with *text*; ``None`` if not by us."""
    found = _MARK.search(text)
    return found[1] if found else None


def is_unchanged(name: str, text: str) -> bool:
    """Whether *text* of the file *name* is what was written."""
    return written_digest(text) == digest(name, text)
