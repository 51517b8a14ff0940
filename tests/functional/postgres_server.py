"""A real PostgreSQL server, Debian's, for tasks that use it."""

from __future__ import annotations

import asyncio
import atexit
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import asyncpg
import pytest

from lambda_celery.local.process import ChildProcess

_HOST = "127.0.0.1"
_START_TIMEOUT_SECONDS = 60
_ASK_INTERVAL_SECONDS = 0.05
_STOP_TIMEOUT_SECONDS = 10


@pytest.fixture(scope="session")
def postgres_url() -> str:
    """The URL of a PostgreSQL server on loopback that nothing is kept of.

    The whole session shares it: what a test makes there must have names of its own.
    """
    binaries = _binaries()
    if binaries is None:
        sentence = "There is no PostgreSQL server on this machine: apt-get install postgresql"
        if os.environ.get("CI"):
            pytest.fail(sentence)
        pytest.skip(sentence)
    # Not pytest's own directory, which another user cannot reach.
    directory = Path(tempfile.mkdtemp(prefix="postgres-"))
    data, port = directory / "data", _free_port()
    as_user = _as_unprivileged(directory)
    made = subprocess.run(
        [*as_user, binaries / "initdb", "--pgdata", data, "--username=tests", "--auth=trust",
         "--no-sync", "--encoding=UTF8", "--locale=C"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode:
        shutil.rmtree(directory)
        pytest.fail(f"initdb failed. It said:\n{made.stdout}{made.stderr}")
    options = {
        "listen_addresses": _HOST,
        "port": str(port),
        "unix_socket_directories": "",
        "fsync": "off",
    }
    settings = [each for name, value in options.items() for each in ("-c", f"{name}={value}")]
    url = f"postgresql://tests@{_HOST}:{port}/postgres"
    with (directory / "log").open("w+b") as log:
        server = ChildProcess(
            [*as_user, str(binaries / "postgres"), "-D", str(data), *settings],
            environment=dict(os.environ),
            output=log,
        )
        atexit.register(_stop, server, directory)
        if not _answers(server, url):
            log.seek(0)
            said = log.read().decode(errors="replace")
            pytest.fail(f"PostgreSQL did not answer on port {port}. It said:\n{said}")
    return url


def _binaries() -> Path | None:
    """Return where the server's programs are; Debian keeps them out of the path."""
    if (found := shutil.which("initdb")) is not None:
        return Path(found).resolve().parent
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    return max((each.parent for each in versions), default=None)


def _as_unprivileged(directory: Path) -> list[str]:
    """Return what begins a command that is not to run as root, which PostgreSQL refuses."""
    if os.getuid() != 0:
        return []
    user = pwd.getpwnam("nobody")
    os.chown(directory, user.pw_uid, user.pw_gid)
    setpriv = shutil.which("setpriv")
    assert setpriv is not None, "util-linux, which every Debian has, is not on this machine."
    # The change of the user clears the signal that ends it together with this process.
    ids = (f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")
    return [setpriv, *ids, "--pdeathsig=KILL", "--"]


def _stop(server: ChildProcess, directory: Path) -> None:
    server.send_signal(signal.SIGQUIT)  # it ends its own processes, and at once
    server.ended.wait(_STOP_TIMEOUT_SECONDS)
    server.kill()
    shutil.rmtree(directory, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _answers(server: ChildProcess, url: str) -> bool:
    async def ask() -> None:
        await (await asyncpg.connect(url)).close()

    end = time.monotonic() + _START_TIMEOUT_SECONDS
    while time.monotonic() < end and not server.ended.wait(_ASK_INTERVAL_SECONDS):
        try:
            asyncio.run(ask())
        except (OSError, asyncpg.CannotConnectNowError):
            continue
        return True
    return False
