"""A real Redis server, Debian's, for the tests of what Celery keeps in Redis."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import time

import pytest

from lambda_celery.local.process import ChildProcess

_HOST = "127.0.0.1"
_START_TIMEOUT_SECONDS = 20
_PING_INTERVAL_SECONDS = 0.02


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a Redis server on loopback that keeps nothing on disk.

    The whole session shares it: what a test keeps there must have names of its own.
    """
    binary = shutil.which("redis-server")
    if binary is None:
        sentence = "There is no redis-server on this machine: apt-get install redis-server"
        if os.environ.get("CI"):
            pytest.fail(sentence)
        pytest.skip(sentence)
    directory = tmp_path_factory.mktemp("redis")
    port = _free_port()
    options = {
        "bind": _HOST,
        "port": str(port),
        "save": "",
        "appendonly": "no",
        "dir": str(directory),
    }
    arguments = [each for name, value in options.items() for each in (f"--{name}", value)]
    with (directory / "log").open("w+b") as log:
        server = ChildProcess([binary, *arguments], environment=dict(os.environ), output=log)
        # Not at the fixture's end: a result that is collected after that unsubscribes from its
        # server, and tries to reach one that is gone for two minutes.
        atexit.register(server.kill)
        if not _answers(server, port):
            log.seek(0)
            said = log.read().decode(errors="replace")
            pytest.fail(f"redis-server did not answer on port {port}. It said:\n{said}")
    return f"redis://{_HOST}:{port}/0"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _answers(server: ChildProcess, port: int) -> bool:
    end = time.monotonic() + _START_TIMEOUT_SECONDS
    while time.monotonic() < end and not server.ended.wait(_PING_INTERVAL_SECONDS):
        try:
            with socket.create_connection((_HOST, port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                if connection.recv(16).startswith(b"+PONG"):
                    return True
        except OSError:
            pass
    return False
