"""Stand-ins for SQS, DynamoDB, Lambda and any HTTP service, each a process of its own on loopback.

    with stand_ins.dynamodb(latency_seconds=0.005) as url: ...

Each answers after its latency, however many requests are under way, and takes little CPU, of
which the process that is measured wants the rest. They end with the context, or with the
process that started them. By hand, which prints the port::

    python benchmarks/stand_ins.py dynamodb --latency-seconds 0.005

With a certificate, which is made for the run, they speak TLS::

    with stand_ins.certificate() as path, stand_ins.sqs(certificate=path) as url: ...
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import datetime
import ipaddress
import json
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: Takes an operation, in lower case, and a body; returns a status and a body.
Answer = Callable[[str, bytes], tuple[int, bytes]]

_HOST = "127.0.0.1"
_BACKLOG = 1024
_END_OF_HEAD = b"\r\n\r\n"


@contextmanager
def certificate() -> Iterator[Path]:
    """Yield a file with a key and its certificate for loopback, which is signed by itself.

    A client that is to trust it is given the file: botocore by ``AWS_CA_BUNDLE``.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _HOST)])
    address = x509.IPAddress(ipaddress.ip_address(_HOST))
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day).not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    encoding = serialization.Encoding.PEM
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "stand-in.pem"
        path.write_bytes(
            key.private_bytes(
                encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + made.public_bytes(encoding)
        )
        yield path


@contextmanager
def sqs(latency_seconds: float = 0.01, certificate: Path | None = None) -> Iterator[str]:
    """Run a queue that takes all messages and keeps none; yield its endpoint's URL."""
    with _process("sqs", latency_seconds, certificate) as url:
        yield url


@contextmanager
def dynamodb(latency_seconds: float = 0.005) -> Iterator[str]:
    """Run tables as :mod:`dynamodb_items` has them; yield the endpoint's URL."""
    with _process("dynamodb", latency_seconds) as url:
        yield url


@contextmanager
def http(latency_seconds: float = 0.05) -> Iterator[str]:
    """Run a service that answers any request with 200 and "ok"; yield its URL."""
    with _process("http", latency_seconds) as url:
        yield url


@contextmanager
def function(latency_seconds: float = 0.05) -> Iterator[str]:
    """Run Lambda's Invoke of a function that returns its last argument; yield its endpoint's URL.

    It answers a direct call as the function does, and ``{"args": […]}`` with the argument alone.
    """
    with _process("function", latency_seconds) as url:
        yield url


@contextmanager
def _process(kind: str, latency_seconds: float, certificate: Path | None = None) -> Iterator[str]:
    command = [sys.executable, __file__, kind, "--latency-seconds", str(latency_seconds), "--child"]
    if certificate is not None:
        command += ["--certificate", str(certificate)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parent,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = process.stdout.readline().decode().strip()
        if not port:
            raise SystemExit(f"The stand-in for {kind} did not start.")
        yield f"{'https' if certificate else 'http'}://{_HOST}:{port}"
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def sqs_answer() -> Answer:
    def answer(operation: str, body: bytes) -> tuple[int, bytes]:
        match operation:
            case "sendmessagebatch":
                made: dict[str, Any] = {
                    "Successful": [
                        {"Id": each["Id"], "MessageId": each["Id"]}
                        for each in json.loads(body)["Entries"]
                    ]
                }
            case "deletemessagebatch" | "changemessagevisibilitybatch":
                entries = json.loads(body)["Entries"]
                made = {"Successful": [{"Id": each["Id"]} for each in entries]}
            case "sendmessage":
                made = {"MessageId": "1"}
            case "getqueueattributes":
                attributes = {"MaximumMessageSize": "1048576", "ApproximateNumberOfMessages": "0"}
                made = {"Attributes": attributes}
            case _:
                made = {}
        return 200, json.dumps(made).encode()

    return answer


def dynamodb_answer() -> Answer:
    from dynamodb_items import Items, RefusedError

    items = Items()

    def answer(operation: str, body: bytes) -> tuple[int, bytes]:
        try:
            return 200, json.dumps(items.answer(operation, json.loads(body))).encode()
        except RefusedError as exc:
            made: dict[str, Any] = {
                "__type": f"com.amazonaws.dynamodb.v20120810#{exc.code}",
                "message": str(exc),
            }
            if exc.item:
                made["Item"] = exc.item
            return 400, json.dumps(made).encode()

    return answer


def http_answer() -> Answer:
    return lambda _operation, _body: (200, b"ok")


def function_answer() -> Answer:
    from lambda_celery.direct_calls import CALL_FIELD, encoded
    from lambda_celery.direct_calls import Answer as DirectAnswer

    def answer(_operation: str, body: bytes) -> tuple[int, bytes]:
        event = json.loads(body)
        if CALL_FIELD not in event:
            return 200, json.dumps(event["args"][-1]).encode()
        envelope = json.loads(base64.b64decode(event["message"]["body"]))
        args, _kwargs, _embed = json.loads(base64.b64decode(envelope["body"]))
        return 200, DirectAnswer("SUCCESS", encoded(args[-1], "json")).to_text().encode()

    return answer


_ANSWERS = {
    "sqs": sqs_answer,
    "dynamodb": dynamodb_answer,
    "http": http_answer,
    "function": function_answer,
}


class _Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, for clients that send a Content-Length or no body."""

    def __init__(self, answer: Answer, latency_seconds: float) -> None:
        self._answer = answer
        self._latency_seconds = latency_seconds
        self._received = b""
        self._call_later = asyncio.get_running_loop().call_later
        self._write: Callable[[bytes], None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._write = transport.write

    def data_received(self, data: bytes) -> None:
        self._received = self._received + data if self._received else data
        while (length := self._received.find(_END_OF_HEAD)) >= 0:
            head = self._received[:length].lower()
            start = length + len(_END_OF_HEAD)
            end = start + int(_field(head, b"\r\ncontent-length:") or 0)
            if len(self._received) < end:
                return
            body, self._received = self._received[start:end], self._received[end:]
            self._respond(_field(head, b"\r\nx-amz-target:").rpartition(b".")[2].decode(), body)

    def _respond(self, operation: str, body: bytes) -> None:
        status, content = self._answer(operation, body)
        response = (
            b"HTTP/1.1 %d -\r\nContent-Type: application/x-amz-json-1.0\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (status, len(content), content)
        )
        if self._latency_seconds:
            self._call_later(self._latency_seconds, self._write, response)
        else:
            self._write(response)


def _field(head: bytes, name: bytes) -> bytes:
    start = head.find(name)
    if start < 0:
        return b""
    end = head.find(b"\r\n", start + 2)
    return head[start + len(name) : end if end >= 0 else None].strip()


async def _serve(
    answer: Answer, latency_seconds: float, certificate: Path | None, *, ends_with_stdin: bool
) -> None:
    tls = None
    if certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: _Connection(answer, latency_seconds), _HOST, 0, backlog=_BACKLOG, ssl=tls
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    if ends_with_stdin:
        loop.add_reader(sys.stdin, ended.set)
    await ended.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kind", choices=_ANSWERS)
    parser.add_argument("--latency-seconds", type=float, default=0.0)
    parser.add_argument("--certificate", type=Path, help="a file with a key and a certificate")
    parser.add_argument("--child", action="store_true", help="end when the standard input does")
    options = parser.parse_args()
    answer = _ANSWERS[options.kind]()
    asyncio.run(
        _serve(
            answer,
            options.latency_seconds,
            options.certificate,
            ends_with_stdin=options.child,
        )
    )


if __name__ == "__main__":
    main()
