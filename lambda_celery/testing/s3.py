"""S3 in memory, as far as bodies and attachments ask it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from lambda_celery.testing.ageing import aged_body
from lambda_celery.testing.clock import Clock
from lambda_celery.testing.refusal import RefusedError


@dataclass(frozen=True)
class StoredObject:
    """What is in a bucket."""

    data: bytes
    #: The process's time.
    stored_at: datetime
    #: What the queue's clock had let pass when its contents were written.
    written_after_seconds: float


class S3:
    """Buckets, each of which is there.

    :param objects: what is in them.
    """

    #: What changes nothing; the rest is lost where the process has died.
    READS = frozenset({"GetObject", "HeadObject"})

    def __init__(self, clock: Clock, objects: dict[tuple[str, str], StoredObject]) -> None:
        self._clock = clock
        self._objects = objects

    def put_object(self, *, Bucket: str, Key: str, Body: Any, **_: Any) -> dict[str, Any]:  # noqa: N803
        """Store an object."""
        data = Body if isinstance(Body, bytes | bytearray) else Body.read()
        self._objects[Bucket, Key] = StoredObject(
            bytes(data), datetime.now(UTC), self._clock.passed_seconds
        )
        return {}

    def get_object(self, *, Bucket: str, Key: str, **_: Any) -> dict[str, Any]:  # noqa: N803
        """Return an object; a message's body, as it looks by now."""
        found = self._found(Bucket, Key)
        data = self._data(found)
        return {
            "Body": io.BytesIO(data),
            "ContentLength": len(data),
            "LastModified": found.stored_at,
        }

    def head_object(self, *, Bucket: str, Key: str, **_: Any) -> dict[str, Any]:  # noqa: N803
        """Tell of an object."""
        found = self._found(Bucket, Key, "404")
        return {"ContentLength": len(found.data), "LastModified": found.stored_at}

    def copy_object(self, *, Bucket: str, Key: str, CopySource: Any, **_: Any) -> dict[str, Any]:  # noqa: N803
        """Store a copy."""
        found = self._found(CopySource["Bucket"], CopySource["Key"])
        return self.put_object(Bucket=Bucket, Key=Key, Body=self._data(found))

    def delete_object(self, *, Bucket: str, Key: str, **_: Any) -> dict[str, Any]:  # noqa: N803
        """Delete an object, if it is there."""
        self._objects.pop((Bucket, Key), None)
        return {}

    def age(self, seconds: float) -> None:
        """Let time pass for all objects."""
        for name, each in self._objects.items():
            stored_at = each.stored_at - timedelta(seconds=seconds)
            self._objects[name] = StoredObject(each.data, stored_at, each.written_after_seconds)

    def _found(self, bucket: str, key: str, code: str = "NoSuchKey") -> StoredObject:
        try:
            return self._objects[bucket, key]
        except KeyError:
            raise RefusedError(code, f"s3://{bucket}/{key} is not there.") from None

    def _data(self, found: StoredObject) -> bytes:
        seconds = self._clock.passed_seconds - found.written_after_seconds
        if not seconds:
            return found.data
        try:
            return aged_body(found.data.decode(), seconds).encode()
        except UnicodeDecodeError:
            return found.data
