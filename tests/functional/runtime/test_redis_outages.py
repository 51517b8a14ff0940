"""What an outage of a result back end, or of the app's own broker, does to a message.

These are the rows of the table in ``docs/reliability.md`` that are not AWS. The neighbour is a real
Redis server, behind a proxy that stalls, resets, loses the answer or answers with an error.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import chord
from celery.exceptions import Reject

from lambda_runtime.messages.delivery import Delivery
from lambda_runtime.messages.publication import publication_of
from lambda_runtime.messages.request import read_request
from lambda_runtime.table.claims import IdempotencyTable
from tests.chaos.outages import REDIS_MODES, Outage, RedisProxy
from tests.functional.runtime.conftest import Context

pytest.importorskip("redis")

#: What is left of the invocation. One that does not answer takes all of it.
SECONDS = {"stall": 2}
DEFAULT_SECONDS = 30

#: Celery says it of what its tracer did not expect, with a warning.
pytestmark = pytest.mark.filterwarnings("ignore:Exception raised outside body:RuntimeWarning")
every_mode = pytest.mark.parametrize("mode", REDIS_MODES)


class Neighbour:
    """Redis, as the function reaches it, and the runs of the task."""

    def __init__(self, proxy: RedisProxy, mode: str) -> None:
        self._proxy = proxy
        self._mode = mode
        self.seconds = SECONDS.get(mode, DEFAULT_SECONDS)
        self.ran: list[Any] = []

    @property
    def url(self) -> str:
        return f"{self._proxy.url}/0"

    @property
    def was_asked(self) -> bool:
        return self._proxy.hit > 0

    def fail(self) -> None:
        """Begin with the outage."""
        self._proxy.outage = Outage("redis", self._mode)

    def mend(self) -> None:
        """End the outage."""
        self._proxy.outage = None


@pytest.fixture
def neighbour(redis_url: str, mode: str) -> Iterator[Neighbour]:
    with RedisProxy(redis_url).running() as proxy:
        yield Neighbour(proxy, mode)


@pytest.fixture
def message(make_runtime: Any) -> Callable[..., dict[str, Any]]:
    """Publish the task by an app that knows nothing of the neighbour."""

    def make(**options: Any) -> dict[str, Any]:
        runtime = make_runtime()
        runtime.app.send_task("proj.send", **options)
        return runtime.receive()[0]

    return make


@pytest.fixture
def with_backend(make_runtime: Any, neighbour: Neighbour) -> Callable[..., Any]:
    """Make a runtime whose result back end is the neighbour."""
    return lambda **conf: make_runtime(
        result_backend=neighbour.url,
        result_backend_transport_options={
            "retry_policy": {"max_retries": 1, "interval_start": 0, "interval_step": 0}
        },
        **conf,
    )


@pytest.fixture
def with_broker(make_runtime: Any, neighbour: Neighbour) -> Callable[..., Any]:
    """Make a runtime whose own broker, for other tasks than this one, is the neighbour."""
    return lambda **conf: make_runtime(
        **{
            "broker_url": neighbour.url,
            "lambda_tasks": ["proj.*"],
            "task_ignore_result": True,
            "task_publish_retry_policy": {"max_retries": 1, "interval_start": 0},
            **conf,
        }
    )


def leave_a_claim(runtime: Any, message: dict[str, Any]) -> None:
    """Write what a process leaves in the table that has died while it ran *message*."""
    delivery = Delivery.from_record(runtime.event([message])["Records"][0])
    request = read_request(runtime.app, runtime.settings, delivery, delivery.body, "host")
    IdempotencyTable(runtime.settings).claim(
        publication_of(request).key, life_seconds=1000, run_ends=time.time() - 5
    )


def again(message: dict[str, Any]) -> dict[str, Any]:
    """Return *message* as it is received the next time."""
    message["Attributes"]["ApproximateReceiveCount"] = "2"
    return message


def assert_not_run_again(runtime: Any, neighbour: Neighbour, sent: dict[str, Any]) -> None:
    """Deliver what has run to its end once more, with its neighbour there again."""
    before = list(neighbour.ran)
    neighbour.mend()
    assert runtime.invoke([again(sent)]).failed == []
    assert neighbour.ran == before


def told_by_dead_letter(runtime: Any) -> str:
    """Return what the one dead letter says of itself."""
    (parked,) = runtime.stack.dead_letters()
    return str(parked["MessageAttributes"])


@every_mode
class TestResultBackend:
    def test_before_the_body_it_comes_back_and_runs_then(self, with_backend, neighbour, message):
        sent = message()
        runtime = with_backend(task_track_started=True)

        @runtime.task(name="proj.send")
        def send():
            neighbour.ran.append(1)

        neighbour.fail()
        assert runtime.invoke([sent], seconds=neighbour.seconds).failed == [sent["MessageId"]]
        assert neighbour.was_asked
        assert neighbour.ran == []

        neighbour.mend()
        assert runtime.invoke([again(sent)]).failed == []
        assert neighbour.ran == [1]

    def test_what_the_body_asks_for_fails_in_the_body(self, with_backend, neighbour, message):
        sent = message()
        runtime = with_backend()

        @runtime.task(name="proj.send", bind=True)
        def send(self):
            neighbour.ran.append(1)
            if len(neighbour.ran) == 1:
                neighbour.fail()
            self.update_state(state="PROGRESS")

        assert runtime.invoke([sent], seconds=neighbour.seconds).failed == [sent["MessageId"]]
        assert neighbour.was_asked
        neighbour.mend()
        assert runtime.invoke([again(sent)]).failed == []
        assert neighbour.ran == [1, 1]

    def test_a_missing_result_does_not_run_the_body_again(self, with_backend, neighbour, message):
        sent = message()
        runtime = with_backend()

        @runtime.task(name="proj.send")
        def send():
            neighbour.ran.append(1)
            neighbour.fail()

        assert runtime.invoke([sent], seconds=neighbour.seconds).failed == []
        assert neighbour.was_asked
        (record,) = runtime.records()
        assert record["status"] == "COMPLETED"
        assert runtime.stack.dead_letters() == []
        assert_not_run_again(runtime, neighbour, sent)

    def test_a_part_of_a_chord_that_is_not_counted_is_parked(
        self, with_backend, make_runtime, neighbour, redis_url
    ):
        publisher = make_runtime(result_backend=redis_url)
        part = publisher.app.signature("proj.send")
        chord([part, part], app=publisher.app)(publisher.app.signature("proj.body"))
        sent, _ = publisher.receive(2)
        runtime = with_backend()

        @runtime.task(name="proj.send")
        def send():
            neighbour.ran.append(1)
            neighbour.fail()

        assert runtime.invoke([sent], seconds=neighbour.seconds).failed == []
        assert neighbour.was_asked
        assert "ran to its end" in told_by_dead_letter(runtime)
        assert_not_run_again(runtime, neighbour, sent)

    def test_a_failure_that_cannot_be_stored_comes_back(self, with_backend, neighbour, message):
        sent = message()
        runtime = with_backend()

        @runtime.task(name="proj.send")
        def send():
            neighbour.ran.append(1)
            neighbour.fail()
            if len(neighbour.ran) == 1:
                raise ValueError("451")
            neighbour.mend()

        assert runtime.invoke([sent], seconds=neighbour.seconds).failed == [sent["MessageId"]]
        assert neighbour.was_asked
        neighbour.mend()
        assert runtime.invoke([again(sent)]).failed == []
        assert neighbour.ran == [1, 1]

    def test_the_last_failure_is_parked_with_its_own_reason(self, with_backend, neighbour, message):
        sent = message()
        runtime = with_backend(lambda_max_receive_count=1)

        @runtime.task(name="proj.send")
        def send():
            neighbour.ran.append(1)
            neighbour.fail()
            raise ValueError("451")

        assert runtime.invoke([sent], seconds=neighbour.seconds).failed == []
        assert neighbour.was_asked
        assert "451" in told_by_dead_letter(runtime)
        assert_not_run_again(runtime, neighbour, sent)

    def test_a_retry_that_was_sent_is_not_run_beside_its_first_attempt(
        self, with_backend, neighbour, message
    ):
        sent = message()
        runtime = with_backend()

        @runtime.task(name="proj.send", bind=True)
        def send(self):
            neighbour.ran.append(1)
            neighbour.fail()
            raise self.retry(countdown=600)

        assert runtime.invoke([sent], seconds=neighbour.seconds).failed == []
        assert neighbour.was_asked
        assert_not_run_again(runtime, neighbour, sent)

    def test_what_is_rejected_is_parked(self, with_backend, neighbour, message):
        sent = message()
        runtime = with_backend()

        @runtime.task(name="proj.send")
        def send():
            neighbour.ran.append(1)
            neighbour.fail()
            raise Reject("451")

        assert runtime.invoke([sent], seconds=neighbour.seconds).failed == []
        assert neighbour.was_asked
        assert "451" in told_by_dead_letter(runtime)
        assert_not_run_again(runtime, neighbour, sent)


@every_mode
def test_what_has_expired_is_deleted_and_does_not_run(with_backend, neighbour, message):
    sent = message(expires=0.01)
    runtime = with_backend()

    @runtime.task(name="proj.send")
    def send():
        neighbour.ran.append(1)

    neighbour.fail()
    assert runtime.invoke([sent], seconds=neighbour.seconds).failed == []
    assert neighbour.was_asked
    assert neighbour.ran == []


@every_mode
def test_what_its_process_has_lost_is_parked(with_backend, neighbour, message):
    sent = message()
    runtime = with_backend(redis_socket_timeout=neighbour.seconds + 30)

    @runtime.task(name="proj.send", reject_on_worker_lost=False)
    def send():
        neighbour.ran.append(1)

    leave_a_claim(runtime, sent)
    runtime.handler  # noqa: B018 - made before the invocation
    neighbour.fail()
    context = Context(time.time() + neighbour.seconds)
    answer = runtime.handler(runtime.event([sent]), context)
    assert time.time() < context.ends_at + 20  # it has not waited for the back end
    assert answer["batchItemFailures"] == []
    assert neighbour.was_asked
    assert "WorkerLostError" in told_by_dead_letter(runtime)
    assert_not_run_again(runtime, neighbour, sent)


@pytest.mark.parametrize("options", [{"acks_on_failure_or_timeout": True}, {"max_retries": 0}])
@pytest.mark.parametrize("mode", ["stall", "reset"])
def test_what_has_not_run_comes_back_whatever_the_task_says_of_failures(
    with_backend, neighbour, message, options
):
    sent = message()
    runtime = with_backend(task_track_started=True)

    @runtime.task(name="proj.send", **options)
    def send():
        neighbour.ran.append(1)

    neighbour.fail()
    assert runtime.invoke([sent], seconds=neighbour.seconds).failed == [sent["MessageId"]]
    neighbour.mend()
    assert runtime.invoke([again(sent)]).failed == []
    assert neighbour.ran == [1]


@every_mode
class TestBroker:
    def test_a_task_that_does_not_need_it_runs(self, with_broker, neighbour, message):
        sent = message()
        runtime = with_broker()

        @runtime.task(name="proj.send")
        def send():
            neighbour.ran.append(1)

        neighbour.fail()
        assert runtime.invoke([sent], seconds=neighbour.seconds).failed == []
        assert not neighbour.was_asked
        assert neighbour.ran == [1]

    def test_what_the_body_sends_fails_in_the_body(self, with_broker, neighbour, message):
        sent = message()
        runtime = with_broker()

        @runtime.task(name="proj.send")
        def send():
            neighbour.ran.append(1)
            if len(neighbour.ran) == 1:
                neighbour.fail()
            runtime.app.send_task("elsewhere.next")

        assert runtime.invoke([sent], seconds=neighbour.seconds).failed == [sent["MessageId"]]
        assert neighbour.was_asked
        neighbour.mend()
        assert runtime.invoke([again(sent)]).failed == []
        assert neighbour.ran == [1, 1]

    def test_what_is_followed_by_a_task_of_its_is_parked_and_not_run_again(
        self, with_broker, neighbour, message
    ):
        following = {"task": "elsewhere.next", "args": [], "kwargs": {}, "options": {}}
        sent = message(link=[{**following, "immutable": True}])
        runtime = with_broker()

        @runtime.task(name="proj.send")
        def send():
            neighbour.ran.append(1)
            neighbour.fail()

        assert runtime.invoke([sent], seconds=neighbour.seconds).failed == []
        assert neighbour.was_asked
        assert "ran to its end" in told_by_dead_letter(runtime)
        assert_not_run_again(runtime, neighbour, sent)

    def test_the_last_failure_is_parked_without_its_errback(self, with_broker, neighbour, message):
        following = {"task": "elsewhere.next", "args": [], "kwargs": {}, "options": {}}
        sent = message(link_error=[{**following, "immutable": True}])
        runtime = with_broker(lambda_max_receive_count=1)

        @runtime.task(name="proj.send")
        def send():
            neighbour.ran.append(1)
            neighbour.fail()
            raise ValueError("451")

        assert runtime.invoke([sent], seconds=neighbour.seconds).failed == []
        assert neighbour.was_asked
        assert "451" in told_by_dead_letter(runtime)
        assert_not_run_again(runtime, neighbour, sent)


@pytest.mark.parametrize("mode", ["reset"])
def test_a_broker_that_is_asked_again_and_again_does_not_take_the_answer_along(
    with_broker, neighbour, message
):
    following = {"task": "elsewhere.next", "args": [], "kwargs": {}, "options": {}}
    sent = message(link=[{**following, "immutable": True}])
    # Celery's own: it asks a hundred times.
    runtime = with_broker(broker_transport_options={}, task_publish_retry_policy={})

    @runtime.task(name="proj.send")
    def send():
        neighbour.ran.append(1)
        neighbour.fail()

    assert runtime.invoke([sent], seconds=2).failed == []
    assert "ran to its end" in told_by_dead_letter(runtime)
    assert_not_run_again(runtime, neighbour, sent)
