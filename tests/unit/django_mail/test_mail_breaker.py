"""How long a mailer that takes nothing is left alone."""

from __future__ import annotations

import pytest

import tests.django_settings  # noqa: F401 - before what reads them
from lambda_celery.conf import Settings
from lambda_celery.django.mail.breaker import Breaker


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(Settings(queue_url="https://sqs/q"), "default", clock)


def probe_fails(breaker: Breaker, clock: Clock) -> float:
    """Return how long the mailer is left alone after a probe that fails."""
    while (wait := breaker.seconds_to_wait()) > 0:
        clock.now += wait
    breaker.leave_alone("paused")
    return breaker._known.until - clock.now


def test_a_crowd_that_is_told_the_same_is_one_answer(breaker, clock):
    for _ in range(50):
        breaker.leave_alone("paused")

    assert breaker._known.until - clock.now == 60
    assert probe_fails(breaker, clock) == 120


def test_an_account_that_is_paused_for_weeks_is_probed_to_the_end(breaker, clock):
    waits = [probe_fails(breaker, clock) for _ in range(1500)]

    assert [round(wait) for wait in waits[:5]] == [60, 120, 240, 480, 900]
    assert {round(wait) for wait in waits[5:]} == {900}
