"""How messages are packed into requests, by number and by bytes."""

from __future__ import annotations

import pickle
import threading
from types import SimpleNamespace

import pytest

from lambda_celery import BatchPublishError, batch_sender
from lambda_celery.batch import Outgoing
from lambda_celery.batch_sender import BatchSender
from lambda_celery.conf import Settings
from lambda_celery.exceptions import UnsentTask
from lambda_celery.publisher import OutgoingMessage, Publisher


class Queue:
    """Stands in for a boto3 client, and remembers what was asked of it."""

    def __init__(self, limit_bytes: int) -> None:
        self.requests: list[list[str]] = []
        self._limit_bytes = limit_bytes

    def get_queue_attributes(self, **kwargs):
        return {"Attributes": {"MaximumMessageSize": str(self._limit_bytes)}}

    def send_message_batch(self, QueueUrl, Entries):  # noqa: N803
        self.requests.append([each["MessageBody"] for each in Entries])
        return {"Successful": Entries}


def sent(limit_bytes: int, *bodies: str) -> list[list[int]]:
    """Return the sizes of the bodies in each request."""
    queue, publisher = Queue(limit_bytes), Publisher(Settings())
    with BatchSender() as sender:
        for body in bodies:
            sender.add(Outgoing(publisher, "https://queue.fifo", OutgoingMessage(body), queue))
    return [[len(each.encode()) for each in request] for request in queue.requests]


def test_ten_messages_share_a_request():
    assert [len(each) for each in sent(1_048_576, *["x"] * 23)] == [10, 10, 3]


@pytest.mark.parametrize(
    ("bodies", "requests"),
    [
        (["x" * 500, "x" * 500], [[500, 500]]),
        (["x" * 500, "x" * 501], [[500], [501]]),
        (["é" * 250, "é" * 251], [[500], [502]]),
        (["x" * 1000, "x", "x" * 999], [[1000], [1, 999]]),
    ],
)
def test_a_request_has_no_more_bytes_than_the_queue_takes(bodies, requests):
    assert sent(1000, *bodies) == requests


def test_what_is_too_big_without_a_bucket_is_told_and_the_others_are_sent():
    queue, publisher = Queue(1000), Publisher(Settings())

    with (
        pytest.raises(BatchPublishError, match="payload_bucket") as caught,
        BatchSender() as sender,
    ):
        for name, size in [("small", 10), ("big", 1001)]:
            message = OutgoingMessage("x" * size, task_id=name)
            sender.add(Outgoing(publisher, "https://queue", message, queue))

    assert [each.task_id for each in caught.value.failed] == ["big"]
    assert caught.value.sent == 1
    assert queue.requests == [["x" * 10]]


def test_the_error_can_be_pickled_as_a_tasks_result_is():
    error = BatchPublishError((UnsentTask("an id", "SQS refused it."),), 3)

    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert "1 of 4 tasks were not sent" in str(error)


def test_after_a_refusal_of_the_whole_queue_nothing_more_is_asked(monkeypatch):
    monkeypatch.setattr(batch_sender, "time", SimpleNamespace(sleep=lambda seconds: None))
    queue, publisher = Queue(1000), Publisher(Settings())
    requests = []

    def refuse(**kwargs):
        requests.append(kwargs)
        raise batch_sender.exceptions.EndpointConnectionError(endpoint_url="https://queue")

    queue.send_message_batch = refuse
    with pytest.raises(BatchPublishError) as caught, BatchSender() as sender:
        for n in range(30):
            message = OutgoingMessage("x", task_id=str(n))
            sender.add(Outgoing(publisher, "https://queue.fifo", message, queue))

    assert {each.task_id for each in caught.value.failed} == {str(n) for n in range(30)}
    assert len(requests) == 3


def test_messages_are_taken_no_faster_than_they_are_sent(monkeypatch):
    monkeypatch.setattr(batch_sender, "_MESSAGES_IN_FLIGHT", 40)
    queue, publisher = Queue(1000), Publisher(Settings())
    send, taken, most = queue.send_message_batch, [], []

    def note(**kwargs):
        waiting = len(taken) - sum(map(len, queue.requests))
        most.append(waiting)
        return send(**kwargs)

    queue.send_message_batch = note
    with BatchSender() as sender:
        for n in range(1000):
            taken.append(n)
            sender.add(Outgoing(publisher, "https://queue", OutgoingMessage("x"), queue))

    assert sum(map(len, queue.requests)) == 1000
    assert max(most) <= 41  # and the one that waits to be added


def test_bodies_for_s3_are_uploaded_side_by_side(monkeypatch):
    queue, publisher = Queue(1000), Publisher(Settings(payload_bucket="bodies"))
    together = threading.Barrier(4)

    def store(body, attributes):
        together.wait(30)  # broken unless four of them come
        return "pointer", attributes

    monkeypatch.setattr(publisher.payloads, "store", store)
    with BatchSender() as sender:
        for _ in range(8):
            sender.add(Outgoing(publisher, "https://queue", OutgoingMessage("x" * 2000), queue))

    assert [body for request in queue.requests for body in request] == ["pointer"] * 8


@pytest.mark.parametrize(
    "failed", [{"Code": "RequestThrottled", "SenderFault": True}, {"Code": "InternalError"}]
)
def test_an_entry_that_sqs_cannot_take_for_a_moment_is_sent_again(monkeypatch, failed):
    monkeypatch.setattr(batch_sender, "time", SimpleNamespace(sleep=lambda seconds: None))
    queue, publisher = Queue(1000), Publisher(Settings())
    send = queue.send_message_batch

    def refuse_the_second(**kwargs):
        answer = send(**kwargs)
        if len(queue.requests) == 1:
            answer["Failed"] = [{"Id": "1", **failed}]
        return answer

    queue.send_message_batch = refuse_the_second
    with BatchSender() as sender:
        for body in "abc":
            sender.add(Outgoing(publisher, "https://queue", OutgoingMessage(body), queue))

    assert queue.requests == [["a", "b", "c"], ["b"]]


def test_a_message_group_ends_where_one_of_its_messages_is_not_sent(monkeypatch):
    """The next would overtake it; other groups go on."""
    queue, publisher = Queue(1000), Publisher(Settings())
    send = queue.send_message_batch

    def refuse_the_first(**kwargs):
        answer = send(**kwargs)
        if len(queue.requests) == 1:
            answer["Failed"] = [{"Id": "0", "Code": "InvalidMessageContents", "SenderFault": True}]
        return answer

    queue.send_message_batch = refuse_the_first
    with pytest.raises(BatchPublishError) as caught, BatchSender() as sender:
        for n in range(20):
            group = "odd" if n % 2 else "even"
            message = OutgoingMessage(str(n), message_group_id=group, task_id=str(n))
            sender.add(Outgoing(publisher, "https://queue.fifo", message, queue))

    later = [str(n) for n in range(10, 20)]
    assert queue.requests[1:] == [later[1::2]]
    reasons = {each.task_id: each.reason for each in caught.value.failed}
    assert list(reasons) == ["0", *later[::2]]
    assert "earlier message of its group" in reasons["18"]
