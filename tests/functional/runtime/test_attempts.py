"""Attempts are counted by the table, where SQS counts receives that are none."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from lambda_runtime.messages import settlement
from lambda_runtime.messages.delivery import SENT_ON_ATTRIBUTE, Delivery
from lambda_runtime.messages.publication import publication_of
from lambda_runtime.messages.request import read_request
from lambda_runtime.table.claims import Claim, Ending, IdempotencyTable


def key_of(runtime: Any, message: dict[str, Any]) -> str:
    (record,) = runtime.event([message])["Records"]
    delivery = Delivery.from_record(record)
    request = read_request(runtime.app, runtime.settings, delivery, delivery.body, "here")
    return publication_of(request).key


def lose(runtime: Any, message: dict[str, Any], times: int = 1) -> None:
    """Leave what a process leaves that dies while it runs *message*."""
    table = IdempotencyTable(runtime.settings)
    for _ in range(times):
        claimed = table.claim(
            key_of(runtime, message),
            life_seconds=3600,
            run_ends=time.time() - 10,
            lineage=(message["MessageId"],),
        )
        assert claimed.claim is Claim.WON


def received(message: dict[str, Any], times: int) -> dict[str, Any]:
    attributes = {**message["Attributes"], "ApproximateReceiveCount": str(times)}
    return {**message, "Attributes": attributes}


def send_one_that_fails(runtime: Any) -> list[int]:
    """Publish a task that always raises; return the list that each run is noted in."""
    ran: list[int] = []

    @runtime.task
    def send():
        ran.append(1)
        raise ValueError("451")

    send.delay()
    return ran


def redriven(message: dict[str, Any]) -> dict[str, Any]:
    """Return *message* as it comes from the dead-letter queue, attributes and all."""
    return {**received(message, 1), "MessageId": f"redriven-{message['MessageId']}"}


@pytest.fixture
def ran() -> list[Any]:
    return []


class TestKillsItsProcess:
    def test_it_runs_when_the_others_are_gone_from_the_queue(self, runtime, ran):
        @runtime.task
        def send(n):
            ran.append((n, runtime.stack.depth()))
            if n == "fails":
                raise ValueError("451")

        for n in ("killer", "fine", "fails"):
            send.delay(n)
        messages = runtime.receive(3)
        (killer,) = (m for m in messages if "killer" in runtime.envelope(m)["headers"]["argsrepr"])
        lose(runtime, killer)
        messages = [killer, *(m for m in messages if m is not killer)]

        answer = runtime.invoke(messages)

        assert [n for n, _ in ran][-1] == "killer"
        assert ran[-1] == ("killer", 2)  # itself, and the one that has failed
        assert len(answer.failed) == 1
        assert runtime.stack.depth() == 2  # Lambda deletes the killer, as the answer says

    def test_what_failed_before_it_is_hidden_for_its_back_off(self, make_runtime, faults, ran):
        runtime = make_runtime(lambda_retry_backoff_seconds=40, lambda_retry_jitter=False)
        hidden = faults.watch(runtime.settings, "sqs", "ChangeMessageVisibilityBatch")

        @runtime.task
        def send(n):
            ran.append((n, len(hidden)))
            if n == "fails":
                raise ValueError("451")

        send.delay("killer")
        (killer,) = runtime.receive()
        lose(runtime, killer)
        send.delay("fails")
        runtime.invoke([killer, *runtime.receive()])
        assert ran == [("fails", 0), ("killer", 1)]

    def test_too_often_is_parked(self, make_runtime, ran):
        runtime = make_runtime(lambda_max_receive_count=3)

        @runtime.task
        def send():
            ran.append(1)

        send.delay()
        (message,) = runtime.receive()
        lose(runtime, message, times=3)

        assert runtime.hand_over([message]).all_deleted
        assert ran == []
        assert len(runtime.stack.dead_letters()) == 1

    def test_those_that_were_tried_less_often_run_first(self, runtime, ran):
        @runtime.task
        def send(n):
            ran.append(n)

        messages = []
        for n in (2, 1, 3):
            send.delay(n)
            (message,) = runtime.receive()
            lose(runtime, message, times=n)
            messages.append(message)

        assert runtime.hand_over(messages).all_deleted
        assert ran == [1, 2, 3]

    def test_several_run_one_by_one_and_who_waits_at_its_last_receive_is_sent_on(
        self, make_runtime, ran
    ):
        runtime = make_runtime(lambda_max_receive_count=3)

        @runtime.task
        def send(n):
            ran.append((n, runtime.stack.depth()))

        send.delay(1)
        send.delay(2)
        one, two = runtime.receive(2)
        lose(runtime, one)
        lose(runtime, two, times=2)
        two = received(two, 3)

        answer = runtime.invoke([one, two])

        assert answer.failed == []
        assert len(ran) == 1  # the other is a new message
        (sent_on,) = runtime.receive()
        assert two["MessageId"] in sent_on["MessageAttributes"][SENT_ON_ATTRIBUTE]["StringValue"]
        assert runtime.hand_over([sent_on]).all_deleted
        assert len(ran) == 2

    @pytest.mark.parametrize("concurrency", [1, 2])
    def test_by_its_next_attempt_the_count_goes_on(self, make_runtime, concurrency):
        runtime = make_runtime(lambda_concurrency=concurrency)

        @runtime.task
        def send():
            """It is only sent."""

        send.delay()
        (message,) = runtime.receive()
        lose(runtime, message, times=2)
        table = IdempotencyTable(runtime.settings)
        claimed = table.claim(
            key_of(runtime, message), life_seconds=60, run_ends=time.time() + 60,
            lineage=(message["MessageId"],),
        )  # fmt: skip
        assert (claimed.claim, claimed.number, claimed.after_lost) == (Claim.WON, 3, True)


class TestLastReceive:
    """SQS hands the message out once more, to nobody: it moves it to the dead-letter queue."""

    def test_what_has_run_is_deleted_before_anything_runs(self, make_runtime, ran):
        runtime = make_runtime(lambda_max_receive_count=3)

        @runtime.task
        def send(n):
            ran.append((n, runtime.stack.depth()))

        send.delay("first")
        (first,) = runtime.receive()
        runtime.invoke([first])  # its process died before Lambda heard of it
        send.delay("second")
        (second,) = runtime.receive()

        assert runtime.invoke([second, received(first, 3)]).failed == []
        assert ran == [("first", 1), ("second", 1)]

    def test_what_has_attempts_left_is_sent_on_before_anything_runs(self, make_runtime, ran):
        runtime = make_runtime(lambda_max_receive_count=3)

        @runtime.task
        def send(n):
            ran.append(n)
            if n == "victim":
                raise ValueError("451")

        send.delay("victim")
        (victim,) = runtime.receive()

        assert runtime.invoke([received(victim, 3)]).failed == []
        assert ran == []
        for _ in range(2):
            assert runtime.deliver().all_returned
        assert runtime.deliver().all_deleted
        assert ran == ["victim"] * 3
        assert len(runtime.stack.dead_letters()) == 1

    def test_what_is_spent_runs_and_is_deleted_at_once(self, make_runtime, ran):
        runtime = make_runtime(lambda_max_receive_count=1)

        @runtime.task
        def send(n):
            ran.append((n, runtime.stack.depth()))

        send.delay(1)
        send.delay(2)
        assert runtime.invoke(runtime.receive(2)).failed == []
        assert [depth for _, depth in ran] == [2, 1]

    def test_of_what_was_not_run_for_want_of_time_the_attempts_are_left(
        self, make_runtime, no_time
    ):
        runtime = make_runtime(lambda_max_receive_count=2)
        ran = send_one_that_fails(runtime)
        with no_time():
            assert runtime.deliver().all_returned
            assert runtime.deliver().all_deleted  # sent on
        assert runtime.deliver().all_returned
        assert runtime.deliver().all_deleted
        assert len(ran) == 2
        assert len(runtime.stack.dead_letters()) == 1


class TestRedrive:
    def test_counts_from_one_although_the_message_had_been_sent_on(self, make_runtime):
        runtime = make_runtime(lambda_max_receive_count=2)
        ran = send_one_that_fails(runtime)
        (message,) = runtime.receive()
        assert runtime.hand_over([received(message, 2)]).all_deleted  # sent on
        (sent_on,) = runtime.receive()
        lose(runtime, sent_on, times=2)  # and moved by SQS itself
        runtime.sqs.delete_message(
            QueueUrl=runtime.settings.queue_url, ReceiptHandle=sent_on["ReceiptHandle"]
        )

        again = redriven(sent_on)
        assert runtime.invoke([again]).all_returned
        assert runtime.invoke([received(again, 2)]).all_deleted
        assert len(ran) == 2
        assert len(runtime.stack.dead_letters()) == 1


class TestSQSTakesNothingAtTheLastReceive:
    """What stays on its queue then is parked by SQS, although it has attempts left."""

    def test_what_was_to_be_sent_on_before_the_run_is_run(self, make_runtime, faults, ran):
        runtime = make_runtime(lambda_max_receive_count=3)

        @runtime.task
        def send(n):
            ran.append(n)

        send.delay(1)
        send.delay(2)
        messages = [received(each, 3) for each in runtime.receive(2)]
        for operation in ("SendMessage", "SendMessageBatch"):
            faults.fail(runtime.settings, "sqs", operation, "ServiceUnavailable", status=503)

        assert runtime.hand_over(messages).all_deleted
        assert sorted(ran) == [1, 2]

    @pytest.mark.parametrize("count", [1, 2])
    def test_what_was_to_be_sent_on_after_it_is_tried_again(
        self, make_runtime, faults, ran, no_time, monkeypatch, count
    ):
        runtime = make_runtime(lambda_max_receive_count=3)

        @runtime.task
        def send():
            ran.append(1)

        for _ in range(count):
            send.delay()
        messages = [received(each, 3) for each in runtime.receive(count)]
        undo = [
            faults.fail(runtime.settings, "sqs", operation, "ServiceUnavailable", status=503)
            for operation in ("SendMessage", "SendMessageBatch")
        ]

        def end_it(_seconds):
            for each in undo:
                each()

        monkeypatch.setattr(
            settlement, "time", SimpleNamespace(sleep=end_it, monotonic=time.monotonic)
        )
        with no_time():
            assert runtime.hand_over(messages).all_deleted
        assert runtime.deliver(count).all_deleted
        assert ran == [1] * count

    @pytest.mark.parametrize("is_told", [True, False], ids=["limit known", "limit not told"])
    def test_what_may_kill_the_process_is_not_run_for_the_sake_of_the_others(
        self, make_runtime, faults, ran, is_told
    ):
        runtime = make_runtime(lambda_max_receive_count=3 if is_told else None)

        @runtime.task
        def send(n):
            ran.append(n)

        messages = []
        for n, lost in ("killer", 2), ("was beside it", 1), ("fine", 0):
            send.delay(n)
            (message,) = runtime.receive()
            lose(runtime, message, times=lost)
            messages.append(received(message, 2 if n == "killer" else 3))
        operations = ["DeleteMessageBatch", "SendMessage", "SendMessageBatch"]
        for operation in [*operations, *([] if is_told else ["GetQueueAttributes"])]:
            faults.fail(runtime.settings, "sqs", operation, "ServiceUnavailable", status=503)

        answer = runtime.invoke(messages)

        assert sorted(ran) == ["fine", "was beside it"]
        assert answer.failed == [messages[0]["MessageId"]]

    def test_it_is_tried_once_to_send_on_who_waits_for_others(self, make_runtime, faults, ran):
        runtime = make_runtime(lambda_max_receive_count=3)
        sent = faults.watch(runtime.settings, "sqs", "SendMessage")

        @runtime.task
        def send(n):
            ran.append(n)

        messages = []
        for n in range(4):
            send.delay(n)
            (message,) = runtime.receive()
            lose(runtime, message, times=2)
            messages.append(received(message, 3))
        before = len(sent)
        faults.fail(runtime.settings, "sqs", "SendMessage", "ServiceUnavailable", status=503)

        assert runtime.hand_over(messages).all_deleted
        assert sorted(ran) == [0, 1, 2, 3]
        assert len({each["MessageBody"] for each in sent[before:]}) == 1

    def test_what_may_kill_the_process_runs_where_all_others_have_receives_left(
        self, make_runtime, faults, ran
    ):
        runtime = make_runtime(lambda_max_receive_count=5)

        @runtime.task
        def send(n):
            ran.append(n)

        send.delay("killer")
        (killer,) = runtime.receive()
        lose(runtime, killer, times=2)
        send.delay("fine")
        faults.fail(runtime.settings, "sqs", "DeleteMessageBatch", "ServiceUnavailable", status=503)

        assert runtime.hand_over([received(killer, 3), *runtime.receive()]).all_deleted
        assert ran == ["fine", "killer"]

    def test_when_it_still_takes_nothing_the_message_stays(self, make_runtime, faults, no_time):
        runtime = make_runtime(lambda_max_receive_count=3)

        @runtime.task
        def send():
            """It is not run."""

        send.delay()
        (message,) = runtime.receive()
        faults.fail(runtime.settings, "sqs", "SendMessage", "ServiceUnavailable", status=503)
        with no_time():
            answer = runtime.hand_over([received(message, 3)], seconds=5)
        assert answer.failed == [message["MessageId"]]


class TestFIFO:
    @pytest.fixture
    def runtime(self, make_runtime, make_stack):
        self.stack = make_stack(suffix=".fifo")
        return make_runtime(
            lambda_queue_url=self.stack.queue_url,
            lambda_dead_letter_queue_url=self.stack.dead_letter_queue_url,
            lambda_max_receive_count=3,
        )

    def drain(self, runtime: Any, deliveries: int) -> None:
        for _ in range(deliveries):
            if not self.stack.depth():
                return
            messages = runtime.receive(self.stack.depth())
            runtime.hand_over(messages)

    def test_a_follower_has_its_attempts_although_the_first_always_fails(self, runtime, ran):
        @runtime.task
        def send(n):
            ran.append(n)
            if n == "head" or (n == "follower" and ran.count(n) == 1):
                raise ValueError("451")

        for n in ("head", "follower", "last"):
            send.apply_async((n,), MessageGroupId="a")
        self.drain(runtime, 10)

        assert ran.count("head") == 3
        assert ran.count("follower") == 2
        assert ran.count("last") == 1
        assert ran.index("last") > len(ran) - 2 - ran[::-1].index("follower")
        assert len(self.stack.dead_letters()) == 1

    def test_what_has_no_time_to_run_is_not_parked_and_keeps_its_order(self, runtime, ran, no_time):
        @runtime.task
        def send(n):
            ran.append(n)

        for n in range(6):
            send.apply_async((n,), MessageGroupId="a")
        with no_time():
            for _ in range(4):
                runtime.hand_over(runtime.receive(6))
        self.drain(runtime, 10)

        assert ran == list(range(6))
        assert self.stack.dead_letters() == []

    def test_one_that_killed_its_process_waits_with_its_group(self, runtime, ran):
        @runtime.task
        def send(group, n):
            ran.append((group, n))

        send.apply_async(("a", 0), MessageGroupId="a")
        (killer,) = runtime.receive()
        lose(runtime, killer)
        runtime.sqs.change_message_visibility(
            QueueUrl=self.stack.queue_url, ReceiptHandle=killer["ReceiptHandle"],
            VisibilityTimeout=0,
        )  # fmt: skip
        send.apply_async(("a", 1), MessageGroupId="a")
        send.apply_async(("b", 0), MessageGroupId="b")
        messages = runtime.receive(3)

        assert runtime.hand_over(messages).failed == []
        assert ran == [("b", 0), ("a", 0), ("a", 1)]

    def test_a_group_at_its_last_receive_runs_first(self, runtime, ran):
        """Should a neighbour kill the process, SQS would park it."""

        @runtime.task
        def send(group, n):
            ran.append((group, n))

        for group in ("a", "b"):
            for n in range(2):
                send.apply_async((group, n), MessageGroupId=group)
        messages = sorted(
            runtime.receive(4),
            key=lambda each: (
                each["Attributes"]["MessageGroupId"], each["Attributes"]["SequenceNumber"]
            ),
        )  # fmt: skip
        assert runtime.hand_over([*messages[:3], received(messages[3], 3)]).failed == []

        assert ran[:2] == [("b", 0), ("b", 1)]


class TestTwoVersionsSideBySide:
    def test_a_lock_without_an_owner_is_taken_over(self, runtime, ran):
        """By Powertools itself, or an earlier version."""

        @runtime.task
        def send():
            ran.append(1)

        send.delay()
        (message,) = runtime.receive()
        runtime.stack.dynamodb.put_item(
            TableName=runtime.settings.idempotency_table,
            Item={
                "id": {"S": key_of(runtime, message)},
                "expiration": {"N": str(int(time.time()) + 3600)},
                "in_progress_expiration": {"N": str(int((time.time() - 10) * 1000))},
                "status": {"S": "INPROGRESS"},
            },
        )
        assert runtime.hand_over([message]).all_deleted
        assert ran == [1]


def test_one_taken_for_lost_that_has_completed_since_is_not_run_again(runtime, monkeypatch):
    """A suspended machine goes on after its lock has ended, between a look and a write."""

    @runtime.task
    def send():
        raise AssertionError("not reached")

    send.delay()
    (message,) = runtime.receive()
    lose(runtime, message)
    table = IdempotencyTable(runtime.settings)
    key = key_of(runtime, message)
    stored = IdempotencyTable._stored

    def complete_meanwhile(self: Any, *args: Any) -> Any:
        found = stored(self, *args)
        table.complete(key, life_seconds=3600)
        return found

    monkeypatch.setattr(IdempotencyTable, "_stored", complete_meanwhile)
    claimed = IdempotencyTable(runtime.settings).claim(
        key, life_seconds=3600, run_ends=time.time() + 60, lineage=(message["MessageId"],)
    )
    assert claimed.claim is Claim.COMPLETED


class TestTwoMessagesOfOneRecord:
    """They take turns with the record, and must not have an attempt left for ever."""

    def drain(self, runtime: Any, most: int) -> None:
        for _ in range(most):
            depth = runtime.stack.depth()
            if not depth:
                return
            runtime.hand_over(runtime.receive(depth))
        raise AssertionError(f"{runtime.stack.depth()} messages still circle.")

    @pytest.mark.parametrize("own_key", [False, True])
    def test_both_come_to_an_end(self, make_runtime, own_key):
        runtime = make_runtime(lambda_max_receive_count=3)
        ran = []
        options = {"idempotency_key": lambda order: order} if own_key else {}

        @runtime.task(**options)
        def send(order):
            ran.append(order)
            raise ValueError("451")

        send.delay(1)
        (first,) = runtime.receive()
        if own_key:
            send.delay(1)
        else:
            runtime.send_copy(first)
        runtime.sqs.change_message_visibility(
            QueueUrl=runtime.settings.queue_url, ReceiptHandle=first["ReceiptHandle"],
            VisibilityTimeout=0,
        )  # fmt: skip
        self.drain(runtime, 12)
        assert len(ran) < 10
        assert len(runtime.stack.dead_letters()) == 2

    def test_a_copy_does_not_have_the_record_of_one_that_ran_forgotten(self, runtime):
        ran = []

        @runtime.task
        def send():
            ran.append(1)

        send.delay()
        (message,) = runtime.receive()
        lose(runtime, message)
        IdempotencyTable(runtime.settings).complete(
            key_of(runtime, message), life_seconds=3600, ending=Ending.UNFINISHED
        )
        copy = redriven(message)

        assert runtime.invoke([copy]).all_returned
        assert runtime.invoke([received(copy, 5)]).all_deleted  # parked
        assert runtime.invoke([received(message, 2)]).all_deleted  # parked, and it is forgotten
        assert ran == []
        assert len(runtime.stack.dead_letters()) == 2
