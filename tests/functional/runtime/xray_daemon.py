"""X-Ray's daemon, which listens on loopback, and invocations that X-Ray traces."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

INVOCATION = "1-5759e988-bd862e3fe1be46a994272793"
INVOCATION_SEGMENT = "53995c3f42cd8ad8"
WAIT_SECONDS = 30


class Daemon:
    """What X-Ray's daemon is sent: segments and subsegments."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(WAIT_SECONDS)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._socket.getsockname()[1]}"

    def read(self) -> dict[str, Any]:
        _, _, document = self._socket.recv(65_536).partition(b"\n")
        return dict(json.loads(document))

    def take(self) -> list[dict[str, Any]]:
        """Return all that has been sent and not read: nothing is on its way on loopback."""
        documents = []
        self._socket.settimeout(0)
        try:
            while True:
                documents.append(self.read())
        except BlockingIOError:
            return documents
        finally:
            self._socket.settimeout(WAIT_SECONDS)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    from aws_xray_sdk.core import xray_recorder
    from aws_xray_sdk.core.context import Context

    made = Daemon()
    emitter = xray_recorder.emitter
    before: dict[str, Any] = {
        "context": xray_recorder.context,
        "daemon_address": f"{emitter.ip}:{emitter.port}",
        "sampling": xray_recorder.sampling,
        "streaming_threshold": xray_recorder.streaming_threshold,  # Powertools changes it
    }
    xray_recorder.configure(
        daemon_address=made.address, sampling=False, service="web", context=Context()
    )
    yield made
    xray_recorder.configure(**before)
    made.close()


def begin_invocation(monkeypatch: pytest.MonkeyPatch, trace_id: str = INVOCATION) -> None:
    """Have what follows happen in an invocation that X-Ray traces."""
    from aws_xray_sdk.core import xray_recorder
    from aws_xray_sdk.core.lambda_launcher import LambdaContext

    header = f"Root={trace_id};Parent={INVOCATION_SEGMENT};Sampled=1;Lineage=1:abc:0"
    monkeypatch.setenv("_X_AMZN_TRACE_ID", header)
    if not isinstance(xray_recorder.context, LambdaContext):
        xray_recorder.configure(context=LambdaContext())
