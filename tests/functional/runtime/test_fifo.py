"""FIFO queues: the order within a message group is kept."""

from __future__ import annotations

import pytest

from lambda_celery import PublishError


@pytest.fixture
def stack(make_stack):
    return make_stack(suffix=".fifo")


def test_what_follows_a_failure_in_its_group_is_returned(runtime):
    ran = []

    @runtime.task
    def send(group, n):
        if (group, n) == ("a", 1) and ("b", 0) not in ran:
            raise ValueError("not yet")
        ran.append((group, n))

    for group, n in [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("a", 3)]:
        send.apply_async((group, n), MessageGroupId=group, queue="orders.fifo")
    messages = runtime.receive(5)
    by_group = {m["MessageId"]: m["Attributes"]["MessageGroupId"] for m in messages}

    answer = runtime.hand_over(sorted(messages, key=lambda m: m["Attributes"]["MessageGroupId"]))

    assert [by_group[each] for each in answer.failed] == ["a", "a", "a"]
    assert ran == [("a", 0), ("b", 0)]
    assert runtime.deliver(3).all_deleted
    assert ran == [("a", 0), ("b", 0), ("a", 1), ("a", 2), ("a", 3)]


@pytest.mark.parametrize("delay", [{"countdown": 300}, {"DelaySeconds": 300}])
def test_a_delay_is_refused_in_a_sentence(runtime, delay):
    @runtime.task
    def send():
        """It is never sent."""

    with pytest.raises(PublishError, match="FIFO queue cannot delay"):
        send.apply_async(queue="orders.fifo", **delay)
    assert runtime.stack.depth() == 0
    send.apply_async(queue="orders.fifo", countdown=0)
    assert runtime.deliver().all_deleted


def test_a_retry_with_a_countdown_waits_at_the_head_of_its_group(runtime, faults):
    ran = []

    @runtime.task(bind=True)
    def send(self, n):
        if n == 0 and not self.request.retries:
            raise self.retry(countdown=300)
        ran.append(n)

    changes = faults.watch(runtime.settings, "sqs", "ChangeMessageVisibilityBatch")
    send.apply_async((0,), queue="orders.fifo", MessageGroupId="a")
    assert runtime.deliver().all_deleted

    assert runtime.deliver().all_returned

    assert 290 <= changes[0]["Entries"][0]["VisibilityTimeout"] <= 300
    assert runtime.stack.messages() == []
    assert ran == []


def test_a_retry_goes_to_the_end_of_its_group_and_an_error_keeps_the_order(runtime):
    ran = []

    @runtime.task(bind=True)
    def send(self, n):
        if n == 0 and not self.request.retries:
            raise self.retry(countdown=0)
        if n == 1 and not self.request.delivery_info["redelivered"]:
            raise ValueError("not yet")
        ran.append(n)

    for n in range(3):
        send.apply_async((n,), queue="orders.fifo", MessageGroupId="a")
    while runtime.stack.depth():
        runtime.deliver()
    assert ran == [1, 2, 0]


def test_a_spent_message_is_parked_in_its_group(make_runtime):
    runtime = make_runtime(lambda_max_receive_count=1)

    @runtime.task
    def send():
        raise ValueError("bug")

    send.apply_async(MessageGroupId="a", queue="orders.fifo")
    assert runtime.deliver().all_deleted
    (parked,) = runtime.stack.dead_letters()
    assert parked["Attributes"]["MessageGroupId"] == "a"
