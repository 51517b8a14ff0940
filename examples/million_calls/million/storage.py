"""The bucket with the CSV, the positions and the lists of failures."""

import os
from typing import Any

import boto3

BUCKET_VARIABLE = "MILLION_BUCKET"


class Storage:
    """One bucket. The methods block: a coroutine calls them in a thread."""

    def __init__(self) -> None:
        self._bucket = os.environ[BUCKET_VARIABLE]
        self._s3: Any = boto3.client("s3")

    def size(self, key: str) -> int:
        return self._s3.head_object(Bucket=self._bucket, Key=key)["ContentLength"]

    def read(self, key: str, begin: int = 0, end: int | None = None) -> bytes:
        """Return the bytes from *begin* to before *end*; by default all."""
        last = "" if end is None else end - 1
        answer = self._s3.get_object(Bucket=self._bucket, Key=key, Range=f"bytes={begin}-{last}")
        return answer["Body"].read()

    def write(self, key: str, content: bytes) -> None:
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=content)
