"""FIFO queues: the order within a message group is kept."""

from __future__ import annotations

import pytest


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


def test_an_eta_ahead_waits_on_the_queue_and_is_not_sent_on(runtime, faults):
    @runtime.task
    def send():
        raise AssertionError("not reached")

    changes = faults.watch(runtime.settings, "sqs", "ChangeMessageVisibilityBatch")
    send.apply_async(countdown=300, queue="orders.fifo")
    assert runtime.deliver().all_returned
    assert 290 <= changes[0]["Entries"][0]["VisibilityTimeout"] <= 300


def test_a_spent_message_is_parked_in_its_group(make_runtime):
    runtime = make_runtime(lambda_max_receive_count=1)

    @runtime.task
    def send():
        raise ValueError("bug")

    send.apply_async(MessageGroupId="a", queue="orders.fifo")
    assert runtime.deliver().all_deleted
    (parked,) = runtime.stack.dead_letters()
    assert parked["Attributes"]["MessageGroupId"] == "a"
