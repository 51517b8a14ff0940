"""Connections that are kept: what comes in pieces, ends, stalls, or is not what it should be."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lambda_celery.aws.answers import AnswerReader, UnusualAnswerError
from lambda_celery.aws.bounded import ending_at
from lambda_celery.aws.connections import Connections, Patience

PATIENCE = Patience(connect_seconds=5, read_seconds=5, maximum_idle=2)
ANSWER = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 5\r\n\r\nhello"


class TestAnswers:
    @pytest.mark.parametrize("size", [1, 2, 7, 1000])
    def test_it_may_come_in_pieces_of_any_size(self, size):
        reader = AnswerReader()
        pieces = [ANSWER[n : n + size] for n in range(0, len(ANSWER), size)]
        came = [reader.feed(each) for each in pieces]
        assert came[:-1] == [None] * (len(pieces) - 1)
        assert came[-1] == (200, b"hello", True)

    def test_an_empty_body_is_an_answer(self):
        head = b"HTTP/1.1 503 Slow Down\r\ncontent-length:0\r\n\r\n"
        assert AnswerReader().feed(head) == (503, b"", True)

    def test_the_other_side_may_want_to_end_the_connection(self):
        head = b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n"
        assert AnswerReader().feed(head) == (200, b"", False)

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: one\r\n\r\n",
            b"HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK",
            b"SSH-2.0-OpenSSH\r\n\r\n",
            b"x" * 70_000,
        ],
    )
    def test_what_is_not_plain_is_left_to_botocore(self, data):
        with pytest.raises(UnusualAnswerError):
            AnswerReader().feed(data)


class Server:
    """A server on loopback, which does with each connection what it is told."""

    def __init__(self, serve: Callable[[socket.socket], None], context: Any = None) -> None:
        self.accepted = 0
        self._serve = serve
        self._context = context
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                made, _ = self._listening.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._with, args=(made,), daemon=True).start()

    def _with(self, made: socket.socket) -> None:
        try:
            with made:
                if self._context is not None:
                    made = self._context.wrap_socket(made, server_side=True)
                self._serve(made)
        except OSError:
            pass

    def close(self) -> None:
        self._listening.close()


@pytest.fixture
def server() -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def make(*args: Any, **kwargs: Any) -> Server:
        made.append(Server(*args, **kwargs))
        return made[-1]

    yield make
    for each in made:
        each.close()


def answering(connection: socket.socket) -> None:
    while connection.recv(65_536):
        connection.sendall(ANSWER)


def to(server: Server, context: Any = None, patience: Patience = PATIENCE) -> Connections:
    return Connections("127.0.0.1", server.port, context, patience)


def test_a_connection_is_used_again(server):
    made = server(answering)
    connections = to(made)
    assert [connections.exchange(b"ask").body for _ in range(3)] == [b"hello"] * 3
    assert made.accepted == 1


def test_one_that_the_other_side_has_ended_is_not(server):
    ended = threading.Event()

    def answer_once(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(ANSWER)
        connection.shutdown(socket.SHUT_RDWR)
        ended.set()

    made = server(answer_once)
    connections = to(made)
    for _ in range(2):
        assert connections.exchange(b"ask").body == b"hello"
        ended.wait()
        ended.clear()
    assert made.accepted == 2


def test_nor_is_one_that_has_been_idle_for_long(server, monkeypatch):
    made = server(answering)
    connections = to(made)
    connections.exchange(b"ask")
    frozen = time.time() + 3600
    monkeypatch.setattr("lambda_celery.aws.connections.time.time", lambda: frozen)
    connections.exchange(b"ask")
    assert made.accepted == 2


def test_nor_is_one_whose_answer_was_not_awaited(server):
    stalled = threading.Event()

    def stall_once(connection: socket.socket) -> None:
        connection.recv(65_536)
        if not stalled.is_set():
            stalled.set()
            connection.recv(1)  # until the other side has enough
        connection.sendall(ANSWER)

    made = server(stall_once)
    connections = to(made, patience=PATIENCE._replace(read_seconds=0.2))
    with pytest.raises(TimeoutError):
        connections.exchange(b"ask")
    assert connections.exchange(b"ask").body == b"hello"
    assert made.accepted == 2


def test_it_ends_with_the_invocation(server):
    made = server(lambda connection: connection.recv(65_536) and connection.recv(1))
    with ending_at(time.time() + 0.2), pytest.raises(TimeoutError):
        to(made).exchange(b"ask")
    with ending_at(time.time() - 1), pytest.raises(TimeoutError):
        to(made).exchange(b"ask")


def test_no_more_are_kept_than_are_wanted(server):
    made = server(answering)
    connections = to(made)
    opened = [connections.take() for _ in range(4)]
    for each in opened:
        connections.put_back(each)
    assert [each.socket.fileno() >= 0 for each in opened] == [True, True, False, False]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    encoding = serialization.Encoding.PEM
    path.write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(encoding)
    )
    return path


@pytest.fixture
def tls_server(server, certificate) -> Server:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return server(answering, context)


def test_by_tls_the_other_side_is_verified(tls_server, certificate):
    connections = to(tls_server, ssl.create_default_context(cafile=str(certificate)))
    assert [connections.exchange(b"ask").body for _ in range(3)] == [b"hello"] * 3
    assert tls_server.accepted == 1


def test_one_whose_certificate_nobody_knows_is_not_asked(tls_server):
    with pytest.raises(ssl.SSLCertVerificationError):
        to(tls_server, ssl.create_default_context()).exchange(b"ask")


def test_nor_one_that_has_the_certificate_of_another(tls_server, certificate):
    connections = Connections(
        "localhost", tls_server.port, ssl.create_default_context(cafile=str(certificate)), PATIENCE
    )
    with pytest.raises(ssl.SSLCertVerificationError):
        connections.exchange(b"ask")
