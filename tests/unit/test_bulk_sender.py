"""How messages are packed into requests, by number and by bytes."""

from __future__ import annotations

import pickle
import threading
from types import SimpleNamespace

import pytest
from botocore import exceptions

from lambda_celery import BatchPublishError
from lambda_celery.conf import Settings
from lambda_celery.exceptions import UnsentTask
from lambda_celery.message import OutgoingMessage
from lambda_celery.publishing import bulk_sender as batch_sender
from lambda_celery.publishing.bulk_sender import BulkSender
from lambda_celery.publishing.held_messages import Outgoing
from lambda_celery.publishing.publisher import Publisher


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
    with BulkSender() as sender:
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
        BulkSender() as sender,
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


def test_of_one_task_nothing_is_counted():
    error = BatchPublishError((UnsentTask("an id", "SQS refused it."),), 0)

    assert str(error) == "The task an id was not sent: SQS refused it."


def test_after_a_refusal_of_the_whole_queue_nothing_more_is_asked(monkeypatch):
    monkeypatch.setattr(batch_sender, "time", SimpleNamespace(sleep=lambda seconds: None))
    queue, publisher = Queue(1000), Publisher(Settings())
    requests = []

    def refuse(**kwargs):
        requests.append(kwargs)
        raise exceptions.EndpointConnectionError(endpoint_url="https://queue")

    queue.send_message_batch = refuse
    with pytest.raises(BatchPublishError) as caught, BulkSender() as sender:
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
    with BulkSender() as sender:
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
    with BulkSender() as sender:
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
    with BulkSender() as sender:
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
    with pytest.raises(BatchPublishError) as caught, BulkSender() as sender:
        for n in range(20):
            group = "odd" if n % 2 else "even"
            message = OutgoingMessage(str(n), message_group_id=group, task_id=str(n))
            sender.add(Outgoing(publisher, "https://queue.fifo", message, queue))

    later = [str(n) for n in range(10, 20)]
    assert queue.requests[1:] == [later[1::2]]
    reasons = {each.task_id: each.reason for each in caught.value.failed}
    assert list(reasons) == ["0", *later[::2]]
    assert "earlier message of its group" in reasons["18"]


@pytest.mark.parametrize("url", ["https://queue", "https://queue.fifo"])
@pytest.mark.parametrize("in_flight", [40, 1000])  # it is called as they are added, or at the end
def test_what_progress_raises_comes_when_all_is_sent(monkeypatch, url, in_flight):
    monkeypatch.setattr(batch_sender, "_MESSAGES_IN_FLIGHT", in_flight)
    queue, publisher = Queue(1000), Publisher(Settings())
    calls = []

    def progress(sent, total):
        calls.append(sent)
        raise RuntimeError("the progress bar broke")

    with pytest.raises(RuntimeError, match="progress bar"), BulkSender() as sender:
        send_when_waited_for(monkeypatch, queue, sender)
        sender.report(progress, 100)
        for n in range(100):
            sender.add(Outgoing(publisher, url, OutgoingMessage(str(n)), queue))

    bodies = [int(body) for request in queue.requests for body in request]
    assert (bodies if url.endswith(".fifo") else sorted(bodies)) == list(range(100))
    assert len(calls) == 1


def test_what_was_not_sent_is_told_whatever_progress_raises():
    queue, publisher = Queue(1000), Publisher(Settings())
    send = queue.send_message_batch

    def refuse_the_last(**kwargs):
        answer = send(**kwargs)
        if len(queue.requests) == 3:
            answer["Failed"] = [{"Id": "9", "Code": "InvalidMessageContents", "SenderFault": True}]
        return answer

    def progress(sent, total):
        raise RuntimeError("the progress bar broke")

    queue.send_message_batch = refuse_the_last
    with pytest.raises(BatchPublishError) as caught, BulkSender() as sender:
        sender.report(progress, 30)
        for n in range(30):
            message = OutgoingMessage(str(n), task_id=str(n))
            sender.add(Outgoing(publisher, "https://queue.fifo", message, queue))

    assert [each.task_id for each in caught.value.failed] == ["29"]
    assert caught.value.sent == 29
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize("in_flight", [40, 1000])
def test_ctrl_c_waits_for_what_was_taken_and_takes_nothing_more(monkeypatch, in_flight):
    monkeypatch.setattr(batch_sender, "_MESSAGES_IN_FLIGHT", in_flight)
    queue, publisher = Queue(1000), Publisher(Settings())
    added = []

    def progress(sent, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), BulkSender() as sender:
        send_when_waited_for(monkeypatch, queue, sender)
        sender.report(progress, 100)
        for n in range(100):
            message = OutgoingMessage(str(n))
            sender.add(Outgoing(publisher, "https://queue.fifo", message, queue))
            added.append(message.body)

    assert [body for request in queue.requests for body in request] == added
    assert len(added) == min(in_flight, 100)


@pytest.mark.parametrize("url", ["https://queue", "https://queue.fifo"])
@pytest.mark.parametrize("submits", [1, 2, 3])
@pytest.mark.parametrize("too_late", [False, True])
def test_ctrl_c_in_the_middle_of_a_submission_loses_nothing(monkeypatch, url, submits, too_late):
    queue, publisher = Queue(1000), Publisher(Settings())
    added = []

    with pytest.raises(KeyboardInterrupt), BulkSender() as sender:
        submit = sender._pool.submit

        def interrupted(*args):
            nonlocal submits
            if threading.current_thread() is not threading.main_thread():
                return submit(*args)
            submits -= 1
            if submits == 0 and not too_late:
                raise KeyboardInterrupt
            future = submit(*args)
            if submits == 0:
                raise KeyboardInterrupt
            return future

        monkeypatch.setattr(sender._pool, "submit", interrupted)
        for n in range(200):
            added.append(str(n))
            message = OutgoingMessage(str(n))
            sender.add(Outgoing(publisher, url, message, queue))
            if url.endswith(".fifo"):
                wait_until_idle(sender)

    # Some perhaps twice, which the records of the runs see to.
    assert {body for request in queue.requests for body in request} == set(added)


def send_when_waited_for(monkeypatch, queue: Queue, sender: BulkSender) -> None:
    """Have *queue* answer only when the thread that adds waits."""
    send, waited_for = queue.send_message_batch, threading.Event()

    def send_then(**kwargs):
        assert waited_for.wait(30)
        return send(**kwargs)

    def wait(count):
        waited_for.set()
        BulkSender._wait_until_in_flight_is_below(sender, count)

    monkeypatch.setattr(queue, "send_message_batch", send_then)
    monkeypatch.setattr(sender, "_wait_until_in_flight_is_below", wait)


def wait_until_idle(sender: BulkSender) -> None:
    """Have the next request be one that is submitted by the thread that adds."""
    while not sender._is_idle():
        sender._exchanges.step()
