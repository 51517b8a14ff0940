"""Connections to mail servers that are kept, and those that are not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from django.test import override_settings

import tests.django_settings  # noqa: F401 - before what reads them
from lambda_celery.django.mail import connections
from lambda_celery.django.mail.connections import Connections


class Listening:
    """A server that greets, answers HELO, and then says nothing more."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.heard: list[bytes] = []
        self.is_hung_up = threading.Event()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        taken, _ = self.socket.accept()
        with taken, taken.makefile("rb") as lines:
            taken.sendall(b"220 server\r\n")
            lines.readline()
            taken.sendall(b"250 server\r\n")
            self.heard += list(lines)
        self.is_hung_up.set()


@pytest.fixture
def silent() -> Iterator[Listening]:
    server = Listening()
    with override_settings(EMAIL_HOST="127.0.0.1", EMAIL_PORT=server.port):
        yield server
    server.thread.join()
    server.socket.close()


def test_a_connection_that_fails_is_closed_without_a_word(silent):
    with pytest.raises(LookupError), Connections().borrow(None, {}) as backend:
        backend.open()
        raise LookupError

    assert silent.is_hung_up.wait(30)
    assert silent.heard == []
    assert backend.connection is None


def test_a_connection_that_nobody_asks_for_is_not_kept_for_ever(silent, monkeypatch):
    kept = Connections()
    with kept.borrow(None, {"username": ""}) as backend:
        backend.open()
    monkeypatch.setattr(connections, "_LONGEST_IDLE_SECONDS", -1)

    with kept.borrow(None, {}):
        pass

    assert silent.is_hung_up.wait(30)
    assert silent.heard == []
