"""AWS's Signature Version 4, for requests that are all alike: a POST to ``/`` of one endpoint, or a
call of Lambda's Invoke.

Written after https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html.
botocore's signer writes the same, for requests of any kind, and takes fifteen times as long. Half
of that is the signing key, which is the same for a day.
"""

from __future__ import annotations

import hmac
import time
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import quote, urlsplit

ALGORITHM = "AWS4-HMAC-SHA256"
#: Which a ``Host`` does not name.
PORTS = {"http": 80, "https": 443}


class Credentials(NamedTuple):
    """What botocore's frozen credentials have."""

    access_key: str
    secret_key: str
    token: str | None


class Authorizer:
    """Signs what requests of one service in one region have in their canonical form."""

    def __init__(self, *, service: str, region: str) -> None:
        self._region = region
        self._service = service
        self._scope_end = f"{region}/{service}/aws4_request"
        #: The signing key, and what it was made of. Replaced as one, since threads share it.
        self._kept: tuple[tuple[str, str], bytes] = (("", ""), b"")

    def authorization(self, request: str, names: str, stamp: str, credentials: Credentials) -> str:
        """Return the header that signs the canonical *request*, which has the headers *names*."""
        scope = f"{stamp[:8]}/{self._scope_end}"
        text = f"{ALGORITHM}\n{stamp}\n{scope}\n{sha256(request.encode()).hexdigest()}"
        key = self._key(stamp[:8], credentials.secret_key)
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        return (
            f"{ALGORITHM} Credential={credentials.access_key}/{scope}, "
            f"SignedHeaders={names}, Signature={signature}"
        )

    def _key(self, day: str, secret_key: str) -> bytes:
        made_of, key = self._kept
        if made_of != (day, secret_key):
            key = f"AWS4{secret_key}".encode()
            for part in (day, self._region, self._service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._kept = (day, secret_key), key
        return key


class Signer:
    """Signs requests to *host* (with its port, where it is none of the scheme's own)."""

    def __init__(self, *, service: str, region: str, host: str, content_type: str) -> None:
        self._authorizer = Authorizer(service=service, region=region)
        self._head = f"POST\n/\n\ncontent-type:{content_type}\nhost:{host}\nx-amz-date:"

    def headers(self, target: str, body: bytes, credentials: Credentials) -> str:
        """Return the headers that sign *body*, each with its line end.

        They sign ``Host`` and ``Content-Type``, too, which the request must have as they were
        given here.
        """
        stamp = _now()
        token = credentials.token
        if token is None:
            names = "content-type;host;x-amz-date;x-amz-target"
            signed_token = token_header = ""
        else:
            names = "content-type;host;x-amz-date;x-amz-security-token;x-amz-target"
            signed_token = f"x-amz-security-token:{token}\n"
            token_header = f"X-Amz-Security-Token: {token}\r\n"
        request = (
            f"{self._head}{stamp}\n{signed_token}x-amz-target:{target}\n\n{names}\n"
            f"{sha256(body).hexdigest()}"
        )
        authorization = self._authorizer.authorization(request, names, stamp, credentials)
        return (
            f"X-Amz-Date: {stamp}\r\n{token_header}X-Amz-Target: {target}\r\n"
            f"Authorization: {authorization}\r\n"
        )


class InvokeSigner:
    """Signs calls of Lambda's Invoke at *host* (with its port, as for :class:`Signer`)."""

    def __init__(self, *, region: str, host: str) -> None:
        self._authorizer = Authorizer(service="lambda", region=region)
        self._host = host

    def headers(
        self, path: str, invocation_type: str, body: bytes, credentials: Credentials
    ) -> dict[str, str]:
        """Return the headers of a request of *path*, encoded as it is sent, with *body*."""
        stamp = _now()
        made = {"X-Amz-Date": stamp, "X-Amz-Invocation-Type": invocation_type}
        names = "host;x-amz-date;x-amz-invocation-type"
        signed_token = ""
        if (token := credentials.token) is not None:
            made["X-Amz-Security-Token"] = token
            names += ";x-amz-security-token"
            signed_token = f"x-amz-security-token:{token}\n"
        request = (
            f"POST\n{quote(path, safe='/~')}\n\nhost:{self._host}\nx-amz-date:{stamp}\n"
            f"x-amz-invocation-type:{invocation_type}\n{signed_token}\n{names}\n"
            f"{sha256(body).hexdigest()}"
        )
        made["Authorization"] = self._authorizer.authorization(request, names, stamp, credentials)
        return made


def host_of(url: str) -> str:
    """Return the ``Host`` of requests to *url*: its port only if it is none of the scheme's own."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2].removesuffix(f":{PORTS.get(parts.scheme)}")


def _now() -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
