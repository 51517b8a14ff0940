"""Retries, as https://docs.celeryq.dev/en/stable/userguide/tasks.html#retrying describes them."""

from __future__ import annotations

import pytest
from celery.exceptions import MaxRetriesExceededError, Retry

WAIT_SECONDS = 120


@pytest.mark.parametrize(
    "how",
    [{"countdown": 0}, {"countdown": 1}, {"eta_in": 1}, {"max_retries": 1}, {}],
    ids=["countdown=0", "countdown=1", "eta", "max_retries", "default_retry_delay"],
)
def test_retry_runs_again_with_the_count_and_the_headers(peer, trace, how):
    result = peer.retry_with.apply_async((trace.key, how), headers={"x-order": "7"})

    assert result.get(timeout=WAIT_SECONDS) == 1
    (_, first), (_, second) = noted = trace.take(2)
    assert [retries for retries, _ in noted] == [0, 1]
    assert first["x-order"] == second["x-order"] == "7"
    assert trace.rest() == []


def test_retry_with_other_arguments(peer, trace):
    result = peer.retry_changed.delay(trace.key, 1)

    assert result.get(timeout=WAIT_SECONDS) == 2
    assert trace.take(2) == [[result.id, 1, "first"], [result.id, 2, "second"]]


def test_retry_without_throw_lets_the_body_go_on(peer, trace):
    peer.retry_on.delay(trace.key)

    noted = trace.take(3)
    assert noted[0] == 0
    assert sorted(map(str, noted[1:])) == ["1", "went on"]


def test_several_retries_from_one_run_all_run_under_one_id(peer, trace):
    result = peer.send_all.delay(trace.key, ["ann", "bob", "cid"])

    assert sorted(trace.take(3)) == [[result.id, name] for name in ("ann", "bob", "cid")]
    assert trace.rest() == []


def test_max_retries_none_has_no_limit(peer):
    assert peer.retry_forever.delay().get(timeout=WAIT_SECONDS) == 6


def test_max_retries_exceeded_fails_with_that(peer):
    result = peer.give_up.delay()

    with pytest.raises(MaxRetriesExceededError, match=r"Can't retry proj\.give_up"):
        result.get(timeout=WAIT_SECONDS)
    assert result.state == "FAILURE"


def test_max_retries_exceeded_fails_with_the_exception_that_retry_was_given(peer):
    with pytest.raises(ConnectionError, match="451"):
        peer.give_up.delay("451").get(timeout=WAIT_SECONDS)


def test_max_retries_exceeded_can_be_caught_by_the_task(peer):
    result = peer.give_up_caught.delay()

    assert result.get(timeout=WAIT_SECONDS) == "gave up after 1"


@pytest.mark.parametrize(
    ("kind", "error", "runs"),
    [
        ("timeout", TimeoutError, [0, 1, 2]),
        ("permission", PermissionError, [0]),
        ("value", ValueError, [0]),
    ],
)
def test_autoretry_for_some_exceptions_and_not_for_others(peer, trace, kind, error, runs):
    result = peer.autoretry.delay(trace.key, kind)

    with pytest.raises(error):
        result.get(timeout=WAIT_SECONDS)
    assert trace.take(len(runs)) == runs
    assert trace.rest() == []


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("backoff", 100),  # retry_backoff=100
        ("backoff_max", 60),  # and retry_backoff_max=60
        ("backoff_delay", 70),  # default_retry_delay=70
        ("backoff_kwargs", 50),  # retry_kwargs={"countdown": 50}
    ],
)
def test_retry_options_say_how_long_the_retry_waits(peer, trace, name, seconds):
    getattr(peer, name).delay(trace.key)

    assert trace.take(3) == ["before_start", "__call__", f"on_retry {seconds}"]


def test_retry_jitter_draws_the_wait_from_below_the_backoff(peer, trace):
    peer.backoff_jitter.delay(trace.key)

    _, seconds = trace.take(3)[-1].split()
    assert 0 <= int(seconds) <= 100


def test_a_task_that_waits_for_its_retry_is_in_the_state_retry(peer, trace):
    result = peer.backoff.delay(trace.key)

    trace.take(3)
    assert result.state == "RETRY"
    assert isinstance(result.result, OSError | Retry)
    assert "451" in result.traceback


def test_retries_and_receives_are_counted_apart(lambda_peer, trace):
    """A receive that failed uses up one of the queue's, and a retry one of the task's."""
    result = lambda_peer.raise_then_retry.delay(trace.key)

    result.get(timeout=WAIT_SECONDS)
    assert trace.take(3) == [[0, False], [0, True], [1, False]]
