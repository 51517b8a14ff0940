"""What a person sees on a terminal."""

from __future__ import annotations

import os
from typing import TextIO


def is_coloured(stream: TextIO) -> bool:
    """Whether to write to *stream* in colours: a terminal's, unless NO_COLOR says otherwise."""
    return stream.isatty() and not os.environ.get("NO_COLOR")
