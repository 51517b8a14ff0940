"""boto3 clients, and AWS's refusals as sentences."""

from __future__ import annotations

import os
import threading
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
)

from lambda_celery.conf import Settings, setting_names
from lambda_celery.direct import DIRECT_SERVICES, DirectClient, can_be_direct, is_watched
from lambda_celery.exceptions import ConfigurationError

AWS_ERRORS = (BotoCoreError, ClientError)
LOOPBACK_HOSTS = {"127.0.0.1", "localhost", "::1"}

#: Keep-alive, because Lambda freezes the process between invocations.
_CONFIG = Config(connect_timeout=2, read_timeout=10, tcp_keepalive=True)
#: Kept open by a client: one for each thread that asks at the same time.
_CONNECTIONS = 50
#: Shorter where it answers in milliseconds or not at all: a call that hangs after a task's
#: run must be given up before the invocation ends.
_CONFIGS = {"dynamodb": _CONFIG.merge(Config(connect_timeout=1, read_timeout=2))}
#: With jittered back-off, for throttling, time-outs and 5xx.
_ATTEMPTS = 4
_ATTEMPTS_OF = {"dynamodb": 3}

_clients: dict[tuple[Any, ...], Any] = {}
_lock = threading.Lock()


def client(
    service: str,
    settings: Settings,
    *,
    region: str | None = None,
    direct: bool = True,
    **credentials: str | None,
) -> Any:
    """Return the process's one boto3 client for *service*; clients are safe to share by threads.

    Its region is the settings' and its credentials are found by boto3, unless given here. If
    it may be *direct*, its frequent operations are those of :mod:`lambda_celery.direct`.

    Raises :exc:`ConfigurationError` if no region can be found.
    """
    region = region or region_of(settings)
    credentials = {name: value for name, value in credentials.items() if value is not None}
    # The process id is part of the key: sockets must not be shared with a forked child.
    connections = max(_CONNECTIONS, settings.most_concurrency)
    key = (
        os.getpid(), service, region, settings.endpoint_url, connections, direct,
        *sorted(credentials.items()),
    )  # fmt: skip
    if (found := _clients.get(key)) is not None:
        return found
    with _lock:  # creating clients from one session is not thread-safe
        if key not in _clients:
            try:
                session = boto3.session.Session(region_name=region, **credentials)
                _clients[key] = _make(session, service, settings, connections, direct)
            except NoRegionError as exc:
                raise ConfigurationError(explain(exc, action=service, resource="")) from None
        return _clients[key]


def _make(session: Any, service: str, settings: Settings, connections: int, direct: bool) -> Any:
    direct = direct and service in DIRECT_SERVICES and not is_watched()
    # The first attempt is not botocore's then.
    attempts = _ATTEMPTS_OF.get(service, _ATTEMPTS) - direct
    made = session.client(
        service,
        endpoint_url=settings.endpoint_url,
        config=_CONFIGS.get(service, _CONFIG).merge(
            Config(
                retries={"mode": "standard", "total_max_attempts": attempts},
                max_pool_connections=connections,
            )
        ),
    )
    if direct and can_be_direct(made):
        return DirectClient(made, session.get_credentials())
    return made


def region_of(settings: Settings) -> str | None:
    """Return the region for *settings*; ``None`` leaves the search to boto3."""
    # Lambda sets AWS_REGION, and so do people; boto3 reads AWS_DEFAULT_REGION alone.
    return settings.aws_region or os.environ.get("AWS_REGION")


def denied(exc: BaseException) -> bool:
    """Whether AWS refused *exc*'s call for want of a permission."""
    return error_code(exc) in _DENIED


def error_code(exc: BaseException) -> str:
    """Return AWS's code for *exc*, such as ``AccessDenied``; "" if it is not AWS's answer."""
    if isinstance(exc, ClientError):
        return str(exc.response.get("Error", {}).get("Code", ""))
    return ""


_DENIED = {"AccessDenied", "AccessDeniedException", "AuthorizationError", "403", "Forbidden"}
_BAD_CREDENTIALS = {
    "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidClientTokenId",
    "InvalidSignatureException", "SignatureDoesNotMatch", "UnrecognizedClientException",
}  # fmt: skip
_ABSENT = {
    "AWS.SimpleQueueService.NonExistentQueue", "NoSuchBucket", "QueueDoesNotExist",
    "ResourceNotFoundException",
}  # fmt: skip


def misconfigured(exc: BaseException) -> bool:
    """Whether *exc* stays until somebody changes a setting or a permission."""
    return isinstance(exc, NoRegionError | NoCredentialsError | PartialCredentialsError) or (
        error_code(exc) in _DENIED | _BAD_CREDENTIALS | _ABSENT
    )


def cause(exc: Exception) -> Exception | None:
    """Return what to chain to the sentence for *exc*: botocore's stack says nothing more
    to somebody who has a setting or a permission to mend, and much to anybody else.
    """
    return None if misconfigured(exc) else exc


def explain(exc: BaseException, *, action: str, resource: str, setting: str | None = None) -> str:
    """Return the sentence for *exc*, which AWS raised for the IAM *action* on *resource*.

    *setting* is the field of :class:`~lambda_celery.conf.Settings` that names the resource.
    """
    code = error_code(exc)
    change = f" Check {setting_names(setting)}." if setting else ""
    if isinstance(exc, NoRegionError):
        return f"No AWS region is configured: set {setting_names('region')} or AWS_REGION."
    if isinstance(exc, NoCredentialsError | PartialCredentialsError):
        return (
            f"No AWS credentials were found for {action} on {resource}: give this process a role, "
            "a profile, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    if code in _BAD_CREDENTIALS:
        return f"AWS does not accept the credentials for {action} on {resource} ({code})."
    if code in _DENIED:
        return (
            f"AWS refused {action} on {resource}: allow {action} there in the IAM policy "
            "of this process's role."
        )
    if code in _ABSENT:
        return f"{resource} does not exist in this account and region ({code}).{change}"
    if isinstance(exc, EndpointConnectionError):
        host = urlsplit(str(exc.kwargs["endpoint_url"])).hostname
        if host in LOOPBACK_HOSTS:
            change = " Is the emulator running? It ends with: celery -A proj lambda local."
    return f"{action} on {resource} failed: {exc}{change}"
