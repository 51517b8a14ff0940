"""Many requests at a time by one thread: a selector waits for the answers of all of them.

Threads that wait for one answer each take the interpreter from each other more often than they
work. Here the thread that makes the requests sends them as well, and reads what has come when it
has nothing to make.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from lambda_celery.aws.answers import Answer, AnswerReader, UnusualAnswerError
from lambda_celery.aws.bounded import seconds_left
from lambda_celery.aws.connections import READ_BYTES, Connection
from lambda_celery.aws.fast_requests import FAST_ERRORS, FastClient

_NOT_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

#: Given what AWS answered, or why it did not.
Done = Callable[[dict[str, Any] | Exception], None]


@dataclass(eq=False)
class _Line:
    """A connection, and the exchange on it, if there is one."""

    client: FastClient
    connection: Connection
    operation: str = ""
    done: Done | None = None
    unsent: memoryview = field(default_factory=lambda: memoryview(b""))
    waits_to_send: bool = False
    reader: AnswerReader = field(default_factory=AnswerReader)
    ends_at: float = 0.0


class Exchanges:
    """Up to *maximum* requests under way. For one thread; :meth:`wake` alone may be any's."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()
        for end in (self._woken, self._waker):
            end.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._idle: dict[FastClient, list[_Line]] = {}
        self._busy: set[_Line] = set()

    @property
    def has_room(self) -> bool:
        """Whether another request may start."""
        return len(self._busy) < self._maximum

    @property
    def are_under_way(self) -> bool:
        """Whether there are requests without an answer."""
        return bool(self._busy)

    def start(
        self, client: FastClient, operation: str, parameters: dict[str, Any], done: Done
    ) -> None:
        """Ask for *operation*; *done* is called, in :meth:`step`, with what comes of it.

        One of ``FAST_ERRORS`` is raised if it cannot be asked for in this way.
        """
        request = client.request(operation, parameters)
        line = self._line(client)
        line.operation, line.done = operation, done
        line.unsent, line.reader = memoryview(request), AnswerReader()
        line.ends_at = time.monotonic() + min(client.read_seconds, seconds_left())
        self._busy.add(line)
        self._go_on(line)

    def step(self, seconds: float | None = None) -> None:
        """Read what has come; wait for it if nothing has, or until somebody wakes this.

        :param seconds: how long it waits at most.
        """
        if self._busy:
            end = max(min(each.ends_at for each in self._busy) - time.monotonic(), 0.0)
            seconds = end if seconds is None else min(seconds, end)
        for key, _ in self._selector.select(seconds):
            if key.data is None:
                self._sleep_again()
            elif key.data in self._busy:
                self._go_on(key.data)
            else:  # nobody has asked: the other side has ended it
                with suppress(KeyError, ValueError):
                    self._idle[key.data.client].remove(key.data)
                self._end(key.data)
        now = time.monotonic()
        for each in [each for each in self._busy if each.ends_at <= now]:
            self._finish(each, TimeoutError("AWS has not answered in time."))

    def wake(self) -> None:
        """Have :meth:`step` return, now or when it is called."""
        with suppress(OSError):  # woken often enough, or closed meanwhile
            self._waker.send(b"!")

    def close(self) -> None:
        """End what is under way, of which nobody hears any more; keep the other connections."""
        for each in list(self._busy):
            self._end(each)
        self._busy.clear()
        for lines in self._idle.values():
            for each in lines:
                self._selector.unregister(each.connection.socket)
                each.client.connections.put_back(each.connection)
        self._idle.clear()
        self._selector.close()
        self._woken.close()
        self._waker.close()

    def _line(self, client: FastClient) -> _Line:
        idle = self._idle.get(client)
        while idle:
            line = idle.pop()
            if line.connection.is_fresh:
                return line
            self._end(line)
        connection = client.connections.take()
        connection.socket.setblocking(False)
        line = _Line(client, connection)
        self._selector.register(connection.socket, selectors.EVENT_READ, line)
        return line

    def _go_on(self, line: _Line) -> None:
        """Send and read on *line*, as far as that goes without waiting."""
        try:
            answer = self._answer(line) if not line.unsent or self._is_sent(line) else None
        except (OSError, UnusualAnswerError) as exc:
            self._finish(line, exc)
            return
        if answer is None:
            return
        result: dict[str, Any] | Exception
        try:
            result = line.client.read(line.operation, answer)
        except FAST_ERRORS as exc:  # who asked is told
            result = exc
        self._finish(line, result, keep=answer.keep_alive)

    def _answer(self, line: _Line) -> Answer | None:
        while True:  # TLS may hold more than the socket tells
            try:
                data = line.connection.socket.recv(READ_BYTES)
            except _NOT_YET:
                return None
            if (answer := line.reader.feed(data)) is not None:
                return answer

    def _is_sent(self, line: _Line) -> bool:
        while line.unsent:
            try:
                sent = line.connection.socket.send(line.unsent)
            except _NOT_YET:
                if not line.waits_to_send:
                    self._wait_for(line, selectors.EVENT_READ | selectors.EVENT_WRITE)
                return False
            line.unsent = line.unsent[sent:]
        if line.waits_to_send:
            self._wait_for(line, selectors.EVENT_READ)
        return True

    def _wait_for(self, line: _Line, events: int) -> None:
        self._selector.modify(line.connection.socket, events, line)
        line.waits_to_send = events != selectors.EVENT_READ

    def _finish(
        self, line: _Line, result: dict[str, Any] | Exception, *, keep: bool = False
    ) -> None:
        self._busy.discard(line)
        done, line.done = line.done, None
        try:
            if keep:
                line.connection.note_use()
                self._idle.setdefault(line.client, []).append(line)
            else:
                self._end(line)
        finally:
            if done is not None:
                done(result)

    def _end(self, line: _Line) -> None:
        with suppress(KeyError, ValueError):
            self._selector.unregister(line.connection.socket)
        line.connection.close()

    def _sleep_again(self) -> None:
        with suppress(BlockingIOError):
            while self._woken.recv(4096):
                pass
