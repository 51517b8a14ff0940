"""Powertools' Tracer around tasks and around the handler, before a daemon on loopback."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import pytest
from celery import chain

pytest.importorskip("aws_xray_sdk")

from aws_lambda_powertools import Tracer
from aws_xray_sdk.core import xray_recorder

from tests.functional.runtime.conftest import Context
from tests.functional.runtime.xray_daemon import (
    INVOCATION,
    INVOCATION_SEGMENT,
    begin_invocation,
)

NEXT_INVOCATION = "1-5759e988-000000000000000000000002"
EACH_WAY = pytest.mark.parametrize(
    "settings",
    [{}, {"lambda_concurrency": 8}, {"lambda_concurrency": 2, "lambda_processes": 2}],
    ids=["one", "threads", "processes"],
)


@pytest.fixture
def tracer(daemon: Any) -> Tracer:
    return Tracer(service="mail", auto_patch=False, disabled=False)


@EACH_WAY
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_each_run_is_one_subsegment_that_names_who_called(
    make_runtime, daemon, tracer, monkeypatch, settings, is_async
):
    # Given: what is retried, what goes on with another, and what its hard limit ends
    runtime = make_runtime(lambda_retry_backoff_seconds=600.0, **settings)

    def told(request: Any) -> None:
        called_by = request.headers["X-Amzn-Trace-Id"]
        tracer.put_annotation("run", f"{request.id} {request.retries}")
        tracer.put_annotation("called_by", called_by)

    if is_async:

        @runtime.task(name="proj.send", bind=True)
        @tracer.capture_method
        async def send(self: Any, n: int) -> None:
            await asyncio.sleep(0)
            told(self.request)
            if n == 0 and not self.request.retries:
                raise self.retry(countdown=0)

        @runtime.task(name="proj.hang", bind=True, time_limit=0.3)
        @tracer.capture_method
        async def hang(self: Any) -> None:
            told(self.request)
            await asyncio.Event().wait()

    else:

        @runtime.task(name="proj.send", bind=True)
        @tracer.capture_method
        def send(self: Any, n: int) -> None:
            told(self.request)
            if n == 0 and not self.request.retries:
                raise self.retry(countdown=0)

        @runtime.task(name="proj.hang", bind=True, time_limit=0.3)
        @tracer.capture_method
        def hang(self: Any) -> None:
            told(self.request)
            while True:
                time.sleep(0.01)

    handler = tracer.capture_lambda_handler(runtime.handler)

    # When
    with xray_recorder.in_segment("web") as web:
        hung = hang.delay()
        retried = send.delay(0)
        second = chain(send.si(1), send.si(2)).delay()
    assert [each["name"] for each in daemon.take()] == ["web"]
    answers, documents = [], []
    for trace_id, count in ((INVOCATION, 3), (NEXT_INVOCATION, 2)):
        messages = runtime.receive(count)
        begin_invocation(monkeypatch, trace_id)
        answers.append(handler(runtime.event(messages), Context(time.time() + 60)))
        documents.append(daemon.take())  # nothing is left to be sent when the answer is there

    # Then
    assert [len(each["batchItemFailures"]) for each in answers] == [1, 0]
    by_run = []
    for trace_id, all_sent in zip((INVOCATION, NEXT_INVOCATION), documents, strict=True):
        assert {each["trace_id"] for each in all_sent} == {trace_id}
        assert not any(each["in_progress"] for each in all_sent)
        runs = [each for each in all_sent if "run" in each.get("annotations", {})]
        [around] = [each for each in all_sent if each not in runs]
        assert (around["name"], around["parent_id"]) == ("## handler", INVOCATION_SEGMENT)
        assert {each["parent_id"] for each in runs} <= {INVOCATION_SEGMENT, around["id"]}
        by_run.append({each["annotations"]["run"]: each for each in runs})
        assert len(by_run[-1]) == len(runs)
    first, then = by_run
    assert first.keys() == {f"{hung.id} 0", f"{retried.id} 0", f"{second.parent.id} 0"}
    assert then.keys() == {f"{retried.id} 1", f"{second.id} 0"}
    assert {each["annotations"]["called_by"] for each in first.values()} == {
        f"Root={web.trace_id};Parent={web.id};Sampled=1"
    }
    sent_by = {
        run: each["annotations"]["called_by"].removeprefix(f"Root={INVOCATION};Parent=")[:16]
        for run, each in then.items()
    }
    assert sent_by[f"{retried.id} 1"] == first[f"{retried.id} 0"]["id"]
    # A chain's next is sent when the body has ended, by Celery.
    assert sent_by[f"{second.id} 0"] == first[f"{second.parent.id} 0"]["parent_id"]
    assert first[f"{hung.id} 0"]["fault"]


def test_what_asynchronous_tasks_begin_at_the_same_time_is_not_mixed_up(
    make_runtime, daemon, tracer, monkeypatch
):
    number = 6
    runtime = make_runtime(lambda_concurrency=number)
    under_way = []
    all_there = asyncio.Event()

    async def ask(n: int, part: str) -> None:
        async with tracer.provider.in_subsegment_async(f"{n} {part}"):
            await asyncio.sleep(0)
            tracer.put_annotation("n", n)

    @runtime.task(name="proj.send")
    @tracer.capture_method
    async def send(n: int) -> None:
        under_way.append(n)
        if len(under_way) == number:
            all_there.set()
        await all_there.wait()
        await asyncio.gather(ask(n, "a"), ask(n, "b"))
        tracer.put_annotation("n", n)

    for n in range(number):
        send.delay(n)
    begin_invocation(monkeypatch)
    assert runtime.deliver(number).all_deleted

    documents = daemon.take()
    ids = {each["id"]: each["annotations"]["n"] for each in documents}
    parents = Counter()
    for each in documents:
        if not each["name"].startswith("##"):
            assert each["name"].split()[0] == str(each["annotations"]["n"])
            parents[ids[each["parent_id"]], each["annotations"]["n"]] += 1
    assert parents == {(n, n): 2 for n in range(number)}
    assert len(documents) == 3 * number
