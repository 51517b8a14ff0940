"""The end of the invocation, which no call to AWS outlives: neither its waiting nor its repeats.

An AWS that accepts and does not answer would otherwise have the whole batch killed with the
function. All contact with the parts of botocore that wait is here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.retries import standard
from urllib3.util import Timeout

#: What a call is given that comes too late: enough to fail by itself.
_LEAST_SECONDS = 0.05
#: Of the invocation under way; there is one at a time in a process, and none in a producer.
_ends_at = math.inf


@contextmanager
def ending_at(epoch: float) -> Iterator[None]:
    """Have every call, of all threads, end by *epoch* (seconds) within the context."""
    global _ends_at
    _ends_at = epoch
    try:
        yield
    finally:
        _ends_at = math.inf


def seconds_left() -> float:
    """Return the seconds that a call may still take."""
    return _ends_at - time.time()


class _Bounded(Timeout):
    """A time-out that is never longer than what is left. urllib3 clones one for each request."""

    def clone(self) -> Timeout:
        left = max(seconds_left(), _LEAST_SECONDS)
        connect, read = float(self._connect), float(self._read)  # type: ignore[arg-type]
        # A name may have several addresses, and each is given the time to connect.
        return Timeout(total=left, connect=min(connect, left / 4), read=min(read, left))


def bind(client: Any, *, connect_seconds: float, read_seconds: float, attempts: int) -> None:
    """Have the requests of the boto3 *client* end with the invocation, and its repeats."""
    timeout = _Bounded(connect=connect_seconds, read=read_seconds)
    # Its pools are made with the first request.
    client._endpoint.http_session._manager.connection_pool_kw["timeout"] = timeout
    service = client.meta.service_model.service_id.hyphenize()
    event, name = f"needs-retry.{service}", f"retry-config-{service}"
    client.meta.events.unregister(event, unique_id=name)
    needs_retry = standard.register_retry_handler(client, attempts).needs_retry
    client.meta.events.unregister(event, unique_id=name)

    def needs_retry_in_time(**kwargs: Any) -> float | None:
        delay: float | None = needs_retry(**kwargs)
        return None if delay is not None and delay >= seconds_left() else delay

    client.meta.events.register(event, needs_retry_in_time, unique_id=name)
