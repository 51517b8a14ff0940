"""Connections to one endpoint of AWS that are kept: a request's bytes in, the answer out.

urllib3, which botocore uses, and http.client take two and a half times as long for the same.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections import deque
from typing import NamedTuple

from lambda_celery.aws.answers import Answer, AnswerReader
from lambda_celery.aws.bounded import seconds_left

#: Lambda freezes a process with its connections, and nobody tells it of those that end meanwhile.
_MAXIMUM_IDLE_SECONDS = 20
#: How much is read at a time.
READ_BYTES = 262_144


class Patience(NamedTuple):
    """How long is waited for the other side, and how many connections are kept for nobody."""

    connect_seconds: float
    read_seconds: float
    maximum_idle: int


class Connection:
    """One connection, which one thread at a time uses."""

    def __init__(self, made: socket.socket) -> None:
        self.socket = made
        self._used_at = time.time()  # monotonic clocks may stand still in the freeze
        self._poll = select.poll()
        self._poll.register(made, select.POLLIN)

    @property
    def is_fresh(self) -> bool:
        """Whether it can probably take a request: the other side has not ended it."""
        is_idle_for_long = not 0 <= time.time() - self._used_at < _MAXIMUM_IDLE_SECONDS
        return not is_idle_for_long and not self._poll.poll(0)

    def note_use(self) -> None:
        """Begin to count how long it is idle."""
        self._used_at = time.time()

    def close(self) -> None:
        """End it."""
        self.socket.close()


class Connections:
    """The connections to *host*: as many as threads ask at the same time.

    :param context: TLS's; ``None`` for plain HTTP.
    """

    def __init__(
        self, host: str, port: int, context: ssl.SSLContext | None, patience: Patience
    ) -> None:
        self._address = host, port
        self._context = context
        self._patience = patience
        self._idle: deque[Connection] = deque()

    def exchange(self, request: bytes) -> Answer:
        """Send *request*, and return what is answered. It ends with the invocation at the latest.

        :raises OSError: there is no connection, or it has ended, or the time has.
        :raises UnusualAnswerError: what came is none that is read here.
        """
        ends_at = time.monotonic() + min(self._patience.read_seconds, seconds_left())
        connection = self.take()
        try:
            self._limit(connection, ends_at)
            connection.socket.sendall(request)
            reader = AnswerReader()
            while (answer := reader.feed(connection.socket.recv(READ_BYTES))) is None:
                self._limit(connection, ends_at)
        except BaseException:  # a time limit of a task's, too: half an answer may be on its way
            connection.close()
            raise
        if answer.keep_alive:
            self.put_back(connection)
        else:
            connection.close()
        return answer

    def _limit(self, connection: Connection, ends_at: float) -> None:
        left = ends_at - time.monotonic()
        if left <= 0:
            raise TimeoutError("AWS has not answered in time.")
        connection.socket.settimeout(left)

    def put_back(self, connection: Connection) -> None:
        """Keep *connection*, which waits for no answer, for the next request."""
        if len(self._idle) >= self._patience.maximum_idle:
            connection.close()
            return
        connection.note_use()
        self._idle.append(connection)

    def take(self) -> Connection:
        """Return a connection for one request, which is to be closed or put back."""
        while True:
            try:
                connection = self._idle.pop()  # the one used last
            except IndexError:
                return self._connect()
            if connection.is_fresh:
                return connection
            connection.close()

    def close(self) -> None:
        """End those that wait for a request; the next one has a connection of its own."""
        while self._idle:
            self._idle.pop().close()

    def _connect(self) -> Connection:
        seconds = min(self._patience.connect_seconds, seconds_left() / 4)
        if seconds <= 0:
            raise TimeoutError("There is no time left to connect to AWS.")
        made = socket.create_connection(self._address, seconds)
        try:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if self._context is not None:
                made = self._context.wrap_socket(made, server_hostname=self._address[0])
        except BaseException:
            made.close()
            raise
        return Connection(made)
