"""Serializers and compression of task messages."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

WAIT_SECONDS = 120


@pytest.mark.parametrize("serializer", ["json", "yaml", "msgpack", "shouting"])
def test_serializer(peer, serializer):
    """The last one is the project's own: it shouts, and is lower case again."""
    value = {"text": "grüße", "numbers": [1, 2.5, None]}

    result = peer.echo.apply_async((value,), serializer=serializer)

    assert result.get(timeout=WAIT_SECONDS) == value


@pytest.mark.parametrize("compression", ["gzip", "zlib", "bzip2", "lzma"])
def test_compression(peer, compression):
    result = peer.echo.apply_async(("x" * 100_000,), compression=compression)

    assert result.get(timeout=WAIT_SECONDS) == "x" * 100_000


def test_json_keeps_kombus_types(peer):
    now = peer.app.now()

    result = peer.echo_type.delay(now)

    assert result.get(timeout=WAIT_SECONDS) == ["datetime", now]


def test_bytes_in_json(peer):
    assert peer.echo_type.delay(b"\x00\xff").get(timeout=WAIT_SECONDS) == ["bytes", b"\x00\xff"]


def test_pickle_where_it_is_accepted(peer, stack, running):
    # The extended result, which is JSON, would have the arguments in it.
    moved = peer.moved_to(stack, accept_content=["json", "pickle"], result_extended=False)

    with running(moved, stack):
        result = moved.tsum.apply_async(({1, 2, 3},), serializer="pickle")

        assert result.get(timeout=WAIT_SECONDS) == 6


def test_pickle_is_refused_where_it_is_not_accepted(lambda_peer, dead_letter):
    """On a worker it is logged and thrown away, or left on a queue with a dead-letter queue."""
    result = lambda_peer.tsum.apply_async(({1, 2, 3},), serializer="pickle")

    assert "pickle" in dead_letter(result.id)
    assert result.state == "PENDING"


def test_signed_messages(peer, stack, running, tmp_path):
    """``app.setup_security()``, with a publisher that has a process of its own."""
    signed = peer.moved_to(
        stack, task_serializer="auth", accept_content=["auth"], **certificate(tmp_path)
    )
    publish = "import proj; print(proj.add.delay(1, 2).id)"

    with running(signed, stack):
        output = subprocess.run(
            [sys.executable, "-c", publish],
            cwd=Path(__file__).parent,
            env={**os.environ, **signed.environment()},
            check=True,
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS,
        ).stdout

        # The result is plain JSON, and read by an app that accepts it.
        assert peer.result(output.strip()).get(timeout=WAIT_SECONDS) == 3


def certificate(directory):
    """Write a key and its self-signed certificate; return Celery's settings for them."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "proj")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    store = directory / "certificates"
    store.mkdir()
    (store / "proj.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return {
        "security_key": str(directory / "key.pem"),
        "security_certificate": str(store / "proj.pem"),
        "security_cert_store": str(store / "*.pem"),
    }
