"""How messages are packed into requests, by number and by bytes."""

from __future__ import annotations

import pickle
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
