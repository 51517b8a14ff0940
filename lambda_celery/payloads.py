"""Bodies that are too big for SQS, in the SQS Extended Client's format.

All contact with ``amazon-sqs-extended-client`` is here, because of what it does:

- importing it replaces ``boto3.Session`` for the whole process: undone at once;
- its S3 client gets neither region nor endpoint: replaced by ours;
- it decides with a fixed threshold of 256 KiB: told to store always, we decide;
- it changes the caller's attribute dict: it gets a copy;
- it measures the attributes as text: it gets no binary ones;
- its ``delete_message`` deletes the object before the message and cuts receipt
  handles at a hyphen: not used.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
from botocore.exceptions import ParamValidationError

from lambda_celery import aws
from lambda_celery.conf import Settings, setting_names
from lambda_celery.exceptions import PayloadMissingError, PublishError, UnreadableMessageError

logger = logging.getLogger(__name__)

_POINTER_PREFIXES = (
    '["software.amazon.payloadoffloading.PayloadS3Pointer"',
    '["com.amazon.sqs.javamessaging.MessageS3Pointer"',
)
#: The message attributes that mark a pointer, in the newer format and in the older one.
POINTER_ATTRIBUTES = frozenset({"ExtendedPayloadSize", "SQSLargePayloadSize"})
_import_lock = threading.Lock()


#: A body that is older, and whose message has yet to wait, is stored anew.
_RENEWED_AFTER = timedelta(days=1)


@dataclass(frozen=True)
class Payload:
    """A body from S3."""

    text: str
    stored_at: datetime


def is_pointer(body: str) -> bool:
    """Whether the SQS message *body* points to an S3 object instead of holding the message."""
    return body.startswith(_POINTER_PREFIXES)


def check_bucket(settings: Settings, bucket: str, what: str) -> None:
    """Refuse a *bucket* that the settings do not name: what points to it is input.

    :param what: what points to it, as a sentence begins.
    :raises UnreadableMessageError: they do not name it.
    """
    if bucket not in (settings.payload_bucket, *settings.extra_payload_buckets):
        raise UnreadableMessageError(
            f"{what} points to the S3 bucket {bucket!r}, which the settings do not name: "
            f"if it is yours, add it to {setting_names('extra_payload_buckets')}."
        )


def is_absent(exc: aws.ClientError) -> bool:
    """Whether S3 says that there is no such object."""
    return aws.error_code(exc) in {"NoSuchKey", "NoSuchBucket", "404"}


class PayloadStore:
    """Stores, fetches and deletes bodies in S3."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._made: Any = None
        self._lock = threading.Lock()

    @property
    def bucket(self) -> str | None:
        """The bucket that bodies are put into, if the settings name one."""
        return self._settings.payload_bucket

    def store(
        self, body: str, attributes: Mapping[str, Mapping[str, Any]]
    ) -> tuple[str, dict[str, Any]]:
        """Put *body* into the payload bucket; return the pointer and the attributes to send.

        :raises PublishError: the attributes are more than the format allows.

        AWS's refusals are raised as botocore's errors.
        """
        client = self._client
        from sqs_extended_client.exceptions import SQSExtendedClientException

        # The library measures text alone.
        binary = {name: each for name, each in attributes.items() if "BinaryValue" in each}
        texts = {name: each for name, each in attributes.items() if name not in binary}
        try:
            pointer, sent = client.store_message_in_s3(body, texts)
        except SQSExtendedClientException as exc:
            raise PublishError(f"The message cannot go to S3: {exc}") from aws.cause(
                exc, self._settings
            )
        return pointer, {**sent, **binary}

    def fetch(self, pointer: str) -> Payload:
        """Return the body that *pointer* points to, and when it was stored.

        :raises PayloadMissingError: the object is gone.
        :raises UnreadableMessageError: the pointer or the object is not what it should be.
        """
        bucket, key = locate(pointer)
        settings = self._settings
        check_bucket(settings, bucket, "The message")
        limit = settings.maximum_body_bytes
        try:
            answer = aws.client("s3", settings).get_object(Bucket=bucket, Key=key)
            with closing(answer["Body"]) as stream:
                # The header spares the download; the bound on the read holds without it.
                large = answer.get("ContentLength", 0) > limit
                data = b"" if large else stream.read(limit + 1)
            if large or len(data) > limit:
                raise UnreadableMessageError(
                    f"s3://{bucket}/{key} has more than {limit} bytes: "
                    f"{setting_names('maximum_body_bytes')} is the limit."
                )
            return Payload(data.decode(), answer["LastModified"])
        except aws.ClientError as exc:
            if is_absent(exc):
                raise PayloadMissingError(
                    f"The message's body, s3://{bucket}/{key}, is gone."
                ) from aws.cause(exc, self._settings)
            raise
        except ParamValidationError as exc:  # no name that a bucket or an object can have
            raise UnreadableMessageError(f"The pointer to S3 is malformed: {exc}.") from exc
        except UnicodeDecodeError as exc:
            raise UnreadableMessageError(f"s3://{bucket}/{key} is not UTF-8 text.") from exc

    def delete(self, pointer: str) -> None:
        """Delete the object behind *pointer*, if it is in the bucket that the settings name.

        A pointer is input: it must not make us delete from somebody else's bucket.
        A refusal of S3's is logged: the bucket's lifecycle rule is the backstop.
        """
        bucket, key = locate(pointer)
        if bucket != self._settings.payload_bucket:
            return
        try:
            aws.client("s3", self._settings).delete_object(Bucket=bucket, Key=key)
        except aws.AWS_ERRORS as exc:
            logger.warning("A settled body stays in S3 until the bucket expires it: %s", exc)

    def renew(self, pointer: str, stored_at: datetime) -> None:
        """Store the body behind *pointer* anew, if it was *stored_at* long ago.

        For a message that has yet to wait, again and again: the bucket's lifecycle rule counts from
        when a body was stored. Only in the bucket that the settings name; a refusal is logged.
        """
        bucket, key = locate(pointer)
        is_young = datetime.now(UTC) - stored_at < _RENEWED_AFTER
        if is_young or bucket != self._settings.payload_bucket:
            return
        try:
            # S3 copies an object onto itself where something about it changes.
            aws.client("s3", self._settings).copy_object(
                Bucket=bucket,
                Key=key,
                CopySource={"Bucket": bucket, "Key": key},
                MetadataDirective="REPLACE",
            )
        except aws.AWS_ERRORS as exc:
            logger.warning(
                "The body s3://%s/%s could not be stored anew, and the bucket's lifecycle rule may "
                "remove it before its message is due: %s",
                bucket, key, exc,
            )  # fmt: skip

    @property
    def _client(self) -> Any:
        with self._lock:
            if self._made is None:
                session = _extended_session_class()(region_name=aws.region_of(self._settings))
                made = session.client("sqs", endpoint_url=self._settings.endpoint_url)
                if self._settings.payload_bucket:
                    made.large_payload_support = self._settings.payload_bucket
                made.always_through_s3 = True
                self._made = made
            # Each time: a forked child has a client of its own.
            self._made.s3_client = aws.client("s3", self._settings)
        return self._made


def locate(pointer: str) -> tuple[str, str]:
    """Return the bucket and key in *pointer*.

    :raises UnreadableMessageError: there are none in it.
    """
    try:
        _, where = json.loads(pointer)
        bucket, key = where["s3BucketName"], where["s3Key"]
        if not (isinstance(bucket, str) and isinstance(key, str) and bucket and key):
            raise TypeError("bucket and key must be strings")
        (bucket + key).encode()  # a lone surrogate is no part of a name
        return bucket, key
    except (ValueError, TypeError, KeyError, RecursionError) as exc:
        raise UnreadableMessageError(f"The pointer to S3 is malformed: {pointer[:200]!r}.") from exc


def _extended_session_class() -> Any:
    with _import_lock:
        before = boto3.session.Session, boto3.Session, boto3.DEFAULT_SESSION
        import sqs_extended_client

        # Nothing changes here if the application had imported it already, on purpose.
        boto3.session.Session, boto3.Session, boto3.DEFAULT_SESSION = before
        return sqs_extended_client.SQSExtendedClientSession
