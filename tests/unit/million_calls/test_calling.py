"""Rows are called a bounded number at a time, tried again, and left open when the time runs out."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from lambda_runtime.running import event_loop


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch, _importable):
    from million import calling

    monkeypatch.setattr(calling, "BACKOFF_SECONDS", 0.0)


def mark(bucket: Any) -> dict[str, Any]:
    return json.loads(bucket.objects["job/0/mark.json"])


async def run(bucket: Any, call: Callable[..., Any], job: str = "job") -> bool:
    """Run the job as its task does."""
    from million.calling import Calling
    from million.progress import Progress

    return await Calling(call, Progress(bucket, job, 0), 0.05).run(3)


def begin(bucket: Any, key: str = "csv", *, job: str = "job", **options: Any) -> None:
    from million.progress import begin as begin_job

    begin_job(bucket, job, key, **options)


def test_no_more_than_the_bound_are_in_flight(bucket):
    from million.calling import Answer

    begin(bucket)
    under_way, most, called = 0, 0, []

    async def call(key: str, fields: list[str]) -> Any:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        called.append((key, fields))
        return Answer(200)

    assert asyncio.run(run(bucket, call))
    assert most == 3
    assert sorted(called) == sorted((f"job-{n}", [f"/members/{n}"]) for n in range(1, 11))
    assert (mark(bucket)["succeeded"], mark(bucket)["open"]) == (10, [])


@pytest.mark.parametrize("trouble", [429, 500, 503, aiohttp.ServerDisconnectedError, TimeoutError])
def test_what_may_pass_is_tried_again(bucket, trouble):
    from million.calling import Answer

    begin(bucket)
    attempts: Counter[str] = Counter()

    async def call(key: str, _fields: list[str]) -> Any:
        attempts[key] += 1
        if attempts[key] > 2:
            return Answer(200)
        if isinstance(trouble, int):
            return Answer(trouble)
        raise trouble

    assert asyncio.run(run(bucket, call))
    assert set(attempts.values()) == {3}
    assert mark(bucket)["succeeded"] == 10


def test_what_fails_is_listed_and_can_be_called_again_alone(bucket):
    from million.calling import ATTEMPTS, Answer
    from million.progress import FAILED_HEADER, failures

    begin(bucket)
    calls: list[int] = []

    async def call(key: str, _fields: list[str]) -> Any:
        number = int(key.removeprefix("job-"))
        calls.append(number)
        if number == 3:
            return Answer(404)
        if number == 7:
            raise aiohttp.ServerDisconnectedError
        return Answer(200)

    assert asyncio.run(run(bucket, call))
    listed = failures(bucket, "job", 0)
    assert sorted(listed) == ["3,404,/members/3", "7,ServerDisconnectedError,/members/7"]
    assert (calls.count(3), calls.count(7)) == (1, ATTEMPTS)

    bucket.write("failed", "\n".join([f"{FAILED_HEADER}path", *listed]).encode())
    begin(bucket, "failed", job="again", failures_of="job")
    again: list[tuple[str, list[str]]] = []

    async def call_again(key: str, fields: list[str]) -> Any:
        again.append((key, fields))
        return Answer(404) if fields == ["/members/7"] else Answer(200)

    assert asyncio.run(run(bucket, call_again, job="again"))
    assert sorted(again) == [("job-3", ["/members/3"]), ("job-7", ["/members/7"])]
    assert failures(bucket, "again", 0) == ["7,404,/members/7"]


def test_when_the_time_runs_out_what_hangs_stays_open_and_the_rest_is_not_begun(bucket):
    from million.calling import Answer

    begin(bucket)
    called: list[int] = []

    async def call(key: str, _fields: list[str]) -> Any:
        number = int(key.removeprefix("job-"))
        called.append(number)
        if number > 4:
            await asyncio.Event().wait()
        return Answer(200)

    limits = {"soft_seconds": 0.2, "hard_seconds": 60.0}
    is_finished = event_loop.run(run(bucket, call), name="call", task_id="1", **limits)

    assert not is_finished
    settled, left = mark(bucket)["succeeded"], [row for row, _line in mark(bucket)["open"]]
    assert settled == 4
    assert sorted(called) == [1, 2, 3, 4, *sorted(left)]
    assert len(left) == 3

    called.clear()

    async def answers(key: str, _fields: list[str]) -> Any:
        called.append(int(key.removeprefix("job-")))
        return Answer(200)

    assert asyncio.run(run(bucket, answers))
    assert sorted(called) == [5, 6, 7, 8, 9, 10]
    assert (mark(bucket)["succeeded"], mark(bucket)["runs"]) == (10, 2)


def test_a_list_that_no_mark_counts_is_written_anew(bucket):
    """A run that is killed between list and mark."""
    from million.calling import Answer
    from million.progress import failures

    begin(bucket)
    bucket.write("job/0/failed/000000.csv", b"1,500,/members/1\n")

    async def call(_key: str, _fields: list[str]) -> Any:
        return Answer(404)

    assert failures(bucket, "job", 0) == []
    assert asyncio.run(run(bucket, call))
    assert len(failures(bucket, "job", 0)) == 10


def test_a_fault_of_the_bucket_ends_the_run(bucket, monkeypatch):
    from million import calling

    begin(bucket)
    monkeypatch.setattr(calling, "SAVE_SECONDS", 0.0)

    def refuse(_key: str, _content: bytes) -> None:
        raise OSError("no bucket")

    monkeypatch.setattr(bucket, "write", refuse)

    async def call(_key: str, _fields: list[str]) -> Any:
        await asyncio.Event().wait()

    with pytest.raises(OSError, match="no bucket"):
        asyncio.run(run(bucket, call))


def test_the_back_off_doubles_up_to_its_bound(monkeypatch):
    from million import calling

    monkeypatch.setattr(calling, "BACKOFF_SECONDS", 0.2)
    monkeypatch.setattr(calling.random, "uniform", lambda _low, high: high)

    assert [round(calling.backoff_seconds(n), 1) for n in (1, 2, 3, 20)] == [0.2, 0.4, 0.8, 20.0]


def test_a_sentence_says_what_does_not_fit_the_limit_of_file_descriptors(monkeypatch):
    from million import descriptors

    monkeypatch.setattr(descriptors.resource, "getrlimit", lambda _which: (1024, 4096))
    # Of the tests before, in this process, nothing is known.
    monkeypatch.setattr(descriptors.os, "listdir", lambda _path: ["0", "1", "2"])

    assert descriptors.fitting(100, 1) == (100, None)
    fit, sentence = descriptors.fitting(1000, 2)
    assert 0 < fit < 512
    assert sentence is not None
    assert "1000 calls in flight" in sentence
    with pytest.raises(ValueError, match="have fewer tasks at a time"):
        descriptors.fitting(1, 1024)
