"""What a call had beside its body, it has on every way on which it is published again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery.exceptions import Reject

GROUP = "customer-7"
ATTRIBUTES = {
    "tenant": {"DataType": "String", "StringValue": "acme"},
    "blob": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
}


def retry(task: Any) -> None:
    raise task.retry(countdown=0)


def raise_for_autoretry(task: Any) -> None:
    raise ConnectionError("451")


def retry_with_a_big_argument(task: Any) -> None:
    raise task.retry(args=("x" * 800_000,), countdown=0)


def replace(task: Any) -> None:
    raise task.replace(task.app.tasks["proj.other"].si())


def retry_in_a_batch(task: Any) -> None:
    from lambda_celery import batch

    with batch():
        raise task.retry(countdown=0)


@pytest.mark.parametrize(
    "again", [retry, raise_for_autoretry, retry_with_a_big_argument, replace, retry_in_a_batch]
)
def test_what_is_published_in_its_place(runtime, again: Callable[[Any], None]):
    @runtime.task(
        bind=True, name="proj.send", autoretry_for=(ConnectionError,), default_retry_delay=0
    )
    def send(self, _=None):
        again(self)

    @runtime.task(name="proj.other")
    def other():
        """It is only sent."""

    send.apply_async(("a",), MessageGroupId=GROUP, message_attributes=ATTRIBUTES)
    assert runtime.deliver().all_deleted

    check(runtime.receive()[0])


def test_a_call_that_names_its_own_has_these(runtime):
    attributes = {"tenant": {"DataType": "String", "StringValue": "other"}}

    @runtime.task(bind=True)
    def send(self):
        raise self.retry(countdown=0, MessageGroupId="mine", message_attributes=attributes)

    send.apply_async(MessageGroupId=GROUP, message_attributes=ATTRIBUTES)
    assert runtime.deliver().all_deleted

    (message,) = runtime.receive()
    assert message["Attributes"]["MessageGroupId"] == "mine"
    assert message["MessageAttributes"]["tenant"]["StringValue"] == "other"
    assert "blob" in message["MessageAttributes"]


def test_what_a_run_calls_beside_has_none_of_it(runtime):
    @runtime.task(name="proj.other")
    def other():
        """It is only sent."""

    @runtime.task
    def send():
        other.delay()

    send.apply_async(MessageGroupId=GROUP, message_attributes=ATTRIBUTES)
    assert runtime.deliver().all_deleted

    (message,) = runtime.receive()
    assert "MessageGroupId" not in message["Attributes"]
    assert "MessageAttributes" not in message


def test_what_is_sent_on_until_it_is_due(runtime, faults):
    sent = faults.watch(runtime.settings, "sqs", "SendMessage")

    @runtime.task(name="proj.send")
    def send():
        raise AssertionError("not reached")

    due = datetime.now(UTC) + timedelta(hours=1)
    send.apply_async(MessageGroupId=GROUP, message_attributes=ATTRIBUTES, eta=due)
    # As if SQS's delay were over.
    undelayed = {"DelaySeconds": 0, "MessageAttributes": ATTRIBUTES}
    runtime.sqs.send_message(**{**sent[0], **undelayed})

    assert runtime.deliver().all_deleted
    assert sent[1] == sent[0]
    assert sent[1]["MessageGroupId"] == GROUP


def test_what_is_parked(runtime):
    @runtime.task
    def send():
        raise Reject("no", requeue=False)

    send.apply_async(MessageGroupId=GROUP, message_attributes=ATTRIBUTES)
    assert runtime.deliver().all_deleted

    check(*runtime.stack.dead_letters())


def test_on_a_fifo_queue_the_retry_stays_in_its_group(make_runtime, make_stack):
    fifo = make_stack(suffix=".fifo")
    runtime = make_runtime(lambda_queue_url=fifo.queue_url)

    @runtime.task(bind=True)
    def send(self):
        raise self.retry(countdown=0)

    send.apply_async(MessageGroupId=GROUP, message_attributes=ATTRIBUTES)
    assert runtime.deliver().all_deleted

    check(runtime.receive()[0])


def check(message: Any) -> None:
    assert message["Attributes"]["MessageGroupId"] == GROUP
    found = message["MessageAttributes"]
    assert found["tenant"]["StringValue"] == "acme"
    assert found["blob"]["BinaryValue"] == b"\x00\xff"
