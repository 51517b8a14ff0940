"""Soft and hard limits by signal."""

from __future__ import annotations

import logging
import signal
import threading
import time

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from lambda_runtime import time_limits
from lambda_runtime.time_limits import HardTimeLimit, TimeLimits


def wait_for_ever():
    while True:
        time.sleep(60)


def test_the_soft_limit_is_raised():
    with pytest.raises(SoftTimeLimitExceeded):
        TimeLimits(0.05, None).call(wait_for_ever)


def test_the_hard_limit_comes_after_a_soft_one_that_was_caught():
    caught = []

    def body():
        try:
            wait_for_ever()
        except SoftTimeLimitExceeded as exc:
            caught.append(exc)
            wait_for_ever()

    with pytest.raises(HardTimeLimit):
        TimeLimits(0.05, 0.1).call(body)
    assert len(caught) == 1


def test_a_hard_limit_below_the_soft_one_comes_first():
    with pytest.raises(HardTimeLimit):
        TimeLimits(30, 0.05).call(wait_for_ever)


def test_the_hard_limit_comes_again_if_it_is_swallowed():
    swallowed = []

    def body():
        try:
            wait_for_ever()
        except BaseException as exc:
            swallowed.append(exc)
            wait_for_ever()

    with pytest.raises(HardTimeLimit):
        TimeLimits(None, 0.05).call(body)
    assert len(swallowed) == 1


def test_arguments_and_the_result_pass():
    assert TimeLimits(30, 30).call(lambda *a, **k: (a, k), 1, b=2) == ((1,), {"b": 2})
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_an_alarm_at_the_very_end_of_the_body_leaves_nothing_armed():
    """Alarms strike around the moment at which the body raises, thousands of times."""
    before = signal.getsignal(signal.SIGALRM)

    def body():
        time.sleep(0.0001)
        raise ValueError

    for n in range(3000):
        with pytest.raises((ValueError, SoftTimeLimitExceeded)):
            TimeLimits(0.0001 + n % 100 * 2e-6, 30).call(body)
        assert signal.getsignal(signal.SIGALRM) is before
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_the_handler_of_before_is_back_afterwards():
    def mine(*args):
        """Somebody's own."""

    before = signal.signal(signal.SIGALRM, mine)
    try:
        during = TimeLimits(30, None).call(signal.getsignal, signal.SIGALRM)
        assert during is not mine
        assert signal.getsignal(signal.SIGALRM) is mine
    finally:
        signal.signal(signal.SIGALRM, before)


def test_on_another_thread_it_is_said_once_that_there_are_none(caplog, monkeypatch):
    monkeypatch.setattr(time_limits, "_said", False)

    def run():
        for _ in range(2):
            TimeLimits(0.001, None).call(int)

    with caplog.at_level(logging.WARNING):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    assert len([r for r in caplog.records if "main thread" in r.getMessage()]) == 1
