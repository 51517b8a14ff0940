"""Soft and hard limits: by signal on the main thread, by the watchdog on others."""

from __future__ import annotations

import gc
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from lambda_runtime.running.limits.limit import HardTimeLimit, InvocationEnds
from lambda_runtime.running.limits.time_limits import TimeLimits, call_until


def wait_for_ever():
    while True:
        time.sleep(60)


def compute_for_ever():
    while True:
        pass


FINISHED = ["finished"]


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


@pytest.fixture
def no_timer():
    """Of the test's own time-out, which is a timer too."""
    left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    yield
    signal.setitimer(signal.ITIMER_REAL, left)


def test_arguments_and_the_result_pass(no_timer):
    assert TimeLimits(30, 30).call(lambda *a, **k: (a, k), 1, b=2) == ((1,), {"b": 2})
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_timer_of_before_goes_on(no_timer):
    signal.setitimer(signal.ITIMER_REAL, 3600)
    TimeLimits(30, 30).call(lambda: None)
    assert 1800 < signal.getitimer(signal.ITIMER_REAL)[0] <= 3600


def test_the_limit_of_what_follows_strikes_after_a_body_that_was_in_time(no_timer):
    came = []

    def run():
        came.append(TimeLimits(30, 30).call(lambda: "sent"))
        wait_for_ever()

    with pytest.raises(InvocationEnds):
        call_until(0.1, run, lambda: None)
    assert came == ["sent"]
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_an_alarm_at_the_very_end_of_the_body_leaves_nothing_armed(no_timer):
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


class TestOnAnotherThread:
    """The same limits; they strike between two byte codes, and not in a blocking call."""

    @pytest.fixture
    def thread(self):
        with ThreadPoolExecutor(1) as executor:
            yield executor

    @pytest.fixture
    def call(self, thread) -> Callable[..., Any]:
        """Call a body under limits on the thread, and return or raise what comes of it."""

        def call(soft: float | None, hard: float | None, body: Callable[[], Any]) -> Any:
            return thread.submit(TimeLimits(soft, hard).call, body).result()

        return call

    @pytest.fixture
    def frequent_switches(self):
        """Let threads take the interpreter from each other at any moment.

        And collect no garbage: a limit that strikes in a finalizer is swallowed there.
        """
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        gc.disable()
        yield
        gc.enable()
        sys.setswitchinterval(before)

    def test_the_soft_limit_is_raised_with_its_seconds(self, call):
        with pytest.raises(SoftTimeLimitExceeded) as raised:
            call(0.05, None, compute_for_ever)
        assert type(raised.value) is SoftTimeLimitExceeded
        assert raised.value.args == (0.05,)

    def test_the_hard_limit_comes_after_a_soft_one_that_was_caught(self, call):
        caught = []

        def body():
            try:
                compute_for_ever()
            except SoftTimeLimitExceeded as exc:
                caught.append(exc)
                compute_for_ever()

        with pytest.raises(HardTimeLimit) as raised:
            call(0.05, 0.1, body)
        assert raised.value.seconds == 0.1
        assert len(caught) == 1

    def test_a_hard_limit_below_the_soft_one_comes_first(self, call):
        with pytest.raises(HardTimeLimit):
            call(30, 0.05, compute_for_ever)

    def test_the_hard_limit_comes_again_if_it_is_swallowed(self, call):
        swallowed = []

        def body():
            try:
                compute_for_ever()
            except BaseException as exc:
                swallowed.append(exc)
                compute_for_ever()

        with pytest.raises(HardTimeLimit):
            call(None, 0.05, body)
        assert len(swallowed) == 1

    def test_a_blocking_call_ends_first(self, call):
        """What Python does not allow: the limit strikes when the call is back."""
        reached = threading.Event()

        def body():
            time.sleep(0.2)
            reached.set()  # the call before it is the one after which the limit strikes
            compute_for_ever()

        with pytest.raises(SoftTimeLimitExceeded):
            call(0.05, None, body)
        assert not reached.is_set()

    def test_two_threads_have_limits_of_their_own(self):
        started = threading.Barrier(2)

        def body():
            started.wait()
            compute_for_ever()

        with ThreadPoolExecutor(2) as threads:
            bodies = [threads.submit(TimeLimits(s, None).call, body) for s in (0.05, 0.1)]
            seconds = [each.exception().args for each in bodies]
        assert seconds == [(0.05,), (0.1,)]

    def test_the_result_of_any_type_and_the_arguments_pass(self, thread):
        class NeverCompared:
            def __eq__(self, other):
                raise AssertionError

            __hash__ = None

        def body(*args, **kwargs):
            return args, kwargs

        result = NeverCompared()

        assert thread.submit(TimeLimits(30, 30).call, lambda: result).result() is result
        assert thread.submit(TimeLimits(30, 30).call, lambda: None).result() is None
        got = thread.submit(TimeLimits(30, 30).call, body, 1, b=2).result()
        assert got == ((1,), {"b": 2})

    def test_what_the_body_raises_passes_with_its_traceback(self, call):
        def body():
            raise ValueError("mine")

        with pytest.raises(ValueError, match="mine") as raised:
            call(30, None, body)
        assert raised.traceback[-1].name == "body"

    @pytest.mark.parametrize("fails", [False, True], ids=["returns", "raises"])
    def test_at_the_very_end_of_the_body_the_body_wins(self, fails, frequent_switches):
        """Limits strike around the moment at which bodies end, thousands of times.

        What the body has finished is never lost, and no exception strikes outside of a body.
        """

        def run(number: int) -> list[str]:
            found = []
            for n in range(2000):
                finished = []
                limit = 0.0001 + (n + number) % 100 * 2e-6

                def body(finished=finished, limit=limit):
                    end = time.perf_counter() + limit
                    while time.perf_counter() < end:
                        pass
                    # No call follows in here, after which a limit could still strike.
                    finished[:] = FINISHED
                    if fails:
                        raise ValueError
                    return FINISHED

                try:
                    came = TimeLimits(limit, 30).call(body)
                except ValueError:
                    found.append("raised")
                except SoftTimeLimitExceeded:
                    assert not finished
                    found.append("limit")
                else:
                    assert came is FINISHED
                    found.append("returned")
            return found

        with ThreadPoolExecutor(2) as threads:
            found = [each for some in threads.map(run, range(2)) for each in some]

        assert len(found) == 4000
        assert {"limit", "raised" if fails else "returned"} == set(found)

    def test_a_body_that_ended_before_the_limit_could_strike_has_ended(self, call):
        """Both are in C from end to end: the limit passes, and waits for byte code to strike."""
        nothing = SimpleQueue()

        assert call(0.05, None, partial(time.sleep, 0.2)) is None
        with pytest.raises(Empty):
            call(0.05, None, partial(nothing.get, timeout=0.2))

    def test_after_its_body_a_thread_is_left_alone(self, thread):
        """The next task on the thread is not struck by the limit of the one before."""

        def run():
            for _ in range(200):
                TimeLimits(0.001, 0.001).call(int)
            end = time.perf_counter() + 0.05  # when all of these limits have passed
            while time.perf_counter() < end:
                pass
            return "untouched"

        assert thread.submit(run).result() == "untouched"
