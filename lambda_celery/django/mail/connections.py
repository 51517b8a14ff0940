"""Connections to mail servers, kept between the mails of a process.

Lambda freezes a process between two invocations, and whoever is at the other end hangs up
meanwhile: what was idle for long is opened anew.
"""

from __future__ import annotations

import smtplib
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from lambda_celery.django.mail.options import mailer_name, make_delivery

#: One that was idle for longer is not tried any more.
_LONGEST_IDLE_SECONDS = 10.0
#: One that was idle for longer is asked whether it is still there.
_ASKED_AFTER_SECONDS = 1.0


class _Kept:
    """A back end with an open connection."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.used_at = time.time()

    def is_alive(self) -> bool:
        """Whether a mail may be sent by it; it is closed otherwise."""
        if not self.is_stale() and (
            self._idle_seconds() <= _ASKED_AFTER_SECONDS or _answers(self.backend)
        ):
            return True
        close(self.backend)
        return False

    def is_stale(self) -> bool:
        """Whether it was idle for so long that it is not tried any more."""
        return not 0 <= self._idle_seconds() <= _LONGEST_IDLE_SECONDS

    def _idle_seconds(self) -> float:
        # Not the monotonic clock: that stands still while Lambda freezes the process.
        return time.time() - self.used_at


class Connections:
    """The open connections of a process, by mailer. It may be used by several threads."""

    def __init__(self) -> None:
        self._idle: dict[str, list[_Kept]] = {}
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Leave the connections to the process that has opened them, and that has made this one."""
        self._idle, self._lock = {}, threading.Lock()

    @contextmanager
    def borrow(self, using: str | None, arguments: Mapping[str, Any]) -> Iterator[Any]:
        """Lend a back end for the block; it is closed where the block raises.

        Its connection may not be open: opening is the borrower's, to tell its faults apart.
        """
        name = mailer_name(using, arguments)
        backend = self._taken(name)
        if backend is None:
            backend = make_delivery(using, arguments)
        try:
            yield backend
        except BaseException:
            close(backend)
            raise
        with self._lock:
            self._idle.setdefault(name, []).append(_Kept(backend))
            stale = list(self._take_stale())
        for each in stale:
            close(each.backend)

    def _take_stale(self) -> Iterator[_Kept]:
        """Take out what nobody will use any more: a mailer may have no mails for days."""
        for name, all_ in list(self._idle.items()):
            stale = [each for each in all_ if each.is_stale()]
            yield from stale
            self._idle[name] = [each for each in all_ if each not in stale]
            if not self._idle[name]:
                del self._idle[name]

    def _taken(self, name: str) -> Any:
        while True:
            with self._lock:
                kept = self._idle.get(name)
                if not kept:
                    return None
                last = kept.pop()
            if last.is_alive():
                return last.backend


def close(backend: Any) -> None:
    """Close the connection of *backend*, whatever state it is in."""
    connection = getattr(backend, "connection", None)
    with suppress(Exception):
        if isinstance(connection, smtplib.SMTP):
            # Without QUIT: a server that is gone never answers it, and a mail would wait for that.
            connection.close()
            backend.connection = None
        backend.close()


def _answers(backend: Any) -> bool:
    connection = getattr(backend, "connection", None)
    if not isinstance(connection, smtplib.SMTP):
        return True
    try:
        code, _ = connection.noop()
    except (OSError, smtplib.SMTPException):
        return False
    return code == 250
