"""``rate_limit``, kept across all environments by a token bucket in DynamoDB."""

from __future__ import annotations

import itertools

import pytest

from lambda_celery import ConfigurationError, PublishError
from lambda_celery.table.rate_limits import PATIENCE_SECONDS, RateLimiter


class Clock:
    """Stands still, so that what is granted depends on nothing but the bucket."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make_limiter(stack, clock):
    """Make the limiter of one more environment."""
    return lambda: RateLimiter(stack.settings, clock)


class TestBucket:
    def test_environments_share_the_tokens_and_take_them_in_turn(self, make_limiter):
        environments = itertools.cycle([make_limiter(), make_limiter(), make_limiter()])
        turns = [next(environments).turn("send", 2, patience_seconds=2) for _ in range(5)]
        assert [each.granted for each in turns] == [True] * 5
        assert [each.seconds for each in turns] == [0, 0.5, 1, 1.5, 2]

    def test_who_would_wait_for_too_long_comes_back_one_after_the_other(self, make_limiter):
        limiter, other = make_limiter(), make_limiter()
        assert limiter.turn("send", 1, patience_seconds=1).granted
        assert limiter.turn("send", 1, patience_seconds=1).granted

        turns = [each.turn("send", 1, patience_seconds=1) for each in [limiter, other, limiter]]

        assert [each.granted for each in turns] == [False] * 3
        assert [each.seconds for each in turns] == [2, 3, 4]

    def test_who_comes_back_takes_a_token_like_everybody_else(self, make_limiter, clock):
        limiter = make_limiter()
        assert limiter.turn("send", 1, patience_seconds=0).granted
        turn = limiter.turn("send", 1, patience_seconds=0)
        assert not turn.granted

        clock.now += turn.seconds

        assert limiter.turn("send", 1, patience_seconds=0).granted
        assert not make_limiter().turn("send", 1, patience_seconds=0).granted

    def test_unused_tokens_are_not_saved_up(self, make_limiter, clock):
        limiter = make_limiter()
        limiter.turn("send", 1, patience_seconds=0)
        clock.now += 3600
        assert limiter.turn("send", 1, patience_seconds=0).granted
        assert not limiter.turn("send", 1, patience_seconds=0).granted

    def test_a_line_that_is_longer_than_sqs_can_delay_is_spread(self, make_limiter):
        limiter = make_limiter()
        limiter.turn("send", 1 / 600, patience_seconds=0)
        turns = [limiter.turn("send", 1 / 600, patience_seconds=0) for _ in range(4)]
        assert [each.granted for each in turns] == [False] * 4
        assert turns[0].seconds == 600
        assert all(450 <= each.seconds <= 900 for each in turns[2:])

    def test_each_task_has_a_bucket_of_its_own(self, make_limiter):
        limiter = make_limiter()
        assert limiter.turn("send", 1, patience_seconds=0).granted
        assert limiter.turn("other", 1, patience_seconds=0).granted

    def test_its_item_expires(self, make_limiter, stack, clock):
        make_limiter().turn("send", 1, patience_seconds=0)
        (item,) = stack.dynamodb.scan(TableName=stack.settings.idempotency_table)["Items"]
        assert item["id"] == {"S": "rate#send"}
        assert int(item["expiration"]["N"]) > clock.now


def test_a_task_within_its_limit_runs_and_the_next_is_sent_on_without_a_failed_receive(
    runtime, faults
):
    ran = []

    @runtime.task(rate_limit="2/m")
    def send(n):
        ran.append(n)

    sent = faults.watch(runtime.settings, "sqs", "SendMessage")
    for n in range(3):
        send.delay(n)
    del sent[:]

    together = faults.watch(runtime.settings, "sqs", "SendMessageBatch")
    answer = runtime.deliver(3)

    assert answer.all_deleted
    assert len(ran) == 1
    assert sent == []
    (request,) = together
    delays = sorted(each["DelaySeconds"] for each in request["Entries"])
    assert 25 <= delays[0] <= 30
    assert 55 <= delays[1] <= 60


def test_a_task_whose_turn_is_near_waits_for_it_in_the_invocation(runtime):
    ran = []

    @runtime.task(rate_limit=100)
    def send(n):
        ran.append(n)

    for n in range(10):
        send.delay(n)
    assert runtime.deliver(10).all_deleted
    assert sorted(ran) == list(range(10))


def test_the_apps_default_rate_limit_and_annotations_count(make_runtime):
    runtime = make_runtime(
        task_default_rate_limit="1/h", task_annotations={"free": {"rate_limit": 0}}
    )
    ran = []

    @runtime.task(name="limited")
    def limited():
        ran.append("limited")

    @runtime.task(name="free")
    def free():
        ran.append("free")

    for task in (limited, limited, free, free):
        task.delay()
    assert runtime.deliver(4).all_deleted
    assert sorted(ran) == ["free", "free", "limited"]


def test_on_a_fifo_queue_it_waits_in_its_group(make_runtime, make_stack):
    stack = make_stack(suffix=".fifo")
    runtime = make_runtime(lambda_queue_url=stack.queue_url)
    ran = []
    for n in range(2):  # by a producer that does not know the limit
        runtime.app.send_task("send", (n,), MessageGroupId="a")

    @runtime.task(name="send", rate_limit="1/m")
    def send(n):
        ran.append(n)

    answer = runtime.deliver(2)

    assert ran == [0]
    assert answer.failed == [answer.messages[1]["MessageId"]]
    with pytest.raises(PublishError, match="rate_limit"):
        send.delay(2)


def test_a_task_that_fails_has_its_attempts_and_no_more_although_it_is_sent_on(make_runtime):
    runtime = make_runtime(lambda_max_receive_count=2)
    ran = []

    @runtime.task(rate_limit="100/s")
    def send():
        ran.append(1)
        raise ValueError("bug")

    send.delay()
    assert runtime.deliver().all_returned
    (message,) = runtime.receive()
    send.rate_limit = "1/h"  # it is not its turn at its second receive
    RateLimiter(runtime.settings).turn(send.name, 1 / 3600, 0)
    assert runtime.hand_over([message], seconds=3).all_deleted

    assert runtime.stack.depth() == 1
    assert runtime.stack.dead_letters() == []
    send.rate_limit = None
    sent_on = {**message, "MessageId": "another", "MessageAttributes": {}}
    sent_on["MessageAttributes"]["LambdaCelerySentOnFrom"] = {
        "DataType": "String", "StringValue": message["MessageId"],
    }  # fmt: skip
    sent_on["Attributes"] = {**message["Attributes"], "ApproximateReceiveCount": "1"}
    runtime.invoke([sent_on])
    assert len(ran) == 2
    (parked,) = runtime.stack.dead_letters()
    assert "LambdaCelerySentOnFrom" not in parked["MessageAttributes"]


def test_a_limit_that_cannot_be_read_is_refused_when_the_handler_starts(runtime):
    @runtime.task(rate_limit="10/fortnight")
    def send():
        """It is never sent."""

    with pytest.raises(ConfigurationError, match="10/fortnight"):
        assert runtime.handler


def test_dynamodb_out_of_reach_keeps_the_message(runtime, faults):
    ran = []

    @runtime.task(rate_limit=10)
    def send():
        ran.append("ran")

    send.delay()
    undo = faults.fail(runtime.settings, "dynamodb", "UpdateItem", "ThrottlingException")
    assert runtime.deliver().all_returned
    undo()
    assert runtime.deliver().all_deleted
    assert ran == ["ran"]


def test_a_wait_is_never_longer_than_what_is_left(runtime):
    ran = []

    @runtime.task(rate_limit="40/m", time_limit=None)
    def send(n):
        ran.append(n)

    assert PATIENCE_SECONDS > 1.5
    for n in range(2):
        send.delay(n)
    answer = runtime.deliver(2, seconds=1.5)
    assert answer.all_deleted  # the second is sent on: its turn is beyond the invocation's end
    assert len(ran) == 1


def test_a_repeated_delivery_takes_no_turn_from_the_next_task(runtime, faults):
    ran = []

    @runtime.task(rate_limit="1/h")
    def send(n):
        ran.append(n)

    send.delay(0)
    first = runtime.deliver()
    bucket = runtime.stack.dynamodb.get_item(
        TableName=runtime.settings.idempotency_table, Key={"id": {"S": f"rate#{send.name}"}}
    )["Item"]
    for _ in range(3):
        runtime.send_copy(first.messages[0])
    sent = faults.watch(runtime.settings, "sqs", "SendMessage")

    assert runtime.deliver(3).all_deleted
    assert sent == []  # none waits for a turn
    assert ran == [0]
    after = runtime.stack.dynamodb.get_item(
        TableName=runtime.settings.idempotency_table, Key={"id": {"S": f"rate#{send.name}"}}
    )["Item"]
    assert after == bucket
