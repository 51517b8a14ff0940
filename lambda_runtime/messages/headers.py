"""What a message's headers may say: anybody who may send can write them.

What is wrong in them is found before anything is done for the message, and is a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lambda_celery.conf import Settings, setting_names
from lambda_celery.envelope import MARK_HEADER
from lambda_celery.exceptions import UnreadableMessageError

#: DynamoDB's keys have 2,048 bytes at most, and an id is part of one.
_MAXIMUM_ID_BYTES = 1024
#: What Python's timers take, with room: thirty years.
_MAXIMUM_LIMIT_SECONDS = 1e9


def check_headers(headers: Mapping[str, Any], settings: Settings) -> None:
    """Raise :exc:`UnreadableMessageError` if *headers*, of protocol 2, hold what none can mean."""
    for name in ("task", "id"):
        _check_text(name, headers.get(name))
    for name in ("root_id", "parent_id", "group", "shadow", MARK_HEADER):
        if headers.get(name) is not None:
            _check_text(name, headers[name])
    _check_retries(headers.get("retries"), settings)
    _check_number("replaced_task_nesting", headers.get("replaced_task_nesting"))
    _check_time_limits(headers.get("timelimit"))
    _check_stamps(headers, settings)


def check_embed(embed: Mapping[str, Any]) -> None:
    """Raise :exc:`UnreadableMessageError` if what is to follow the task is no signature."""
    for name in ("callbacks", "errbacks", "chain"):
        signatures = embed.get(name)
        if not signatures:
            continue
        if isinstance(signatures, Mapping):
            signatures = [signatures]
        if not (
            isinstance(signatures, list | tuple)
            and all(isinstance(each, Mapping) for each in signatures)
        ):
            raise UnreadableMessageError(f"Its {name} is {signatures!r}, not a list of signatures.")
    if embed.get("chord") and not isinstance(embed["chord"], Mapping):
        raise UnreadableMessageError(f"Its chord is {embed['chord']!r}, not a signature.")


def _check_text(name: str, value: Any) -> None:
    if isinstance(value, str) and value.isascii() and len(value) <= _MAXIMUM_ID_BYTES:
        return
    if not isinstance(value, str):
        raise UnreadableMessageError(f"Its {name} is {value!r}, not a string.")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as exc:  # JSON can write half a character
        raise UnreadableMessageError(f"Its {name} is no text that can be written: {exc}.") from exc
    if size > _MAXIMUM_ID_BYTES:
        raise UnreadableMessageError(
            f"Its {name} has {size} bytes, and {_MAXIMUM_ID_BYTES} are read."
        )


def _check_number(name: str, value: Any) -> None:
    is_number = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if value is not None and not is_number:
        raise UnreadableMessageError(f"Its {name} is {value!r}, not a whole number, 0 or more.")


def _check_retries(value: Any, settings: Settings) -> None:
    _check_number("retries", value)
    if value and value > settings.maximum_retries:
        raise UnreadableMessageError(
            f"Its retry number is over {settings.maximum_retries}, the limit that "
            f"{setting_names('maximum_retries')} sets."
        )


def _check_time_limits(value: Any) -> None:
    if not value:
        return
    if not (isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_limit, value))):
        raise UnreadableMessageError(f"Its timelimit is {value!r}, not two numbers of seconds.")


def _is_limit(value: Any) -> bool:
    if value is None:
        return True
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= value <= _MAXIMUM_LIMIT_SECONDS


def _check_stamps(headers: Mapping[str, Any], settings: Settings) -> None:
    names, stamps = headers.get("stamped_headers"), headers.get("stamps")
    if names is None and stamps in (None, {}):
        return
    if not (names is None or isinstance(names, list | tuple | set)):
        raise UnreadableMessageError(f"Its stamped_headers is {names!r}, not a list.")
    if not (stamps is None or isinstance(stamps, Mapping)):
        raise UnreadableMessageError(f"Its stamps is {stamps!r}, not a mapping.")
    looked_up = 0
    for name in names or ():
        _check_text("stamp", name)
        values = (stamps or {}).get(name)
        for value in values if isinstance(values, list | tuple | set) else [values]:
            if value is not None:
                _check_text("stamp", str(value))
            looked_up += 1
    if looked_up > settings.maximum_stamps:
        raise UnreadableMessageError(
            f"It has {looked_up} stamps, and {setting_names('maximum_stamps')} allows "
            f"{settings.maximum_stamps}, because each can be a look-up in the table."
        )
