"""What a sender wrote is read, or is unreadable: no reader of it raises anything else.

Where atheris is installed (``pip install atheris``), the same is tried along the code's branches.
"""

from __future__ import annotations

import bz2
import importlib.util
import json
import lzma
import os
import subprocess
import sys
import zlib
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.readers import make_app, read_bytes, read_embed, read_headers, read_record
from tests.fuzz.records import EMBEDS, HEADERS, RECORDS, examples

ROOT = Path(__file__).parents[2]
#: Inputs of the guided test, for each example of the others. They are quick.
GUIDED_PER_EXAMPLE = 50
#: The first byte of its inputs that stands for the reader of bytes.
BYTES_READER = b"\3"


def envelope(body: bytes, properties: dict[str, Any], **headers: Any) -> bytes:
    """Return a message that is as it should be, as JSON."""
    return json.dumps(
        {
            "body": body.decode(),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "properties": properties,
            "headers": {"task": "celery.accumulate", "id": "1", **headers},
        }
    ).encode()


ENCODED = {"body_encoding": "base64"}
#: What the guided test starts from.
SEEDS = (
    envelope(b"[[], {}, {}]", {}),
    envelope(b'{"task": "celery.accumulate", "id": "1"}', {}),
    b64encode(envelope(b64encode(b"[[], {}, {}]"), ENCODED, retries=1, timelimit=[9, 8])),
    envelope(
        b64encode(zlib.compress(b'[[], {}, {"chain": []}]')), ENCODED, compression="zlib",
        eta="2020-01-01T00:00:00+00:00", stamped_headers=["a"], stamps={"a": "b"},
    ),
    b'["software.amazon.payloadoffloading.PayloadS3Pointer",{"s3BucketName":"b","s3Key":"k"}]',
    b"\0" + zlib.compress(b"a" * 100),
    b"\1" + bz2.compress(b"a" * 100),
    b"\2" + lzma.compress(b"a" * 100),
)  # fmt: skip

app = make_app()
tried = settings(
    max_examples=examples(), deadline=None, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


@tried
@given(RECORDS)
def test_a_record_is_read_or_unreadable(record: dict[str, Any]) -> None:
    read_record(app, record)


@tried
@given(HEADERS)
def test_headers_are_read_or_unreadable(headers: dict[str, Any]) -> None:
    read_headers(headers)


@tried
@given(EMBEDS)
def test_what_is_to_follow_a_task_is_read_or_unreadable(embed: dict[str, Any]) -> None:
    read_embed(embed)


@tried
@given(st.binary(max_size=200))
def test_bytes_are_read_or_unreadable(data: bytes) -> None:
    read_bytes(app, data)


def test_a_time_limit_beyond_all_floats_is_unreadable() -> None:
    read_headers({"task": "celery.accumulate", "id": "1", "timelimit": [10**400, None]})


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="There is no atheris: pip install atheris."
)
def test_what_leads_to_new_branches_is_read_or_unreadable(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, each in enumerate(SEEDS):
        (corpus / str(number)).write_bytes(BYTES_READER + each)
    # A process of its own: atheris ends the one that it runs in.
    result = subprocess.run(
        [
            sys.executable, "-m", "tests.fuzz.guided",
            f"-runs={examples() * GUIDED_PER_EXAMPLE}", "-seed=1", "-max_len=1000",
            f"-artifact_prefix={tmp_path}/", str(corpus),
        ],
        cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": "0"}, capture_output=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, (result.stdout + result.stderr).decode(errors="replace")
