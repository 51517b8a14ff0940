"""Coroutine functions as tasks, which Celery does not have: here, and on the same app's worker."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest
from celery import chain, chord, group
from celery.exceptions import SoftTimeLimitExceeded

from tests.functional.compatibility.conftest import Peer, worker

WAIT_SECONDS = 120


@pytest.fixture(scope="module")
def app_on_a_worker(
    deployed_lambda, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Peer]:
    """The very app whose tasks are on Lambda, before they are: a stock worker runs them."""
    config = deployed_lambda[0].config
    config = {**config, "lambda_tasks": [], "broker_url": redis_url.removesuffix("/0") + "/2"}
    peer = Peer("app_on_a_worker", config, deployed_lambda[0].trace_url)
    with worker(peer, tmp_path_factory.mktemp("async-worker") / "log", "--concurrency=2"):
        yield peer


@pytest.fixture
def worker_peer(app_on_a_worker: Peer) -> Peer:
    app_on_a_worker.app.set_current()
    return app_on_a_worker


def test_result(peer):
    assert peer.async_add.delay(1, y=2).get(timeout=WAIT_SECONDS) == 3


def test_checked_arguments(peer):
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        peer.async_add.delay()


def test_called_as_a_function(peer):
    assert peer.async_add(1, y=2) == 3


def test_always_eager(peer):
    eager = peer.configured(task_always_eager=True)

    assert eager.async_add.delay(1, y=2).get() == 3


def test_request_also_in_child_tasks(peer, trace):
    options = {"root_id": "root", "parent_id": "parent", "headers": {"x-order": "7"}}
    result = peer.async_request.apply_async((trace.key,), **options)

    fields = trace.next()
    assert fields["headers"]["x-order"] == "7"
    assert {name: fields[name] for name in ("id", "root_id", "parent_id", "retries")} == {
        "id": result.id, "root_id": "root", "parent_id": "parent", "retries": 0,
    }  # fmt: skip
    assert [fields["args"], fields["kwargs"]] == [[trace.key], {}]
    assert fields["children"] == [[result.id, "proj.async_request"]] * 2


def test_retry(peer, trace):
    result = peer.async_retry.delay(trace.key)

    assert result.get(timeout=WAIT_SECONDS) == "sent"
    assert trace.take(3) == [0, 1, 2]


@pytest.mark.parametrize(
    ("kind", "error", "runs"),
    [("timeout", TimeoutError, [0, 1, 2]), ("permission", PermissionError, [0])],
)
def test_autoretry(peer, trace, kind, error, runs):
    result = peer.async_autoretry.delay(trace.key, kind)

    with pytest.raises(error, match=kind):
        result.get(timeout=WAIT_SECONDS)
    assert trace.take(len(runs)) == runs
    assert trace.rest() == []


@pytest.mark.parametrize(
    ("how", "hooks"),
    [
        ("succeed", ["on_success done", "after_return SUCCESS"]),
        ("fail", ["on_failure bug", "after_return FAILURE"]),
    ],
)
def test_hooks(peer, trace, how, hooks):
    peer.async_hooked.delay(trace.key, how)

    assert trace.take(5) == ["before_start", "__call__", "body", *hooks]


def test_chain_group_chord_and_link(peer, trace):
    add, tsum = peer.async_add, peer.tsum

    assert chain(add.s(1, 2), add.s(10)).apply_async().get(timeout=WAIT_SECONDS) == 13
    members = group(add.s(n, 1) for n in range(3))
    assert members.apply_async().get(timeout=WAIT_SECONDS) == [1, 2, 3]
    assert chord(members, tsum.s()).apply_async().get(timeout=WAIT_SECONDS) == 6
    add.apply_async((1, 2), link=peer.write_result.s(trace.key))
    assert trace.next() == 3


def test_soft_time_limit(peer):
    with pytest.raises(SoftTimeLimitExceeded):
        peer.async_waits.delay().get(timeout=WAIT_SECONDS)


def test_a_cancelled_coroutine_is_a_failure(peer):
    with pytest.raises(CancelledError, match="was cancelled"):
        peer.async_cancelled.delay().get(timeout=WAIT_SECONDS)
