"""A result back end, or the app's own broker, that takes packets and does not answer."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from celery import signals
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded

pytest.importorskip("redis")


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that accepts connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        yield server.getsockname()[1]


@pytest.fixture
def message(make_runtime: Any) -> Any:
    """Publish a task by an app that knows nothing of the silent one."""

    def make(name: str, **options: Any) -> dict[str, Any]:
        runtime = make_runtime()
        runtime.app.send_task(name, **options)
        (message,) = runtime.receive()
        return message

    return make


@pytest.fixture
def with_silent_backend(make_runtime: Any, silent: int) -> Any:
    """Make a runtime whose result back end does not answer."""

    def make(**conf: Any) -> Any:
        return make_runtime(result_backend=f"redis://127.0.0.1:{silent}/0", **conf)

    return make


def test_storing_a_result_does_not_take_the_mail_with_it(with_silent_backend, message, caplog):
    sent = message("proj.send")
    runtime = with_silent_backend()
    ran = []

    @runtime.task(name="proj.send")
    def send():
        ran.append(1)

    assert runtime.invoke([sent], seconds=3).failed == []
    (record,) = runtime.records()
    assert record["status"] == "COMPLETED"
    assert runtime.invoke([sent], seconds=3).failed == []
    assert ran == [1]
    assert "Give its client a time-out" in caplog.text


def test_a_link_to_a_task_on_a_silent_broker_parks_the_message_once(make_runtime, message, silent):
    runtime = make_runtime()
    link = runtime.app.signature("elsewhere.next", immutable=True)
    sent = message("proj.send", link=link)
    runtime = make_runtime(
        broker_url=f"redis://127.0.0.1:{silent}/0", lambda_tasks=["proj.*"],
        task_ignore_result=True,
    )  # fmt: skip
    ran = []

    @runtime.task(name="proj.send")
    def send():
        ran.append(1)

    assert runtime.invoke([sent], seconds=3).failed == []
    (parked,) = runtime.stack.dead_letters()
    reason = parked["MessageAttributes"]["LambdaCeleryReason"]["StringValue"]
    assert "ran to its end" in reason
    assert ran == [1]


def test_before_the_body_it_comes_back(make_runtime, message, silent):
    sent = message("proj.send")
    runtime = make_runtime()
    ran = []

    def ask(**_: Any) -> None:
        with socket.create_connection(("127.0.0.1", silent)) as connection:
            connection.recv(1)

    signals.task_prerun.connect(ask)
    try:

        @runtime.task(name="proj.send")
        def send():
            ran.append(1)

        assert len(runtime.invoke([sent], seconds=3).failed) == 1
    finally:
        signals.task_prerun.disconnect(ask)
    assert ran == []
    assert runtime.invoke([sent]).failed == []
    assert ran == [1]


def test_a_failure_whose_state_cannot_be_stored_comes_back(with_silent_backend, message):
    sent = message("proj.send")
    runtime = with_silent_backend()
    ran = []

    @runtime.task(name="proj.send")
    def send():
        ran.append(1)
        raise ValueError("451")

    assert len(runtime.invoke([sent], seconds=3).failed) == 1
    assert ran == [1]


def test_on_a_thread_it_is_left_behind_and_its_message_is_parked_and_not_run_again(
    with_silent_backend, message, caplog
):
    sent = message("proj.send")
    runtime = with_silent_backend(lambda_concurrency=2)
    ran = []

    @runtime.task(name="proj.send")
    def send():
        ran.append(1)

    @runtime.task(name="proj.other", ignore_result=True)
    def other():
        ran.append("other")

    runtime.app.send_task("proj.other", ignore_result=True)
    (beside,) = runtime.receive()

    assert runtime.invoke([sent, beside], seconds=5).failed == [sent["MessageId"]]
    assert "are left to themselves" in caplog.text
    assert runtime.invoke([sent], seconds=5).failed == []
    assert sorted(map(str, ran)) == ["1", "other"]
    assert len(runtime.stack.dead_letters()) == 1


def test_on_a_thread_what_hangs_before_the_body_comes_back_and_never_begins(make_runtime, message):
    sent = message("proj.send")
    runtime = make_runtime(lambda_concurrency=2)
    ran = []
    answered, left = threading.Event(), threading.Event()

    def wait_for_an_answer(**_: Any) -> None:
        if not answered.is_set():
            try:
                answered.wait()
            finally:
                left.set()

    signals.task_prerun.connect(wait_for_an_answer)
    try:

        @runtime.task(name="proj.send")
        def send():
            ran.append(1)

        assert runtime.invoke([sent], seconds=3).failed == [sent["MessageId"]]
        answered.set()  # what has hung goes on, as in the next invocation
        left.wait()
        while runtime.invoke([sent]).failed:
            pass  # until the lock of the first invocation ends
    finally:
        signals.task_prerun.disconnect(wait_for_an_answer)
    assert ran == [1]


@pytest.fixture
def hanging(silent: int) -> Iterator[Any]:
    """Have a receiver of a signal wait for the one that does not answer."""
    connected = []

    def hang(signal: Any) -> None:
        def ask(**_: Any) -> None:
            with socket.create_connection(("127.0.0.1", silent)) as connection:
                connection.recv(1)

        signal.connect(ask)
        connected.append((signal, ask))

    yield hang
    for signal, ask in connected:
        signal.disconnect(ask)


@pytest.mark.parametrize("signal", [signals.task_success, signals.task_postrun])
def test_what_is_all_done_is_deleted_whoever_still_waits(runtime, hanging, signal):
    ran = []

    @runtime.task(name="proj.send")
    def send():
        ran.append(1)

    hanging(signal)
    send.delay()
    (message,) = runtime.receive()
    assert runtime.invoke([message], seconds=3).failed == []
    assert runtime.invoke([message], seconds=3).failed == []
    assert ran == [1]
    assert runtime.stack.dead_letters() == []
    (record,) = runtime.records()
    assert record["status"] == "COMPLETED"


@pytest.mark.parametrize(
    ("wish", "parked"), [(Ignore(), 0), (Reject("no such mail", requeue=False), 1)]
)
@pytest.mark.parametrize("concurrency", [1, 2])
def test_what_a_task_wishes_is_done_whoever_still_waits(
    make_runtime, hanging, wish, parked, concurrency
):
    runtime = make_runtime(lambda_concurrency=concurrency)
    ran = []

    @runtime.task(name="proj.send")
    def send():
        ran.append(1)
        raise wish

    hanging(signals.task_postrun)
    send.delay()
    (message,) = runtime.receive()
    if concurrency == 1:
        assert runtime.invoke([message], seconds=3).failed == []
        assert len(runtime.stack.dead_letters()) == parked
    else:  # it is left behind, and parked when it comes again
        runtime.invoke([message], seconds=3)
        runtime.invoke([message], seconds=3)
        assert len(runtime.stack.dead_letters()) == 1
    assert ran == [1]


def test_on_a_thread_a_failure_that_settles_its_message_is_not_run_again(make_runtime, hanging):
    runtime = make_runtime(lambda_concurrency=2)
    ran = []

    @runtime.task(name="proj.send", acks_on_failure_or_timeout=True)
    def send():
        ran.append(1)
        raise ValueError("no such mail")

    hanging(signals.task_failure)
    send.delay()
    (message,) = runtime.receive()
    runtime.invoke([message], seconds=3)
    runtime.invoke([message], seconds=3)
    assert ran == [1]


def test_on_a_thread_a_body_that_swallows_its_limits_does_not_keep_the_answer(make_runtime):
    runtime = make_runtime(lambda_concurrency=2)

    @runtime.task(name="proj.stubborn")
    def stubborn():
        with contextlib.suppress(SoftTimeLimitExceeded):
            while True:
                pass
        while True:
            pass

    stubborn.delay()
    (message,) = runtime.receive()
    assert runtime.invoke([message], seconds=3).failed == [message["MessageId"]]


def test_a_retry_that_was_sent_is_not_run_beside_its_first_attempt(with_silent_backend, message):
    sent = message("proj.send")
    runtime = with_silent_backend()
    ran = []

    @runtime.task(name="proj.send", bind=True)
    def send(self):
        ran.append(self.request.retries)
        raise self.retry(countdown=600)

    assert runtime.invoke([sent], seconds=3).failed == []
    assert runtime.invoke([sent], seconds=3).failed == []
    assert ran == [0]


def test_what_has_expired_is_deleted_although_that_cannot_be_stored(with_silent_backend, message):
    sent = message("proj.send", expires=0.01)
    runtime = with_silent_backend()

    @runtime.task(name="proj.send")
    def send():
        raise AssertionError("not reached")

    assert runtime.invoke([sent], seconds=3).failed == []


def test_a_hard_limit_whose_state_cannot_be_stored_comes_back(with_silent_backend, message):
    sent = message("proj.send")
    runtime = with_silent_backend()

    @runtime.task(name="proj.send", time_limit=0.2)
    def send():
        time.sleep(60)

    assert len(runtime.invoke([sent], seconds=4).failed) == 1
