"""Many messages sent by one thread, over real connections."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from lambda_celery import BatchPublishError, aws
from lambda_celery.aws.exchanges import Exchanges
from lambda_celery.conf import Settings
from lambda_celery.message import OutgoingMessage
from lambda_celery.publishing.bulk_sender import BulkSender
from lambda_celery.publishing.held_messages import Outgoing
from lambda_celery.publishing.publisher import Publisher
from tests.unit.wire import LOST, Sent, Wire, answer

PARAMETERS = {"QueueUrl": "http://127.0.0.1:9/0/mail", "Entries": []}


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire().serving() as wire:
        yield wire


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, wire: Wire) -> Settings:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setattr("lambda_celery.aws.clients._clients", {})
    return Settings(endpoint_url=wire.url, region="eu-west-1")


@pytest.fixture
def sqs(settings: Settings) -> Any:
    return aws.client("sqs", settings)


def taken(sent: Sent) -> bytes:
    """Answer as SQS does that takes all entries."""
    entries = json.loads(sent.body)["Entries"]
    return answer(200, {"Successful": [{"Id": each["Id"]} for each in entries]})


class TestExchanges:
    @pytest.fixture
    def exchanges(self) -> Iterator[Exchanges]:
        made = Exchanges(4)
        yield made
        made.close()

    def test_several_are_under_way_at_a_time(self, exchanges, sqs, wire):
        all_asked = threading.Event()

        def answer_later(sent: Sent) -> bytes:
            all_asked.wait(30)
            return answer(200, {"n": 1})

        wire.answers(answer_later)
        came: list[Any] = []
        for _ in range(4):
            assert exchanges.has_room
            exchanges.start(sqs, "SendMessageBatch", PARAMETERS, came.append)
        assert not exchanges.has_room
        all_asked.set()
        while exchanges.are_under_way:
            exchanges.step()
        assert [each["n"] for each in came] == [1] * 4

    def test_a_connection_is_used_again_and_handed_back(self, exchanges, sqs, wire):
        wire.answers(answer(200, {}))
        came: list[Any] = []
        for _ in range(3):
            exchanges.start(sqs, "SendMessageBatch", PARAMETERS, came.append)
            while exchanges.are_under_way:
                exchanges.step()
        exchanges.close()
        sqs.send_message(QueueUrl="q", MessageBody="b")
        assert wire.connections == 1

    @pytest.mark.parametrize(
        "lost", [LOST, answer(503, {}), answer(200, "<html>"), b"HTTP/1.0 200 OK\r\n\r\n"]
    )
    def test_what_went_wrong_is_told(self, exchanges, sqs, wire, lost):
        wire.answers(lost, answer(200, {}))
        came: list[Any] = []
        exchanges.start(sqs, "SendMessageBatch", PARAMETERS, came.append)
        exchanges.start(sqs, "SendMessageBatch", PARAMETERS, came.append)
        while exchanges.are_under_way:
            exchanges.step()
        assert {isinstance(each, Exception) for each in came} == {True, False}

    def test_one_that_does_not_answer_is_given_up(self, exchanges, sqs, wire):
        asked, let_go = threading.Event(), threading.Event()

        def stall(sent: Sent) -> bytes:
            asked.set()
            let_go.wait(30)
            return LOST

        wire.answers(stall)
        sqs.read_seconds = 0.2
        came: list[Any] = []
        exchanges.start(sqs, "SendMessageBatch", PARAMETERS, came.append)
        while exchanges.are_under_way:
            exchanges.step()
        let_go.set()
        assert asked.is_set()
        assert isinstance(came[0], TimeoutError)

    def test_a_request_of_any_size_leaves(self, exchanges, sqs, wire):
        wire.answers(answer(200, {}))
        came: list[Any] = []
        large = {**PARAMETERS, "Entries": [{"Id": "0", "MessageBody": "x" * 20_000_000}]}
        exchanges.start(sqs, "SendMessageBatch", large, came.append)
        while exchanges.are_under_way:
            exchanges.step()
        assert not isinstance(came[0], Exception)
        assert json.loads(wire.sent[0].body) == large

    def test_another_thread_can_wake_it(self, exchanges):
        threading.Thread(target=exchanges.wake).start()
        exchanges.step()  # else for ever


class TestBulkSender:
    @pytest.fixture
    def send(
        self, monkeypatch: pytest.MonkeyPatch, settings: Settings, wire: Wire
    ) -> Callable[..., None]:
        monkeypatch.setattr("lambda_celery.publishing.publisher._ask_limit", lambda *_: 262_144)
        publisher = Publisher(settings)

        def send(bodies: Any, queue: str = "mail", group: str | None = None) -> None:
            url = f"{wire.url}/000000000000/{queue}"
            with BulkSender() as sender:
                for each in bodies:
                    message = OutgoingMessage(str(each), message_group_id=group, task_id=str(each))
                    sender.add(Outgoing(publisher, url, message))

        return send

    @staticmethod
    def bodies(wire: Wire) -> list[list[int]]:
        return [
            [int(entry["MessageBody"]) for entry in json.loads(each.body)["Entries"]]
            for each in wire.sent
        ]

    def test_each_is_sent_once_ten_a_request_over_a_few_connections(self, send, wire):
        wire.answers(taken)
        send(range(1005))
        requests = self.bodies(wire)
        assert sorted(chain(*requests)) == list(range(1005))
        assert sorted(map(len, requests)) == [5] + [10] * 100
        assert wire.connections <= 16

    def test_a_fifo_queue_keeps_its_order(self, send, wire):
        wire.answers(taken)
        send(range(95), "mail.fifo", "g")
        assert list(chain(*self.bodies(wire))) == list(range(95))

    @pytest.mark.parametrize("queue", ["mail", "mail.fifo"])
    @pytest.mark.parametrize("lost", [LOST, answer(503, {}), answer(200, "<html>")])
    def test_a_request_that_went_wrong_is_sent_again(self, send, wire, queue, lost):
        wire.answers(taken, taken, lost, taken)
        send(range(100), queue, "g" if queue.endswith("fifo") else None)
        requests = self.bodies(wire)
        assert set(chain(*requests)) == set(range(100))
        assert len(requests) == 11
        if queue.endswith("fifo"):
            assert requests == sorted(requests)

    def test_an_entry_that_sqs_cannot_take_for_a_moment_is_sent_again(self, send, wire):
        failed = {"Failed": [{"Id": "3", "Code": "InternalError", "SenderFault": False}]}
        wire.answers(answer(200, failed), taken)
        send(range(10))
        assert self.bodies(wire) == [list(range(10)), [3]]

    def test_an_entry_that_sqs_refuses_is_told(self, send, wire):
        failed = {"Failed": [{"Id": "3", "Code": "InvalidMessageContents", "SenderFault": True}]}
        again = {"Failed": [{"Id": "0", "Code": "InvalidMessageContents", "SenderFault": True}]}
        wire.answers(answer(200, failed), answer(200, again))
        with pytest.raises(BatchPublishError, match="InvalidMessageContents") as raised:
            send(range(10))
        assert [each.task_id for each in raised.value.failed] == ["3"]
        assert raised.value.sent == 9

    @pytest.mark.parametrize("queue", ["mail", "mail.fifo"])
    @pytest.mark.parametrize("at", range(1, 60, 7))
    @pytest.mark.parametrize("raised", [KeyboardInterrupt, SoftTimeLimitExceeded])
    def test_what_is_raised_in_the_middle_of_anything_loses_nothing(
        self, monkeypatch, send, wire, queue, at, raised
    ):
        """By Ctrl-C, or a time limit: at the call of one of the functions that send."""
        wire.answers(taken)
        added: list[int] = []
        countdown = iter(range(at, -1_000_000, -1))
        sending = threading.current_thread()

        def interrupting(function: Any) -> Any:
            def interrupted(*args: Any, **kwargs: Any) -> Any:
                # Another test's handler may have a thread that asks in the same way.
                if threading.current_thread() is sending and next(countdown) == 0:
                    raise raised
                return function(*args, **kwargs)

            return interrupted

        for name in ("start", "step", "_go_on", "_finish", "_line"):
            monkeypatch.setattr(Exchanges, name, interrupting(getattr(Exchanges, name)))

        def bodies() -> Iterator[int]:
            for n in range(300):
                added.append(n)
                yield n

        with pytest.raises(raised):
            send(bodies(), queue, "g" if queue.endswith("fifo") else None)
        # Some perhaps twice, which the records of the runs see to.
        assert set(chain(*self.bodies(wire))) >= set(added[:-1])
