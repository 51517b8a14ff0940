"""Back-off, hops and deadlines."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from lambda_celery.conf import Settings
from lambda_celery.message import delay_until
from lambda_runtime.deadline import Deadline
from lambda_runtime.messages.outcome import Forwarded, Parked, Returned
from lambda_runtime.retry_policy import backoff_seconds, spent

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_back_off_doubles_up_to_its_maximum():
    settings = Settings(retry_backoff_seconds=5, retry_backoff_max_seconds=60, retry_jitter=False)
    assert [backoff_seconds(settings, n) for n in (1, 2, 3, 4, 5, 1000)] == [5, 10, 20, 40, 60, 60]


def test_back_off_never_exceeds_what_sqs_allows():
    settings = Settings(retry_backoff_max_seconds=1e9, retry_jitter=False)
    assert backoff_seconds(settings, 1000) == 43_200


def test_jitter_draws_from_the_upper_half():
    settings = Settings(retry_backoff_seconds=100, retry_jitter=True)
    drawn = {backoff_seconds(settings, 1) for _ in range(500)}
    assert min(drawn) >= 50
    assert max(drawn) <= 100
    assert len(drawn) > 20


def test_what_cannot_be_run_is_parked_at_its_last_attempt():
    assert spent("why", 5, last_attempt=False) == Returned("why", 5)
    assert spent("why", 5, last_attempt=True) == Parked("why")


@pytest.mark.parametrize(
    ("ahead", "delay"), [(-5, 0), (0, 0), (0.001, 1), (899.2, 900), (900, 900), (5000, 900)]
)
def test_a_hop_is_rounded_up_and_at_most_900_seconds(ahead, delay):
    assert delay_until(NOW + timedelta(seconds=ahead), NOW) == delay


def test_seconds_ahead_are_never_negative():
    assert Forwarded(NOW - timedelta(days=1)).seconds_ahead() == 0


class Context:
    def __init__(self, seconds):
        self.seconds = seconds

    def get_remaining_time_in_millis(self):
        return int(self.seconds * 1000)


def test_a_task_may_start_while_time_is_left():
    deadline = Deadline(Context(30), reserve_seconds=3)
    assert 26 < deadline.seconds_for_tasks() <= 27
    assert deadline.allows(0)
    assert deadline.allows(20)


def test_no_task_may_start_in_the_reserve():
    assert not Deadline(Context(0), reserve_seconds=3).allows(0)


def test_the_reserve_is_a_fifth_of_a_short_invocation_at_most():
    assert Deadline(Context(5), reserve_seconds=3).reserve_seconds == 1


def test_a_limit_that_no_invocation_could_grant_does_not_keep_a_task_out_for_ever():
    assert Deadline(Context(30), reserve_seconds=3).allows(3600)
