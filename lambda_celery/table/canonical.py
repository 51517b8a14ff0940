"""One text for equal data: for keys, which are compared as texts."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from collections.abc import Mapping, Set
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID


def canonical(value: Any) -> str:
    """Return one text for *value* and all that is equal to it.

    A text is itself, and so is what is written as one: a UUID, a date, a moment, which is in UTC.
    All else is JSON with sorted keys, as with Powertools' idempotency keys. In it ``1.0`` is
    ``1``, a tuple is a list, and a set is a sorted list.

    :raises TypeError: it is no data: its text would tell what object it is, not what it holds.
    """
    plain = _plain(value)
    return plain if isinstance(plain, str) else json.dumps(plain, sort_keys=True)


def _plain(value: Any) -> Any:
    match value:
        case Enum():
            plain = _plain(value.value)
        case None | bool() | str():
            plain = value
        case int():
            plain = int(value)
        case float() | Decimal():
            plain = _number(value)
        case Mapping():
            plain = {canonical(name): _plain(each) for name, each in value.items()}
        case Set():
            plain = sorted(map(_plain, value), key=lambda each: json.dumps(each, sort_keys=True))
        case list() | tuple():
            plain = [_plain(each) for each in value]
        case bytes() | bytearray() | memoryview():
            plain = base64.b64encode(value).decode()
        case datetime() if value.tzinfo is not None:
            plain = value.astimezone(UTC).isoformat()
        case date() | time():
            plain = value.isoformat()
        case timedelta():
            plain = _number(value.total_seconds())
        case UUID():
            plain = str(value)
        case _:
            plain = _plain(_fields(value))
    return plain


def _number(value: float | Decimal) -> int | str | float:
    if not math.isfinite(value):
        return str(value)
    if value == int(value):
        return int(value)
    return float(value) if value == float(value) else str(value.normalize())  # type: ignore[union-attr]


def _fields(value: Any) -> Mapping[str, Any]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    if callable(dump := getattr(value, "model_dump", None)):  # a model of pydantic's
        dumped: Mapping[str, Any] = dump()
        return dumped
    raise TypeError(
        f"A key is made of {value!r}, which is no data: give text, numbers, dates, lists or "
        "mappings, such as its primary key"
    )
