"""AWS's Signature Version 4, for requests that are all alike: a POST to ``/`` of one endpoint.

Written after https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html.
botocore's signer writes the same, for requests of any kind, and takes fifteen times as long. Half
of that is the signing key, which is the same for a day.
"""

from __future__ import annotations

import hmac
import time
from hashlib import sha256
from typing import NamedTuple

ALGORITHM = "AWS4-HMAC-SHA256"


class Credentials(NamedTuple):
    """What botocore's frozen credentials have."""

    access_key: str
    secret_key: str
    token: str | None


class Signer:
    """Signs requests to *host* (with its port, where it is none of the scheme's own)."""

    def __init__(self, *, service: str, region: str, host: str, content_type: str) -> None:
        self._scope_end = f"{region}/{service}/aws4_request"
        self._region = region
        self._service = service
        self._head = f"POST\n/\n\ncontent-type:{content_type}\nhost:{host}\nx-amz-date:"
        #: The signing key, and what it was made of. Replaced as one, since threads share it.
        self._kept: tuple[tuple[str, str], bytes] = (("", ""), b"")

    def headers(self, target: str, body: bytes, credentials: Credentials) -> str:
        """Return the headers that sign *body*, each with its line end.

        They sign ``Host`` and ``Content-Type``, too, which the request must have as they were
        given here.
        """
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        scope = f"{stamp[:8]}/{self._scope_end}"
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
        text = f"{ALGORITHM}\n{stamp}\n{scope}\n{sha256(request.encode()).hexdigest()}"
        key = self._key(stamp[:8], credentials.secret_key)
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        return (
            f"X-Amz-Date: {stamp}\r\n{token_header}X-Amz-Target: {target}\r\n"
            f"Authorization: {ALGORITHM} Credential={credentials.access_key}/{scope}, "
            f"SignedHeaders={names}, Signature={signature}\r\n"
        )

    def _key(self, day: str, secret_key: str) -> bytes:
        made_of, key = self._kept
        if made_of != (day, secret_key):
            key = f"AWS4{secret_key}".encode()
            for part in (day, self._region, self._service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._kept = (day, secret_key), key
        return key
