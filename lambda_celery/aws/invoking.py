"""Lambda's Invoke for asyncio, hundreds of calls at a time.

The asynchronous relatives of boto3, aioboto3 and aiobotocore, take some versions of botocore
alone, and not those that the emulator takes. What they do for this one operation is little: an
HTTP request, which aiohttp makes, and a signature. The endpoint, the region, the credentials and
the proxy are those of the boto3 client. One attempt each: who asks knows what may be asked again.

The API: https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from botocore.exceptions import ClientError
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from lambda_celery.aws import clients
from lambda_celery.aws.fast_requests import tls_context
from lambda_celery.aws.signature import InvokeSigner, host_of
from lambda_celery.conf import Settings
from lambda_celery.exceptions import ConfigurationError

#: Where the AWS SDKs and tools look for an endpoint of Lambda's own.
_ENDPOINT_VARIABLE = "AWS_ENDPOINT_URL_LAMBDA"
_BUNDLE_VARIABLES = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")
_OPERATION = "Invoke"
_CONNECT_SECONDS = 5.0
#: A call may take 15 minutes, in which no byte passes, and NAT gateways forget what is idle for
#: 350 seconds: https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-troubleshooting.html
_KEEP_ALIVE_SECONDS = 60


class Reply(NamedTuple):
    """What Lambda has answered: of HTTP's 200 and 202."""

    body: bytes
    #: The function has raised, or its environment has failed: then the body says how.
    has_failed: bool


class AsyncLambda:
    """Calls functions, with connections of its own: for one event loop, on which it is made."""

    def __init__(self, settings: Settings, max_connections: int) -> None:
        """Hold up to *max_connections*, each of which carries one call at a time.

        :raises ConfigurationError: aiohttp is not installed, or there is no region.
        :raises botocore.exceptions.NoCredentialsError: there is nobody to sign for.
        """
        aiohttp = _aiohttp()
        known = clients.client("lambda", settings).meta
        endpoint = os.environ.get(_ENDPOINT_VARIABLE) or known.endpoint_url
        scheme, _, path, *_ = urlsplit(endpoint)
        self._host = host_of(endpoint)
        self._origin = f"{scheme}://{self._host}"
        self._prefix = f"{path.rstrip('/')}/2015-03-31/functions/"
        self._signer = InvokeSigner(region=known.region_name, host=self._host)
        self._credentials = clients.credentials_of("lambda", settings)
        self._errors = (aiohttp.ClientError, OSError)
        self._url = aiohttp.client.URL
        self._session: Any = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=max_connections, ssl=_tls(), socket_factory=_socket
            ),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            # Looked up here: aiohttp itself would do it for each call, in threads, and take
            # passwords for Lambda from ~/.netrc.
            proxy=get_environ_proxies(self._origin).get(scheme),
            auto_decompress=False,
        )

    async def invoke(self, function: str, payload: bytes, invocation_type: str) -> Reply:
        """Call *function*, a name or an ARN, with *payload*, which is JSON.

        :raises botocore.exceptions.ClientError: Lambda has refused it.
        :raises ConnectionError: the connection failed. The function may have been called.
        """
        path = f"{self._prefix}{quote(function, safe='')}/invocations"
        url = self._origin + path
        headers = self._signer.headers(path, invocation_type, payload, await self._signing())
        headers["Host"] = self._host
        try:
            async with self._session.post(
                self._url(url, encoded=True), data=payload, headers=headers,
                allow_redirects=False,  # the signature is for this address
            ) as answer:  # fmt: skip
                body = await answer.read()
        except self._errors as exc:
            raise ConnectionError(f"Lambda could not be reached at {url}: {exc!r}") from exc
        if answer.status not in (200, 202, 204):
            kind = answer.headers.get("x-amzn-ErrorType", "")
            raise _refusal(answer.status, kind.partition(":")[0], body)
        return Reply(body, "X-Amz-Function-Error" in answer.headers)

    def time(self) -> float:
        """Return the event loop's time, in seconds."""
        return asyncio.get_running_loop().time()

    async def pause(self, seconds: float) -> None:
        """Return *seconds* later."""
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        """End the connections."""
        await self._session.close()

    async def _signing(self) -> Any:
        credentials = self._credentials
        if getattr(credentials, "refresh_needed", bool)():  # which asks somebody, and waits
            return await asyncio.to_thread(credentials.get_frozen_credentials)
        return credentials.get_frozen_credentials()


def _aiohttp() -> Any:
    try:
        import aiohttp
    except ImportError as exc:
        raise ConfigurationError(
            "Direct calls of the function need aiohttp: pip install 'lambda-celery[invoke]'."
        ) from exc
    return aiohttp


def _tls() -> ssl.SSLContext:
    """Return what verifies the other side, by the certificates that botocore would take."""
    bundle = next(filter(None, map(os.environ.get, _BUNDLE_VARIABLES)), True)
    return tls_context(get_cert_path(bundle))


def _socket(address: Any) -> socket.socket:
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):  # not everywhere
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEP_ALIVE_SECONDS)
    return made


def _refusal(status: int, kind: str, body: bytes) -> ClientError:
    try:
        told = json.loads(body)
        message = told.get("Message") or told.get("message") or ""
        kind = kind or str(told.get("Code") or told.get("__type", "")).rpartition("#")[2]
    except (AttributeError, ValueError):
        message = body[:200].decode(errors="replace")
    return ClientError(
        {
            "Error": {"Code": kind or str(status), "Message": message},
            "ResponseMetadata": {"HTTPStatusCode": status},
        },
        _OPERATION,
    )
