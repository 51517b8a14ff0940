"""Whatever stands in a record: it is answered for, and its good neighbours run."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lambda_celery.envelope import read_envelope
from tests.functional.runtime.conftest import Context
from tests.fuzz.records import RECORDS, examples


def test_every_record_is_answered_for_and_good_neighbours_run(make_runtime):
    runtime = make_runtime(lambda_max_receive_count=1000)
    ran: list[str] = []

    @runtime.task
    def good(n):
        ran.append(n)

    good.delay("template")
    (template,) = runtime.event(runtime.receive())["Records"]

    @settings(
        max_examples=examples(), deadline=None, database=None,
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
    envelope = read_envelope(template["body"])
    envelope["headers"]["id"] = str(uuid.uuid4())
    return {**template, "body": json.dumps(envelope), "messageId": str(uuid.uuid4())}
