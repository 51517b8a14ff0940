"""boto3 clients: one a process for each service, region and endpoint."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import NoCredentialsError, NoRegionError

from lambda_celery.aws import bounded
from lambda_celery.aws.connections import Patience
from lambda_celery.aws.fast_requests import FAST_SERVICES, fast_client, is_watched
from lambda_celery.aws.refusals import explain
from lambda_celery.conf import Settings
from lambda_celery.exceptions import ConfigurationError

#: Keep-alive, because Lambda freezes the process between invocations.
_CONFIG = Config(connect_timeout=2, read_timeout=10, tcp_keepalive=True)
#: Kept open by a client: one for each thread that asks at the same time.
_CONNECTIONS = 50
#: Shorter where it answers in milliseconds or not at all: a call that hangs after a task's
#: run must be given up before the invocation ends.
_CONFIGS = {"dynamodb": _CONFIG.merge(Config(connect_timeout=1, read_timeout=2))}
#: For what can be done without: an endpoint that a VPC does not have must not cost the tasks' time.
_IMPATIENT = Config(connect_timeout=1, read_timeout=2)
#: With jittered back-off, for throttling, time-outs and 5xx.
_ATTEMPTS = 4
_ATTEMPTS_OF = {"dynamodb": 3}

#: Each with botocore's credentials that it signs by: finding them may mean asking somebody.
_clients: dict[tuple[Any, ...], tuple[Any, Any]] = {}
_lock = threading.Lock()
#: Of :func:`using_session`.
_session: Any = None


@contextmanager
def using_session(session: Any) -> Iterator[None]:
    """Have every client come from the boto3 *session* within the context, whatever is configured.

    Tests stand in for AWS by the events of such a session.
    """
    global _session
    before, _session = _session, session
    try:
        yield
    finally:
        _session = before


def client(
    service: str,
    settings: Settings,
    *,
    region: str | None = None,
    fast: bool = True,
    patient: bool = True,
    **credentials: str | None,
) -> Any:
    """Return the process's one boto3 client for *service*; clients are safe to share by threads.

    Its region is the settings'. Its credentials are found by boto3 unless they are given here:
    what ``boto3.setup_default_session`` has set is used. If it may be *fast*, its frequent
    operations are those of :mod:`lambda_celery.aws.fast_requests`. One that is not *patient* asks
    once, and waits for two seconds at most.

    Raises :exc:`ConfigurationError` if no region can be found.
    """
    return _client(service, settings, region, fast, patient, credentials)[0]


def credentials_of(service: str, settings: Settings) -> Any:
    """Return botocore's credentials by which the :func:`client` for *service* signs.

    :raises botocore.exceptions.NoCredentialsError: there are none.
    """
    _, found = _client(service, settings, None, True, True, {})
    if found is None:
        raise NoCredentialsError
    return found


def _client(
    service: str,
    settings: Settings,
    region: str | None,
    fast: bool,
    patient: bool,
    credentials: dict[str, str | None],
) -> tuple[Any, Any]:
    region = region or region_of(settings)
    fast = fast and patient and settings.fast_requests
    credentials = {name: value for name, value in credentials.items() if value is not None}
    session = _session or (None if credentials else boto3.DEFAULT_SESSION)
    # The process id is part of the key: sockets must not be shared with a forked child.
    connections = max(_CONNECTIONS, settings.most_concurrency)
    key = (
        os.getpid(), service, region, settings.endpoint_url, connections, fast, patient,
        session,
        *sorted(credentials.items()),
    )  # fmt: skip
    if (found := _clients.get(key)) is not None:
        return found
    with _lock:  # creating clients from one session is not thread-safe
        if key not in _clients:
            try:
                session = session or boto3.session.Session(**credentials)
                made = _make(session, service, region, settings, connections, fast, patient)
                _clients[key] = made, session.get_credentials()
            except NoRegionError as exc:
                raise ConfigurationError(explain(exc, action=service, resource="")) from None
        return _clients[key]


def _make(
    session: Any,
    service: str,
    region: str | None,
    settings: Settings,
    connections: int,
    fast: bool,
    patient: bool,
) -> Any:
    fast = fast and service in FAST_SERVICES and not is_watched()
    # The first attempt is not botocore's then.
    attempts = _ATTEMPTS_OF.get(service, _ATTEMPTS) - fast if patient else 1
    config = _CONFIGS.get(service, _CONFIG)
    if not patient:
        config = config.merge(_IMPATIENT)
    made = session.client(
        service,
        region_name=region,
        endpoint_url=settings.endpoint_url,
        config=config.merge(
            Config(
                retries={"mode": "standard", "total_max_attempts": attempts},
                max_pool_connections=connections,
            )
        ),
    )
    bounded.bind(
        made,
        connect_seconds=config.connect_timeout,
        read_seconds=config.read_timeout,
        attempts=attempts,
    )
    if not fast:
        return made
    patience = Patience(config.connect_timeout, config.read_timeout, connections)
    return fast_client(made, session.get_credentials(), patience) or made


def close_connections() -> None:
    """End the connections of this process's clients, which connect anew with the next request.

    Nothing may be under way.
    """
    for (process_id, *_), (made, _credentials) in list(_clients.items()):
        if process_id == os.getpid():
            made.close()


def region_of(settings: Settings) -> str | None:
    """Return the region for *settings*; ``None`` leaves the search to boto3."""
    # Lambda sets AWS_REGION, and so do people; boto3 reads AWS_DEFAULT_REGION alone.
    return settings.aws_region or os.environ.get("AWS_REGION")
