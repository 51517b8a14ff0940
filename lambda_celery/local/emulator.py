"""ministack, the emulator of SQS, S3 and DynamoDB, as a child process on loopback."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import IO

from lambda_celery.exceptions import ConfigurationError, LambdaCeleryError
from lambda_celery.local.process import ChildProcess

DEFAULT_PORT = 4566
HOST = "127.0.0.1"
START_TIMEOUT_SECONDS = 60
STOP_TIMEOUT_SECONDS = 5
#: The account of ministack's queues, unless told otherwise.
DEFAULT_ACCOUNT_ID = "000000000000"

_HEALTH_PATH = "/_ministack/health"
_HEALTH_INTERVAL_SECONDS = 0.05


class _PortTakenError(Exception):
    pass


@contextlib.contextmanager
def ministack(port: int | None = None, *, account_id: str = DEFAULT_ACCOUNT_ID) -> Iterator[str]:
    """Run ministack and yield its endpoint URL, ``http://127.0.0.1:PORT``.

    It listens on loopback only and forgets everything when it ends, which it does
    with the context, or with this process in whatever way that ends.

    Arguments:
        port: where it listens; default: any free port.
        account_id: the AWS account (twelve digits) that its queues belong to.

    Raises:
        ConfigurationError: ministack is not installed, or *port* is taken.
        LambdaCeleryError: it ended, or did not get healthy, while starting.
    """
    if importlib.util.find_spec("ministack") is None:
        raise ConfigurationError(
            "The emulator is missing: install `lambda-celery[local]`, "
            "or set AWS_ENDPOINT_URL to an emulator that is running."
        )
    with tempfile.TemporaryFile() as log:
        # Between our choice of a free port and ministack's bind, somebody else may take it.
        for attempt in range(3):
            chosen = _free_port() if port is None else port
            if port is not None and not port_is_free(port):
                raise ConfigurationError(
                    f"Port {port} of {HOST} is in use by another process: end that one, or "
                    "choose another port with --port."
                )
            process = ChildProcess(
                [sys.executable, "-m", "ministack"],
                environment=_environment(chosen, account_id),
                output=log,
                death_signal=signal.SIGTERM,
            )
            try:
                _wait_until_healthy(process, chosen, log)
            except _PortTakenError as exc:
                if port is not None or attempt == 2:
                    raise LambdaCeleryError(str(exc)) from exc
                continue
            except BaseException:
                process.kill()
                raise
            break
        try:
            yield f"http://{HOST}:{chosen}"
        finally:
            process.terminate(STOP_TIMEOUT_SECONDS)


def port_is_free(port: int) -> bool:
    """Whether nothing listens on *port* of the loopback address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _environment(port: int, account_id: str) -> dict[str, str]:
    # The user's own ministack settings, such as persistence, are not for this private instance.
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MINISTACK_", "LOCALSTACK_", "AWS_"))
    }
    return inherited | {
        "BIND_HOST": HOST,
        "GATEWAY_PORT": str(port),
        "LOG_LEVEL": "ERROR",
        "MINISTACK_ACCOUNT_ID": account_id,
        "PERSIST_STATE": "0",
        "S3_PERSIST": "0",
        "USE_SSL": "0",
        "AUTH": "false",
        "SERVICES": "",
        # These two would listen on further ports.
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
    }


def _wait_until_healthy(process: ChildProcess, port: int, log: IO[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while True:
        # The wait between two probes is one for the process's end: that is reported at once.
        if process.ended.wait(_HEALTH_INTERVAL_SECONDS):
            log.seek(0)
            output = log.read().decode(errors="replace").strip()
            sentence = f"ministack ended while it was starting on port {port}: {output}"
            raise _PortTakenError(sentence) if "in use" in output else LambdaCeleryError(sentence)
        if _is_healthy(port):
            return
        if time.monotonic() > deadline:
            raise LambdaCeleryError(
                f"ministack was not healthy {START_TIMEOUT_SECONDS} s after its start."
            )


def _is_healthy(port: int) -> bool:
    # Not urllib: it would ask a proxy from the environment for a loopback address.
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", _HEALTH_PATH)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
