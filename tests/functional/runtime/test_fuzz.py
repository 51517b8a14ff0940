"""Whatever stands in a record: it is answered for, and its good neighbours run.

``LAMBDA_CELERY_FUZZ_EXAMPLES`` is the number of batches that are tried.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.functional.runtime.conftest import Context

EXAMPLES = int(os.environ.get("LAMBDA_CELERY_FUZZ_EXAMPLES", "60"))

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


def some_of(**fields: Any) -> Any:
    return st.fixed_dictionaries(
        {}, optional={name: VALUES | each for name, each in fields.items()}
    )


HEADERS = some_of(
    **dict.fromkeys(
        (
            "retries", "eta", "expires", "timelimit", "stamps", "stamped_headers", "group",
            "root_id", "parent_id", "shadow", "compression", "lambda_schedule", "origin",
            "replaced_task_nesting", "ignore_result", "argsrepr", "kwargsrepr",
        ),
        VALUES,
    ),
    task=st.just("celery.accumulate"),
    id=st.uuids().map(str),
)  # fmt: skip
BODIES = st.one_of(
    VALUES.map(json.dumps),
    st.tuples(st.lists(VALUES, max_size=2), st.just({}), some_of(callbacks=VALUES, chord=VALUES))
    .map(json.dumps),
)  # fmt: skip
ENVELOPES = some_of(
    **{"content-type": st.just("application/json"), "content-encoding": st.just("utf-8")},
    body=BODIES,
    headers=HEADERS,
    properties=some_of(body_encoding=VALUES, delivery_info=VALUES, priority=VALUES),
).map(json.dumps)
POINTERS = some_of(s3BucketName=VALUES, s3Key=VALUES).map(
    lambda where: json.dumps(["software.amazon.payloadoffloading.PayloadS3Pointer", where])
)
RECORDS = st.fixed_dictionaries(
    {"body": TEXT | ENVELOPES | POINTERS | VALUES},
    optional={
        "receiptHandle": VALUES,
        "attributes": VALUES
        | some_of(ApproximateReceiveCount=VALUES, SentTimestamp=VALUES, MessageGroupId=VALUES),
        "messageAttributes": VALUES
        | some_of(
            LambdaCelerySentOnFrom=some_of(dataType=st.just("String"), stringValue=VALUES),
            other=some_of(dataType=TEXT, stringValue=TEXT, binaryValue=TEXT),
        ),
    },
)


def test_every_record_is_answered_for_and_good_neighbours_run(make_runtime):
    runtime = make_runtime(lambda_max_receive_count=1000)
    ran: list[str] = []

    @runtime.task
    def good(n):
        ran.append(n)

    good.delay("template")
    (template,) = runtime.event(runtime.receive())["Records"]

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.lists(RECORDS, max_size=5))
    def check(hostile: list[dict[str, Any]]) -> None:
        ran.clear()
        records = []
        for n, each in enumerate(hostile):
            fields = {**template, **each, "messageId": f"hostile-{n}-{uuid.uuid4()}"}
            records += [fields, neighbour(template)]
        answer = runtime.handler({"Records": records}, Context(time.time() + 60))
        failed = [each["itemIdentifier"] for each in answer["batchItemFailures"]]
        assert len(failed) == len(set(failed))
        assert {each for each in failed if not each.startswith("hostile-")} == set()
        assert ran.count("template") == len(hostile)

    check()


def neighbour(template: dict[str, Any]) -> dict[str, Any]:
    """Return a record of a call of its own of the task in *template*."""
    from lambda_celery.envelope import read_envelope

    envelope = read_envelope(template["body"])
    envelope["headers"]["id"] = str(uuid.uuid4())
    return {**template, "body": json.dumps(envelope), "messageId": str(uuid.uuid4())}
