"""X-Ray's own SDK and Powertools' Tracer, before a daemon that listens on loopback."""

from __future__ import annotations

import base64
import json
import logging
import re
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import botocore.client
import botocore.endpoint
import pytest

from lambda_celery import batch, delay_many
from lambda_celery.failures import FailedTasks
from lambda_celery.schedules import scheduler
from tests.functional.runtime.conftest import Context
from tests.functional.runtime.xray_daemon import (
    INVOCATION,
    INVOCATION_SEGMENT,
    begin_invocation,
)

pytest.importorskip("aws_xray_sdk")

from aws_lambda_powertools import Tracer
from aws_xray_sdk.core import patch, patcher, xray_recorder

PRODUCER = "1-67891233-abcdef012345678912345678"
HEADER = f"Root={PRODUCER};Parent=463ac35c9f6413ad;Sampled=1"


@pytest.fixture
def watched(monkeypatch) -> Iterator[None]:
    """X-Ray's SDK around botocore."""
    monkeypatch.setattr(
        botocore.client.BaseClient, "_make_api_call", botocore.client.BaseClient._make_api_call
    )
    monkeypatch.setattr(
        botocore.endpoint.Endpoint, "prepare_request", botocore.endpoint.Endpoint.prepare_request
    )
    patch(["botocore"], raise_errors=True)
    yield
    del botocore.client._xray_enabled
    patcher._PATCHED_MODULES.discard("botocore")


def header_of(message: dict[str, Any]) -> str | None:
    header = message["Attributes"].get("AWSTraceHeader")
    return None if header is None else str(header)


def named_by(sent: dict[str, Any]) -> str:
    """Return what a message that is sent names as its trace."""
    return str(sent["MessageSystemAttributes"]["AWSTraceHeader"]["StringValue"])


@pytest.fixture
def send(runtime) -> Any:
    @runtime.task(name="proj.send")
    def send(n: int = 0) -> None:
        pass

    return send


def test_a_message_names_the_segment_that_called(runtime, daemon, send):
    with xray_recorder.in_segment("web") as segment:
        send.delay()
        with xray_recorder.in_subsegment("view") as subsegment:
            send.delay()
    by_parent = {header_of(each): each for each in runtime.receive(2)}

    for entity in (segment, subsegment):
        header = f"Root={segment.trace_id};Parent={entity.id};Sampled=1"
        assert runtime.envelope(by_parent[header])["headers"]["X-Amzn-Trace-Id"] == header


def test_what_is_not_sampled_says_so(runtime, daemon, send):
    with xray_recorder.in_segment("web", traceid=PRODUCER, sampling=True) as segment:
        segment.sampled = False
        send.delay()
    (message,) = runtime.receive()
    assert str(header_of(message)).endswith(";Sampled=0")


def test_without_a_segment_nothing_is_said_and_nobody_complains(runtime, daemon, send, caplog):
    xray_recorder.context.context_missing = "RUNTIME_ERROR"
    send.delay()
    delay_many(send, [(1,), (2,)])
    assert [header_of(each) for each in runtime.receive(3)] == [None] * 3
    assert "segment" not in caplog.text


def test_of_many_messages_each_names_where_its_call_was_made(runtime, daemon, send, faults):
    # The emulator leaves out system attributes of what is sent in batches.
    requests = faults.watch(runtime.settings, "sqs", "SendMessageBatch")

    def calls() -> Iterator[tuple[int]]:
        for n in range(2):
            with xray_recorder.in_subsegment(f"slice {n}") as subsegment:
                parents.append(subsegment.id)
                yield (n,)
                yield (n,)

    parents: list[str] = []
    with xray_recorder.in_segment("web"):
        delay_many(send, calls())
        with batch():
            for _ in range(2):
                with xray_recorder.in_subsegment("view") as subsegment:
                    parents.append(subsegment.id)
                    send.delay()
                    send.delay()
    entries = [each for request in requests for each in request["Entries"]]
    headers = [named_by(each) for each in entries]
    of_bodies = [
        runtime.envelope(each)["headers"]["X-Amzn-Trace-Id"] for each in runtime.receive(8)
    ]

    assert sorted(re.findall("Parent=([0-9a-f]{16})", " ".join(headers))) == sorted(parents * 2)
    assert sorted(of_bodies) == sorted(headers)


def test_what_is_sent_on_or_parked_keeps_its_trace(make_runtime, daemon, faults):
    runtime = make_runtime(lambda_max_receive_count=1)

    @runtime.task(name="proj.fail")
    def fail() -> None:
        raise ValueError("451")

    with xray_recorder.in_segment("web") as segment:
        fail.apply_async(countdown=600, DelaySeconds=0)
        header = f"Root={segment.trace_id};Parent={segment.id};Sampled=1"
        sent = faults.watch(runtime.settings, "sqs", "SendMessage")
        runtime.deliver()
        assert [named_by(each) for each in sent] == [header]
        fail.delay()
    runtime.deliver()
    (parked,) = runtime.stack.dead_letters()
    assert header_of(parked) == header
    assert runtime.envelope(parked)["headers"]["X-Amzn-Trace-Id"] == header

    # And when it is sent back
    with FailedTasks(runtime.app) as tasks:
        (failure,) = tasks.select()
        tasks.retry(failure)
    assert header_of(runtime.receive()[0]) == header


def test_opentelemetrys_header_for_xray_becomes_the_messages_trace(runtime, send):
    send.apply_async(headers={"X-Amzn-Trace-Id": HEADER})
    assert header_of(runtime.receive()[0]) == HEADER


@pytest.mark.parametrize("header", ["Root=1", HEADER + ";a=" + "b" * 600, HEADER + "\n", 7])
def test_what_is_no_header_of_xrays_is_not_given_to_sqs(runtime, send, header):
    send.apply_async(headers={"X-Amzn-Trace-Id": header})
    assert header_of(runtime.receive()[0]) is None


def test_what_a_schedule_carries_has_the_trace_in_its_body(make_runtime, daemon, faults):
    runtime = make_runtime(
        lambda_schedule_group=f"test-{uuid.uuid4().hex[:12]}",
        lambda_schedule_role_arn="arn:aws:iam::000000000000:role/scheduler",
    )
    scheduler.ensure_group(runtime.settings)
    created = faults.watch(runtime.settings, "scheduler", "CreateSchedule")

    @runtime.task(name="proj.send")
    def send() -> None:
        pass

    with xray_recorder.in_segment("web") as segment:
        send.apply_async(countdown=86_400)
    body = created[0]["Target"]["Input"]
    envelope = json.loads(base64.b64decode(body))
    header = envelope["headers"]["X-Amzn-Trace-Id"]
    assert segment.trace_id in header
    # When: its time comes near
    envelope["headers"]["eta"] = (datetime.now(UTC) + timedelta(minutes=10)).isoformat()
    runtime.send_copy({"Body": base64.b64encode(json.dumps(envelope).encode()).decode()})
    (fired,) = runtime.receive()
    assert header_of(fired) is None
    sent = faults.watch(runtime.settings, "sqs", "SendMessage")
    runtime.hand_over([fired])
    assert [named_by(each) for each in sent] == [header]


def test_a_run_is_in_the_invocations_trace_and_so_is_what_it_sends(runtime, daemon, monkeypatch):
    tracer = Tracer(service="mail", auto_patch=False, disabled=False)

    @runtime.task(name="proj.send", bind=True)
    @tracer.capture_method
    def send(self: Any, address: str) -> None:
        tracer.put_annotation("called_by", self.request.headers["X-Amzn-Trace-Id"])
        if not self.request.retries:
            raise self.retry(countdown=0)

    with xray_recorder.in_segment("web") as segment:
        send.delay("ann@example.org")
    assert daemon.read()["trace_id"] == segment.trace_id
    (message,) = runtime.receive()
    header = header_of(message)
    assert segment.trace_id in str(header)  # by which X-Ray links the traces
    begin_invocation(monkeypatch)
    assert runtime.hand_over([message]).all_deleted

    ran = daemon.read()
    assert (ran["trace_id"], ran["type"]) == (INVOCATION, "subsegment")
    assert ran["annotations"]["called_by"] == header
    (retry,) = runtime.receive()
    sent_by = f"Root={INVOCATION};Parent={ran['id']};Sampled=1;Lineage=1:abc:0"
    assert header_of(retry) == sent_by


def test_the_recipe_of_the_page_traces_a_run(runtime, daemon, monkeypatch):
    page = (Path(__file__).parents[3] / "docs/observability.md").read_text()
    section = page.partition("\n### X-Ray\n")[2].partition("\n##")[0]
    in_tasks, in_handler, in_web = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    monkeypatch.setenv("LAMBDA_TASK_ROOT", "/var/task")  # without, Powertools does not trace
    tasks: Any = ModuleType("proj.tasks")
    tasks.app = runtime.app
    monkeypatch.setitem(sys.modules, "proj", ModuleType("proj"))
    monkeypatch.setitem(sys.modules, "proj.tasks", tasks)
    deployed: dict[str, Any] = {}

    exec(in_tasks, vars(tasks))
    exec(in_handler, deployed)
    exec(in_web, vars(tasks))
    assert daemon.read()["name"] == "web"
    messages = runtime.receive()
    begin_invocation(monkeypatch)
    answer = deployed["handler"](runtime.event(messages), Context(time.time() + 60))
    assert answer == {"batchItemFailures": []}

    ran, around = daemon.take()
    assert (ran["trace_id"], ran["name"]) == (INVOCATION, "## proj.tasks.send")
    assert ran["annotations"].keys() == {"task_id"}
    assert (around["name"], around["id"]) == ("## handler", ran["parent_id"])


def test_runs_at_the_same_time_have_subsegments_of_their_own(make_runtime, daemon, monkeypatch):
    runtime = make_runtime(lambda_concurrency=4)
    tracer = Tracer(service="mail", auto_patch=False, disabled=False)

    @runtime.task(name="proj.send", bind=True)
    @tracer.capture_method
    def send(self: Any) -> None:
        tracer.put_annotation("task_id", self.request.id)

    ids = {send.delay().id for _ in range(8)}
    begin_invocation(monkeypatch)
    assert runtime.deliver(8).all_deleted

    documents = [daemon.read() for _ in ids]
    assert {each["annotations"]["task_id"] for each in documents} == ids
    assert {each["trace_id"] for each in documents} == {INVOCATION}
    assert {each["parent_id"] for each in documents} == {INVOCATION_SEGMENT}


def test_the_requests_of_a_batch_are_in_its_segment(runtime, daemon, send, watched, caplog):
    with xray_recorder.in_segment("web"), caplog.at_level(logging.WARNING):
        delay_many(send, ((n,) for n in range(12)))
    sent = [each for each in daemon.read()["subsegments"] if each["name"] == "sqs"]

    assert [each["aws"]["operation"] for each in sent].count("SendMessageBatch") == 2
    assert "cannot find the current segment" not in caplog.text
