"""Values of a mail as JSON, and back: each comes back as what it was.

Which serializer an app uses is its choice, and none keeps all of them: what Django's classes and
their packages hang on a mail must survive any.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from email.charset import Charset
from typing import Any, NamedTuple

from django.utils.functional import Promise
from django.utils.safestring import SafeString

from lambda_celery.exceptions import UnsupportedMailError

#: The one key of a JSON object that stands for another value begins so.
_MARK = "!"


def to_json(value: Any) -> Any:
    """Return *value* in JSON's types.

    :raises UnsupportedMailError: it is of a type that cannot travel.
    """
    if isinstance(value, Promise):  # in the language of whoever sends
        value = str(value)
    kind = type(value)
    if value is None or kind in (str, int, float, bool):
        return value
    if kind is list:
        return [to_json(each) for each in value]
    if isinstance(value, Mapping):
        return _mapping(value)
    for mark, form in _FORMS.items():
        if kind is form.kind:
            return {_MARK + mark: form.write(value)}
    for plain in (str, int, float):  # a member of an enumeration
        if isinstance(value, plain):
            return plain(value)
    raise UnsupportedMailError(
        f"A value of the type {kind.__module__}.{kind.__qualname__} cannot travel to Lambda. Give "
        "the mail what it needs of that as text, numbers, dates, lists and dicts."
    )


def from_json(value: Any) -> Any:
    """Return what :func:`to_json` was given.

    :raises UnsupportedMailError: a newer version has written it.
    """
    if isinstance(value, list):
        return [from_json(each) for each in value]
    if not isinstance(value, dict):
        return value
    [key, *more] = value or [""]
    if more or not key.startswith(_MARK):
        return {key: from_json(each) for key, each in value.items()}
    form = _FORMS.get(key.removeprefix(_MARK))
    if form is None:
        raise UnsupportedMailError(
            f"The mail has a value of the form {key!r}, which this version does not know: deploy "
            "the function with the version of the process that sends."
        )
    return form.read(value[key])


class _Form(NamedTuple):
    """How values of a type are written and read."""

    kind: type
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


def _mapping(value: Mapping[Any, Any]) -> dict[str, Any]:
    is_plain = all(type(key) is str for key in value)
    if is_plain and not (len(value) == 1 and next(iter(value)).startswith(_MARK)):
        return {key: to_json(each) for key, each in value.items()}
    pairs = [[to_json(key), to_json(each)] for key, each in value.items()]
    return {f"{_MARK}dict": pairs}


def _all(values: Sequence[Any]) -> list[Any]:
    return [to_json(each) for each in values]


def _in_base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _charset(value: Charset) -> list[Any]:
    return [value.input_charset, value.header_encoding, value.body_encoding, value.output_charset]


def _read_charset(parts: list[Any]) -> Charset:
    made = Charset(parts[0])
    made.header_encoding, made.body_encoding, made.output_charset = parts[1:]
    return made


_FORMS: Mapping[str, _Form] = {
    "bytes": _Form(bytes, _in_base64, base64.b64decode),
    "charset": _Form(Charset, _charset, _read_charset),
    "date": _Form(date, date.isoformat, date.fromisoformat),
    "datetime": _Form(datetime, datetime.isoformat, datetime.fromisoformat),
    "decimal": _Form(Decimal, str, Decimal),
    "dict": _Form(
        dict, _mapping, lambda pairs: {from_json(key): from_json(each) for key, each in pairs}
    ),
    "frozenset": _Form(frozenset, _all, lambda all_: frozenset(map(from_json, all_))),
    "safe": _Form(SafeString, str, SafeString),
    "seconds": _Form(
        timedelta,
        lambda value: [value.days, value.seconds, value.microseconds],
        lambda parts: timedelta(*parts),
    ),
    "set": _Form(set, _all, lambda all_: set(map(from_json, all_))),
    "time": _Form(time, time.isoformat, time.fromisoformat),
    "tuple": _Form(tuple, _all, lambda all_: tuple(map(from_json, all_))),
    "uuid": _Form(uuid.UUID, str, uuid.UUID),
}
