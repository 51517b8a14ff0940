"""Where the local run finds SQS, S3 and DynamoDB, and how other processes find the same."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import boto3

from lambda_celery.aws.loopback import loopback_port
from lambda_celery.conf import ENV_PREFIX, QueueSettings, Settings
from lambda_celery.local import emulator
from lambda_celery.local.provision import (
    default_dead_letter_queue_name,
    provision,
    queue_name,
)

DEFAULT_MAX_RECEIVE_COUNT = 5
DEFAULT_REGION = "us-east-1"
#: What is made for a project whose settings do not name one.
DEFAULT_QUEUE = "celery"
DEFAULT_TABLE = "lambda-celery-idempotency"
DEFAULT_BUCKET = "lambda-celery-payloads"
#: Where AWS's own clients look for Lambda.
INVOKE_VARIABLE = "AWS_ENDPOINT_URL_LAMBDA"


@dataclass(frozen=True)
class Endpoint:
    """Where AWS is played, and with which variables a process reaches it.

    Attributes:
        settings: the project's settings, pointing there.
        environment: for the runtime processes.
        exports: what a publishing process needs to publish there.
        emulated: whether it is an emulator of ours, which ends with the command.
    """

    settings: Settings
    environment: Mapping[str, str]
    exports: Mapping[str, str]
    emulated: bool

    @property
    def url(self) -> str:
        return str(self.settings.endpoint_url)


@contextmanager
def open_endpoint(
    settings: Settings,
    *,
    port: int,
    function_timeout_seconds: int,
    maximum_batching_window_seconds: int,
    max_receive_count: int | None,
) -> Iterator[Endpoint]:
    """Yield the configured endpoint, or an emulator with everything that *settings* name on it.

    With an emulator, this process's environment points there, too, from then on.

    Arguments:
        settings: the project's.
        port: where the emulator listens, if no endpoint is configured.
        function_timeout_seconds: the function's time-out, for the queues made.
        maximum_batching_window_seconds: the event source mapping's, for the queues made.
        max_receive_count: for the queues made; default: the project's setting, else 5.

    Raises:
        ConfigurationError: the emulator is missing or its port taken, or an endpoint is
            configured but no queue.
    """
    url = settings.endpoint_url or os.environ.get("AWS_ENDPOINT_URL")
    if url is not None and not _nothing_listens_at(url):
        if not settings.queue_urls:
            settings.require("queue_url", f"the SQS queue to poll at {url}")
        yield Endpoint(
            settings=replace(settings, endpoint_url=url),
            environment={"AWS_ENDPOINT_URL": url},
            exports={},
            emulated=False,
        )
        return
    # A loopback endpoint where nothing listens is the line that an earlier run told the user to
    # put into the settings: that emulator is ours to start.
    port = port if url is None else loopback_port(url) or port
    with emulator.ministack(port, account_id=_account_id(settings)) as url:
        yield _provisioned(
            settings,
            url,
            function_timeout_seconds=function_timeout_seconds,
            maximum_batching_window_seconds=maximum_batching_window_seconds,
            max_receive_count=max_receive_count,
        )


@contextmanager
def open_emulator(settings: Settings, *, function_timeout_seconds: int) -> Iterator[Endpoint]:
    """Yield an emulator with everything that *settings* name on it, on a port of its own.

    No endpoint that is configured has anything to do with it. This process's environment points
    there from then on.

    Arguments:
        settings: the project's.
        function_timeout_seconds: the function's time-out, for the queues made.

    Raises:
        ConfigurationError: the emulator is missing.
    """
    with emulator.ministack(account_id=_account_id(settings)) as url:
        yield _provisioned(settings, url, function_timeout_seconds=function_timeout_seconds)


def _provisioned(
    settings: Settings,
    url: str,
    *,
    function_timeout_seconds: int,
    maximum_batching_window_seconds: int = 0,
    max_receive_count: int | None = None,
) -> Endpoint:
    max_receive_count = max_receive_count or settings.max_receive_count or DEFAULT_MAX_RECEIVE_COUNT
    endpoint = emulated_endpoint(settings, url, max_receive_count=max_receive_count)
    # The runtime processes inherit this process's environment.
    os.environ.update(endpoint.environment)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        os.environ.pop(name, None)
    provision(
        endpoint.settings,
        function_timeout_seconds=function_timeout_seconds,
        maximum_batching_window_seconds=maximum_batching_window_seconds,
        max_receive_count=max_receive_count,
    )
    return endpoint


def _nothing_listens_at(url: str) -> bool:
    port = loopback_port(url)
    return port is not None and emulator.port_is_free(port)


def _account_id(settings: Settings) -> str:
    """Return the account in the queue URLs, so that these are valid on the emulator as well."""
    for url in settings.queue_urls:
        account_id = urlsplit(url).path.strip("/").partition("/")[0]
        if len(account_id) == 12 and account_id.isdecimal():
            return account_id
    return emulator.DEFAULT_ACCOUNT_ID


def emulated_endpoint(settings: Settings, url: str, *, max_receive_count: int) -> Endpoint:
    """Return the emulator at *url* as the place of all that *settings* name, or of defaults."""
    account_id = _account_id(settings)

    def local(queue_url: str) -> str:
        return f"{url}/{account_id}/{queue_name(queue_url)}"

    queue_url, dead_letter_queue_url = settings.queue_url, settings.dead_letter_queue_url
    if not settings.queue_urls:
        queue_url = DEFAULT_QUEUE
        dead_letter_queue_url = dead_letter_queue_url or default_dead_letter_queue_name(queue_url)
    boto3_region = boto3.session.Session().region_name
    region = settings.aws_region or boto3_region or os.environ.get("AWS_REGION") or DEFAULT_REGION
    there = replace(
        settings,
        endpoint_url=url,
        region=region,
        queue_url=local(queue_url) if queue_url else None,
        queues={name: _moved(each, local) for name, each in settings.queues.items()},
        dead_letter_queue_url=local(dead_letter_queue_url) if dead_letter_queue_url else None,
        max_receive_count=max_receive_count,
        idempotency_table=settings.idempotency_table or DEFAULT_TABLE,
        payload_bucket=settings.payload_bucket or DEFAULT_BUCKET,
    )
    # Real credentials have no business at an emulator.
    credentials = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    no_proxy = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    # In full: what this shell has, the other may not have.
    exports = {"AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": region, **credentials}
    # The emulator looks at the path of a queue URL only: most projects' own ones do.
    if _path(settings.queue_url) != _path(there.queue_url):
        exports |= _variables(there, "queue_url")
    if any(
        _path(settings.queues[name].url) != _path(each.url) for name, each in there.queues.items()
    ):
        exports |= _variables(there, "queues")
    if settings.payload_bucket is None:
        exports |= _variables(there, "payload_bucket")
    return Endpoint(
        settings=there,
        environment={
            **credentials,
            "AWS_DEFAULT_REGION": region,
            "AWS_REGION": region,
            "AWS_ENDPOINT_URL": url,
            "no_proxy": ",".join(filter(None, [no_proxy, emulator.HOST])),
            **_variables(
                there,
                "endpoint_url",
                "region",
                "queue_url",
                "queues",
                "dead_letter_queue_url",
                "max_receive_count",
                "idempotency_table",
                "payload_bucket",
            ),
        },
        exports=exports,
        emulated=True,
    )


def _moved(queue: QueueSettings, local: Callable[[str], str]) -> QueueSettings:
    dead_letter_queue_url = queue.dead_letter_queue_url
    return replace(
        queue,
        url=local(queue.url),
        dead_letter_queue_url=dead_letter_queue_url and local(dead_letter_queue_url),
    )


def _path(url: str | None) -> str | None:
    return url and urlsplit(url).path


def _variables(settings: Settings, *names: str) -> dict[str, str]:
    """Return the environment variables for those of the fields *names* that are set."""
    variables = {}
    for name in names:
        if value := getattr(settings, name):
            if name == "queues":
                value = json.dumps({key: {"url": q.url} | q.own() for key, q in value.items()})
            variables[ENV_PREFIX + name.upper()] = str(value)
    return variables
