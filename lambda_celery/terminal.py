"""What a person sees on a terminal."""

from __future__ import annotations

import os
from typing import TextIO


def is_coloured(stream: TextIO) -> bool:
    """Whether to write to *stream* in colours: a terminal's, unless NO_COLOR says otherwise.

    FORCE_COLOR says that a terminal is behind what is none.
    """
    is_terminal = stream.isatty() or bool(os.environ.get("FORCE_COLOR"))
    return is_terminal and not os.environ.get("NO_COLOR")


def printable(text: str) -> str:
    """Return *text* without what moves a terminal's cursor: whoever may send, wrote it."""
    return "".join(
        each if each.isprintable() or each in "\n\t" else each.encode("unicode_escape").decode()
        for each in text
    )
