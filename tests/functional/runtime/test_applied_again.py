"""What is applied again runs again; what is delivered, or published, again does not."""

from __future__ import annotations

import json

import pytest
from celery import Celery, chord
from celery.beat import ScheduleEntry
from celery.schedules import schedule

from lambda_celery import delay_many
from lambda_celery.beat.occurrences import occurrence_message


@pytest.fixture
def sent() -> list:
    """What the task ``send`` was called with."""
    return []


@pytest.fixture
def send(runtime, sent):
    @runtime.task(name="proj.send")
    def send(address):
        sent.append(address)

    return send


@pytest.fixture
def stock(stack):
    """An app of stock Celery, on kombu's own SQS transport."""
    host = stack.settings.endpoint_url.removeprefix("http://")
    app = Celery("stock", broker=f"sqs://test:test@{host}", set_as_current=False)
    app.conf.broker_transport_options = {
        "region": stack.settings.region,
        "is_secure": False,
        "predefined_queues": {"celery": {"url": stack.settings.queue_url}},
    }
    yield app
    app.close()


def deliver_all(runtime) -> None:
    while count := int(runtime.stack.depth()):
        runtime.deliver(count)


def test_a_frozen_signature_that_is_applied_twice_runs_twice(runtime, send, sent):
    signature = send.s("ann")
    signature.freeze()
    first, second = signature.apply_async(), signature.apply_async()
    assert first.id == second.id
    deliver_all(runtime)
    assert sent == ["ann", "ann"]


def test_a_task_id_of_the_callers_own_does_not_hinder_a_second_call(runtime, send, sent):
    for _ in range(2):
        send.apply_async(("ann",), task_id="mail-to-ann")
    deliver_all(runtime)
    assert sent == ["ann", "ann"]


def test_a_frozen_chord_that_is_applied_twice_has_its_body_run_twice(make_runtime, results_table):
    runtime = make_runtime(result_backend=f"lambda-dynamodb:///{results_table}")
    bodies = []

    @runtime.task
    def part(number):
        return number

    @runtime.task
    def body(results):
        bodies.append(sorted(results))

    canvas = chord([part.s(1), part.s(2)], body.s())
    canvas.freeze()
    for _ in range(2):
        canvas.apply_async()
        deliver_all(runtime)
    assert bodies == [[1, 2], [1, 2]]


def test_a_frozen_signature_that_is_used_twice_in_a_chord_does_not_hang_it(
    make_runtime, results_table
):
    runtime = make_runtime(result_backend=f"lambda-dynamodb:///{results_table}")
    bodies, parts = [], []

    @runtime.task
    def part(number):
        parts.append(number)

    @runtime.task
    def body(results):
        bodies.append(len(results))

    same = part.s(1)
    same.freeze()
    chord([same, same], body.s()).apply_async()
    deliver_all(runtime)
    assert (parts, bodies) == ([1, 1], [2])


@pytest.mark.parametrize("copies", ["a copy", "a redrive of a copy"])
def test_a_publication_that_is_delivered_again_runs_once(runtime, send, sent, copies):
    send.delay("ann")
    (message,) = runtime.receive()
    for _ in range(2 if copies == "a copy" else 1):
        runtime.send_copy(message)
    runtime.hand_over([message])
    deliver_all(runtime)
    assert sent == ["ann"]


def test_calls_that_are_published_together_run_each(runtime, send, sent):
    delay_many(send, [("ann",)] * 3)
    deliver_all(runtime)
    assert sent == ["ann"] * 3


def test_two_equal_retries_of_one_run_are_two_calls(runtime, sent):
    @runtime.task(name="proj.retries", bind=True)
    def retries(self, address):
        if self.request.retries:
            sent.append(address)
            return
        for _ in range(2):
            self.retry((address,), countdown=0, throw=False)

    retries.delay("ann")
    deliver_all(runtime)
    assert sent == ["ann", "ann"]


def test_two_equal_calls_of_one_run_are_two_calls(runtime, send, sent):
    @runtime.task(name="proj.parent")
    def parent():
        send.delay("ann")
        send.delay("ann")

    parent.delay()
    deliver_all(runtime)
    assert sent == ["ann", "ann"]


@pytest.mark.parametrize("publisher", ["ours", "a stock one"])
def test_what_a_parent_has_called_runs_once_although_the_parent_runs_again(
    runtime, send, sent, stock, publisher
):
    runs = []

    @runtime.task(name="proj.parent")
    def parent():
        runs.append(1)
        send.delay("ann")
        send.delay("bob")
        (send.s("cat") | send.si("dan")).delay()
        if len(runs) == 1:
            raise ValueError("after it had called them")

    if publisher == "ours":
        parent.delay()
    else:
        stock.send_task("proj.parent")
    deliver_all(runtime)
    assert len(runs) == 2
    assert sorted(sent) == ["ann", "bob", "cat", "dan"]


def test_another_call_of_the_parent_calls_them_again(runtime, send, sent):
    @runtime.task(name="proj.parent")
    def parent():
        send.delay("ann")

    parent.delay()
    parent.delay()
    deliver_all(runtime)
    assert sent == ["ann", "ann"]


def test_a_retry_of_the_parent_calls_them_again_as_on_a_worker(runtime, send, sent):
    @runtime.task(name="proj.parent", bind=True)
    def parent(self):
        send.delay("ann")
        if not self.request.retries:
            self.retry(countdown=0)

    parent.delay()
    deliver_all(runtime)
    assert sent == ["ann", "ann"]


def test_a_stock_publishers_messages_are_known_by_their_id(runtime, send, sent, stock):
    for _ in range(2):
        stock.send_task("proj.send", ("ann",), task_id="the-same")
    deliver_all(runtime)
    assert sent == ["ann"]


def test_a_stock_workers_retry_is_another_call_although_it_repeats_the_mark(
    runtime, send, sent, stock
):
    """It takes over the headers that it does not know."""
    send.delay("ann")
    (message,) = runtime.receive()
    runtime.hand_over([message])
    headers = runtime.envelope(message)["headers"]
    stock.send_task(
        "proj.send",
        ("ann",),
        task_id=headers["id"],
        retries=1,
        headers={"lambda_publication": headers["lambda_publication"]},
    )
    deliver_all(runtime)
    assert sent == ["ann", "ann"]


def test_the_message_of_a_schedule_is_that_of_many_calls(runtime, send):
    entry = ScheduleEntry(
        "hourly", "proj.send", schedule=schedule(3600), args=("ann",), app=runtime.app
    )
    made = [occurrence_message(runtime.app, entry, "beat-hourly").body for _ in range(2)]
    assert made[0] == made[1]  # or each sync would change the schedule
    assert "lambda_publication" not in json.loads(made[0])["headers"]
