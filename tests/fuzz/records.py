"""What may stand in a record: bodies, envelopes, headers, pointers and attributes, good and bad.

Whoever may send to the queue can write all of it.
"""

from __future__ import annotations

import json
import os
from typing import Any

from hypothesis import strategies as st

#: How many examples are tried, where nobody wants more.
_FEW = 60


def examples() -> int:
    """Return how many examples a test tries: ``LAMBDA_CELERY_FUZZ_EXAMPLES``, or a few."""
    return int(os.environ.get("LAMBDA_CELERY_FUZZ_EXAMPLES") or _FEW)


TEXT = st.text(st.characters(), max_size=20)
HALF_CHARACTERS = st.text(st.characters(categories=["Cs", "L"]), max_size=5)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | HALF_CHARACTERS
    | st.sampled_from(["1" * 5000, 10**4000, -1, 10**9, "9999-12-31T23:59:59", "\ud800"])
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda each: st.lists(each, max_size=3) | st.dictionaries(TEXT, each, max_size=3),
    max_leaves=6,
)  # fmt: skip


def some_of(**fields: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Return mappings with some of *fields*, each as it should be, or anything."""
    return st.fixed_dictionaries(
        {}, optional={name: VALUES | each for name, each in fields.items()}
    )


HEADERS = some_of(
    **dict.fromkeys(
        (
            "retries", "eta", "expires", "timelimit", "stamps", "stamped_headers", "group",
            "root_id", "parent_id", "shadow", "lambda_schedule", "lambda_publication", "origin",
            "replaced_task_nesting", "ignore_result", "argsrepr", "kwargsrepr",
        ),
        VALUES,
    ),
    compression=st.sampled_from(["zlib", "bzip2", "lzma", "zstd"]),
    task=st.just("celery.accumulate"),
    id=st.uuids().map(str),
)  # fmt: skip
EMBEDS = some_of(callbacks=VALUES, errbacks=VALUES, chain=VALUES, chord=VALUES)
BODIES = st.one_of(
    VALUES.map(json.dumps),
    st.tuples(st.lists(VALUES, max_size=2), st.just({}), EMBEDS).map(json.dumps),
)
ENVELOPES = some_of(
    **{"content-type": st.just("application/json"), "content-encoding": st.just("utf-8")},
    body=BODIES,
    headers=HEADERS,
    properties=some_of(body_encoding=VALUES, delivery_info=VALUES, priority=VALUES),
).map(json.dumps)
POINTERS = some_of(s3BucketName=VALUES, s3Key=VALUES).map(
    lambda where: json.dumps(["software.amazon.payloadoffloading.PayloadS3Pointer", where])
)
ATTRIBUTES = VALUES | some_of(
    ApproximateReceiveCount=VALUES, SentTimestamp=VALUES, MessageGroupId=VALUES
)
MESSAGE_ATTRIBUTES = VALUES | some_of(
    LambdaCelerySentOnFrom=some_of(dataType=st.just("String"), stringValue=VALUES),
    other=some_of(dataType=TEXT, stringValue=TEXT, binaryValue=TEXT),
)
#: Without ``messageId``, which no sender writes.
RECORDS = st.fixed_dictionaries(
    {"body": TEXT | ENVELOPES | POINTERS | VALUES},
    optional={
        "receiptHandle": VALUES,
        "attributes": ATTRIBUTES,
        "messageAttributes": MESSAGE_ATTRIBUTES,
    },
)
