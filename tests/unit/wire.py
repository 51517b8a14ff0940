"""A server on loopback that stands in for AWS: what it is asked, and what it answers, is told."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from typing import Any, NamedTuple


class Sent(NamedTuple):
    """A request, as it came over the wire."""

    method: str
    path: str
    headers: Message
    body: bytes


class Wire:
    """Each request gets the next of the answers, the last one for ever."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.connections = 0
        self._answers: list[bytes | Callable[[Sent], bytes]] = []
        self._lock = threading.Lock()
        wire = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                wire.connections += 1

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                given = wire._given(Sent(self.command, self.path, self.headers, body))
                self.wfile.write(given)
                self.close_connection = given == LOST

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128  # what does not fit is tried again after a second

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    @contextmanager
    def serving(self) -> Iterator[Wire]:
        """Serve within the context."""
        serve = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        serve.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            self.server.server_close()

    def answers(self, *answers: bytes | Callable[[Sent], bytes]) -> None:
        """Answer so from now on, and forget what was sent."""
        self._answers = list(answers)
        self.sent.clear()

    def _given(self, sent: Sent) -> bytes:
        with self._lock:
            self.sent.append(sent)
            given = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return given if isinstance(given, bytes) else given(sent)


#: The connection ends without an answer.
LOST = b""


def answer(status: int, body: dict[str, Any] | str) -> bytes:
    content = (body if isinstance(body, str) else json.dumps(body)).encode()
    return b"HTTP/1.1 %d Told\r\nContent-Length: %d\r\n\r\n" % (status, len(content)) + content
