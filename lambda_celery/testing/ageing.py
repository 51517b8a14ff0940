"""Letting time pass for what is stored, since the runtime goes by the clock of the process.

A time that was written down is brought nearer by what has been let pass. To the runtime that is
the same as to come later.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

from celery.utils.time import maybe_iso8601
from kombu.utils.json import dumps

from lambda_celery.envelope import read_envelope
from lambda_celery.exceptions import UnreadableMessageError

#: The headers of a message that are times.
_TIME_HEADERS = ("eta", "expires")
#: The attributes of items that are times since the epoch, and how many of each are a second.
_TIME_ATTRIBUTES = {
    "expiration": 1,
    "ttl": 1,
    "until": 1,
    "in_progress_expiration": 1_000,
    "failed_at": 1_000,
    "retried_at": 1_000,
    "next": 1_000_000,
    "line": 1_000_000,
}


def aged_body(body: str, seconds: float) -> str:
    """Return the message's *body* as it looks *seconds* later: the same, if it has no times."""
    if not seconds:
        return body
    try:
        envelope = read_envelope(body)
    except UnreadableMessageError:
        return body
    headers = envelope.get("headers")
    times = [name for name in _TIME_HEADERS if isinstance(headers, Mapping) and headers.get(name)]
    if not times:
        return body
    for name in times:
        try:
            moved = maybe_iso8601(envelope["headers"][name]) - timedelta(seconds=seconds)
        except (TypeError, ValueError):  # none that anybody could read
            continue
        envelope["headers"][name] = moved.isoformat()
    text = str(dumps(envelope))
    return text if body.lstrip().startswith("{") else base64.b64encode(text.encode()).decode()


def aged_item(item: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Return DynamoDB's *item* as it looks *seconds* later."""
    aged = dict(item)
    for name, unit in _TIME_ATTRIBUTES.items():
        value = Decimal(item.get(name, {}).get("N", 0))
        if value:  # a lock of 0 was given up
            aged[name] = {"N": str(value - int(seconds * unit))}
    return aged
