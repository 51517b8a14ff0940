"""The contents of large attachments, in the payload bucket, by their digests.

A process that sends a campaign uploads its attachment once, however many its mails are. Nobody
deletes it, as nobody knows which mail is the last: the bucket's lifecycle rule does.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any
from weakref import WeakKeyDictionary

from celery import Celery

from lambda_celery import aws
from lambda_celery.conf import Settings, settings_of
from lambda_celery.exceptions import PayloadMissingError, PublishError, UnreadableMessageError
from lambda_celery.payloads import check_bucket, is_absent

#: What is smaller stays in the message: a request to S3 would cost more.
THRESHOLD_BYTES = 16 * 1024
#: One that this process stored earlier is stored anew, so that the lifecycle rule leaves the new
#: mail its time.
_YOUNG_SECONDS = 3600
#: What a process keeps of what it has fetched.
_KEPT_BYTES = 32 * 1024 * 1024
_PREFIX = "mail-contents/"


class StoredContents:
    """Keeps contents for the mails of one app. It may be used by several threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stored: dict[str, float] = {}
        self._fetched: dict[str, bytes] = {}
        #: The content that was digested last: mails of a campaign have the same one.
        self._last: tuple[bytes, str] = (b"", "")
        self._lock = threading.Lock()

    def keep(self, content: bytes) -> dict[str, Any] | None:
        """Store *content*, unless this process has just done so; return where it is.

        ``None`` if it is small, or there is no bucket.

        :raises PublishError: S3 does not take it.
        """
        bucket = self._settings.payload_bucket
        if bucket is None or len(content) < THRESHOLD_BYTES:
            return None
        digest = self._digest(content)
        key = _PREFIX + digest
        with self._lock:
            is_known = self._stored.get(key, 0) > time.time() - _YOUNG_SECONDS
        if not is_known:
            self._store(bucket, key, content)
        return {"bucket": bucket, "sha256": digest, "bytes": len(content)}

    def fetch(self, kept: Mapping[str, Any]) -> bytes:
        """Return the content that is *kept*.

        :raises PayloadMissingError: it is gone.
        :raises UnreadableMessageError: the settings do not name its bucket, or it is another one.
        """
        bucket, digest = str(kept["bucket"]), str(kept["sha256"])
        check_bucket(self._settings, bucket, "The mail")
        with self._lock:
            known = self._fetched.get(digest)
        if known is not None:
            return known
        content = self._load(bucket, _PREFIX + digest, int(kept["bytes"]))
        if hashlib.sha256(content).hexdigest() != digest:
            raise UnreadableMessageError(
                f"s3://{bucket}/{_PREFIX}{digest} is not the attachment that was stored there."
            )
        with self._lock:
            self._fetched[digest] = content
            while sum(map(len, self._fetched.values())) > _KEPT_BYTES:
                del self._fetched[next(iter(self._fetched))]
        return content

    def _digest(self, content: bytes) -> str:
        last, digest = self._last
        if content is not last:
            digest = hashlib.sha256(content).hexdigest()
            self._last = content, digest
        return digest

    def _store(self, bucket: str, key: str, content: bytes) -> None:
        s3 = aws.client("s3", self._settings)
        try:
            s3.put_object(Bucket=bucket, Key=key, Body=content)
        except aws.AWS_ERRORS as exc:
            raise PublishError(
                aws.explain(exc, action="s3:PutObject", resource=f"the bucket {bucket}")
            ) from aws.cause(exc, self._settings)
        with self._lock:
            self._stored[key] = time.time()

    def _load(self, bucket: str, key: str, size: int) -> bytes:
        s3 = aws.client("s3", self._settings)
        try:
            with closing(s3.get_object(Bucket=bucket, Key=key)["Body"]) as stream:
                loaded: bytes = stream.read(size + 1)
        except aws.ClientError as exc:
            if is_absent(exc):
                raise PayloadMissingError(
                    f"An attachment of the mail, s3://{bucket}/{key}, is gone: the bucket's "
                    "lifecycle rule is shorter than the mail's time on the queue."
                ) from aws.cause(exc, self._settings)
            raise
        return loaded


_of_apps: WeakKeyDictionary[Celery, StoredContents] = WeakKeyDictionary()


def contents_of(app: Celery) -> StoredContents:
    """Return the contents of *app*'s mails: what is known of them outlives a mail."""
    return _of_apps.setdefault(app, StoredContents(settings_of(app)))
