"""Failed tasks are sent back, sent again and discarded, and run once."""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from lambda_celery import aws
from lambda_celery.exceptions import (
    FailedTaskError,
    PayloadMissingError,
    PublishError,
    UnreadableMessageError,
)
from lambda_celery.failures import FailedTasks, Failure, Failures, Selection, dead_letters
from lambda_celery.failures.dead_letters import Fate
from lambda_celery.failures.sync import MOVED, sync

#: Of the queues that are made for tests.
MAXIMUM_RECEIVES = 5


class Shop:
    """Tasks that fail until they are mended."""

    def __init__(self, runtime: Any) -> None:
        self.runtime = runtime
        self.is_mended = False
        self.ran: list[Any] = []

        @runtime.task(name="shop.send")
        def send(to: str, *, copies: int = 1) -> None:
            self.ran.append((to, copies))
            if not self.is_mended:
                raise ValueError(f"451 {to[:20]}")

        self.send = send
        self.tasks = FailedTasks(runtime.app)

    def fail(self, *calls: str, **kwargs: Any) -> list[Failure]:
        """Have each call fail for good; return the failures in the order of the calls."""
        ids = [self.send.delay(to, **kwargs).id for to in calls]
        self.runtime.deliver(len(calls))
        self.ran.clear()
        found = {each.task_id: each for each in self.tasks.select()}
        return [found[each] for each in ids]

    @property
    def failures(self) -> list[Failure]:
        return list(self.tasks.select(Selection(with_retried=True)))

    @property
    def parked(self) -> int:
        return int(self.runtime.stack.depth(self.runtime.stack.dead_letter_queue_url))


@pytest.fixture
def shop(make_runtime):
    with (made := Shop(make_runtime(lambda_max_receive_count=1))).tasks:
        yield made


class TestRetry:
    def test_it_runs_under_its_id_and_is_no_failure_any_longer(self, shop):
        (failure,) = shop.fail("ann")

        done = shop.tasks.retry(failure)
        assert (done.task_id, done.dead_letter) == (failure.task_id, Fate.DELETED)
        assert shop.parked == 0
        assert [each.retried_at is None for each in shop.failures] == [False]
        assert list(shop.tasks.select()) == []

        shop.is_mended = True
        assert shop.runtime.deliver().all_deleted
        assert shop.ran == [("ann", 1)]
        assert shop.failures == []

    def test_with_a_redrive_of_the_same_message_it_runs_once(self, shop):
        (failure,) = shop.fail("ann")
        (dead,) = shop.runtime.stack.dead_letters()

        shop.tasks.retry(failure)
        shop.runtime.send_copy(dead)  # as the console does it
        shop.is_mended = True
        assert shop.runtime.deliver(2).all_deleted

        assert shop.ran == [("ann", 1)]
        assert shop.failures == []

    def test_it_fails_again(self, shop):
        (failure,) = shop.fail("ann")
        shop.tasks.retry(failure)
        shop.runtime.deliver()

        (again,) = shop.tasks.select()
        assert again.id == failure.id
        assert again.failed_at > failure.failed_at
        assert shop.parked == 1

    def test_the_dead_letter_of_a_failure_that_comes_at_once_stays(self, shop, monkeypatch):
        (failure,) = shop.fail("ann")
        marked = shop.tasks.records.mark_retried

        def fails_before(failure: Failure) -> bool:
            assert shop.runtime.deliver().all_deleted
            return bool(marked(failure))

        monkeypatch.setattr(shop.tasks.records, "mark_retried", fails_before)
        assert shop.tasks.retry(failure).dead_letter is Fate.DELETED

        assert shop.parked == 1
        (again,) = shop.tasks.select()
        assert again.failed_at > failure.failed_at

    @pytest.mark.parametrize("verb", ["retry", "send_again", "discard"])
    def test_what_somebody_has_sent_back_since_is_left_to_him(self, shop, verb):
        (failure,) = shop.fail("ann")
        with FailedTasks(shop.runtime.app) as other:
            other.retry(failure)

        with pytest.raises(FailedTaskError, match="It was sent back at"):
            getattr(shop.tasks, verb)(failure)
        assert shop.runtime.stack.depth() == 1
        assert len(shop.failures) == 1

    def test_others_are_given_back(self, shop):
        failures = shop.fail(*"abcdefghijklmno")
        with FailedTasks(shop.runtime.app) as tasks:
            done = tasks.retry(failures[7])

        assert done.dead_letter is Fate.DELETED
        assert len(shop.runtime.stack.dead_letters()) == 14

    def test_arguments_may_be_changed(self, shop):
        (failure,) = shop.fail("ann", copies=2)
        shop.is_mended = True

        done = shop.tasks.retry(failure, args=["bob"])
        assert shop.failures == []
        (message,) = shop.runtime.receive()
        headers = shop.runtime.envelope(message)["headers"]
        assert (headers["argsrepr"], headers["kwargsrepr"]) == ("('bob',)", "{'copies': 2}")
        assert shop.runtime.hand_over([message]).all_deleted

        assert done.task_id == failure.task_id
        assert shop.ran == [("bob", 2)]

    def test_what_its_call_shows_of_the_arguments_stays(self, shop):
        shop.send.apply_async(("ann",), argsrepr="<hidden>")
        shop.runtime.deliver()
        (failure,) = shop.tasks.select()
        shop.tasks.retry(failure, args=["bob"])

        (message,) = shop.runtime.receive()
        assert shop.runtime.arguments(message) == "<hidden>"

    def test_arguments_must_be_those_of_the_task(self, shop):
        (failure,) = shop.fail("ann")

        with pytest.raises(FailedTaskError, match=r"no arguments of shop\.send: .*unexpected"):
            shop.tasks.retry(failure, kwargs={"copy": 2})
        assert shop.parked == 1
        assert shop.runtime.stack.depth() == 0

    def test_another_queue(self, shop, make_stack):
        other = make_stack()
        (failure,) = shop.fail("ann")

        shop.tasks.retry(failure, queue=other.queue_url)
        assert (other.depth(), shop.runtime.stack.depth()) == (1, 0)

        with pytest.raises(FailedTaskError, match="no Celery queue 'urgnet': name one of celery"):
            shop.tasks.retry(shop.fail("bob")[0], queue="urgnet")

    def test_another_queue_of_the_app(self, make_runtime, stack):
        own = {"lambda_max_receive_count": 1, "lambda_queues": {"slow": stack.queue_url}}
        with (shop := Shop(make_runtime(**own))).tasks:
            (failure,) = shop.fail("ann")
            shop.tasks.retry(failure, queue="slow")
            assert shop.failures == []

            shop.is_mended = True
            (message,) = shop.runtime.receive()
            info = shop.runtime.envelope(message)["properties"]["delivery_info"]
            assert info["routing_key"] == "slow"  # where its retries go
            assert shop.runtime.hand_over([message]).all_deleted
            assert shop.ran == [("ann", 1)]
            assert shop.failures == []

    def test_what_has_expired_is_not_sent_back(self, shop):
        (failure,) = shop.fail("ann")
        envelope = shop.runtime.envelope({"Body": shop.tasks.get(failure.id).body})
        envelope["headers"]["expires"] = "2026-01-01T00:00:00+00:00"
        whole = shop.tasks.get(failure.id)
        shop.tasks.records.put(replace(whole, body=json.dumps(envelope)), 60)

        with pytest.raises(FailedTaskError, match=r"expired at 2026-01-01.*: send it again"):
            shop.tasks.retry(failure)
        assert shop.tasks.send_again(failure).task_id != failure.task_id

    def test_in_the_function_there_is_time_to_give_back_what_was_looked_at(
        self, shop, faults, monkeypatch
    ):
        shop.fail(*"abcdefghijklmnopqrstuvwxyz0123456789")
        gone = replace(shop.failures[0], id="failure#gone")
        clock = itertools.count(step=500)
        monkeypatch.setattr(dead_letters, "time", SimpleNamespace(monotonic=lambda: next(clock)))
        looks = faults.watch(shop.runtime.settings, "sqs", "ReceiveMessage")
        walk = dead_letters.DeadLetters(shop.runtime.settings, gone.dead_letter_queue)
        with aws.ending_at(time.time() + 903):  # each look takes 500 s
            assert walk.find(gone) == []
        assert len(looks) == 2

    def test_what_somebody_else_holds_just_now_is_not_discarded(self, shop):
        (failure,) = shop.fail("ann")
        held = shop.runtime.sqs.receive_message(
            QueueUrl=failure.dead_letter_queue, VisibilityTimeout=60
        )
        assert len(held["Messages"]) == 1
        with pytest.raises(FailedTaskError, match="not among the 5000 messages"):
            shop.tasks.discard(failure)
        assert (shop.failures, shop.parked) == ([failure], 1)

    def test_on_a_fifo_queue_it_stays_in_its_group(self, make_stack, make_runtime):
        stack = make_stack(".fifo")
        names = ("queue_url", "dead_letter_queue_url", "idempotency_table")
        fifo = {f"lambda_{name}": getattr(stack.settings, name) for name in names}
        with (shop := Shop(make_runtime(lambda_max_receive_count=1, **fifo))).tasks:
            shop.send.apply_async(("ann",), MessageGroupId="anns")
            shop.runtime.deliver()
            (failure,) = shop.failures

            assert shop.tasks.retry(failure).dead_letter is Fate.DELETED
            (message,) = shop.runtime.receive()
            assert message["Attributes"]["MessageGroupId"] == "anns"

    def test_a_large_body_comes_from_s3(self, shop):
        (failure,) = shop.fail("ann" * 500_000)
        shop.tasks.retry(failure)
        shop.is_mended = True
        assert shop.runtime.deliver().all_deleted
        assert shop.ran == [("ann" * 500_000, 1)]

    def test_a_body_that_is_gone_from_s3_is_told(self, shop):
        (failure,) = shop.fail("ann" * 500_000)
        bucket = shop.runtime.settings.payload_bucket
        for each in shop.runtime.stack.s3.list_objects_v2(Bucket=bucket)["Contents"]:
            shop.runtime.stack.s3.delete_object(Bucket=bucket, Key=each["Key"])

        with pytest.raises(PayloadMissingError, match="is gone"):
            shop.tasks.retry(failure)
        assert shop.parked == 1
        assert shop.tasks.discard(failure).dead_letter is Fate.DELETED

    def test_what_is_too_large_for_the_table_comes_from_the_dead_letter(self, shop):
        (failure,) = shop.fail("ann" * 120_000)
        assert shop.tasks.get(failure.id).body is None
        shop.tasks.retry(failure)
        shop.is_mended = True
        assert shop.runtime.deliver().all_deleted
        assert shop.ran == [("ann" * 120_000, 1)]

    def test_of_what_is_large_no_more_is_held_than_memory_has_room_for(
        self, shop, faults, monkeypatch
    ):
        monkeypatch.setattr(dead_letters, "_MOST_HELD_BYTES", 500_000)
        shop.fail(*"abcdefghijklmnopqrstuvwxyz")
        large = shop.fail("ann" * 120_000)
        gone = replace(large[0], id="failure#gone")
        looks = faults.watch(shop.runtime.settings, "sqs", "ReceiveMessage")
        walk = dead_letters.DeadLetters(shop.runtime.settings, gone.dead_letter_queue)
        assert walk.find(gone) == []
        assert len(looks) == 3  # the last of them met the large one
        walk.close()

    def test_nothing_is_changed_where_it_cannot_be_sent(self, shop, faults):
        (failure,) = shop.fail("ann")
        faults.fail(shop.runtime.settings, "sqs", "SendMessage", "AccessDenied", status=403)

        with pytest.raises(PublishError, match="allow sqs:SendMessage there"):
            shop.tasks.retry(failure)
        assert shop.parked == 1
        assert [each.retried_at for each in shop.failures] == [None]

    def test_a_dead_letter_that_may_not_be_deleted_is_told(self, shop, faults):
        (failure,) = shop.fail("ann")
        faults.fail(shop.runtime.settings, "sqs", "ReceiveMessage", "AccessDenied", status=403)

        assert "stays where it is: AWS refused sqs:ReceiveMessage" in str(shop.tasks.retry(failure))
        assert (shop.parked, shop.runtime.stack.depth()) == (1, 1)

    def test_a_failure_that_is_none(self, shop):
        with pytest.raises(FailedTaskError, match="no failure failure#0"):
            shop.tasks.get("failure#0")


class TestSendAgain:
    def test_it_is_another_call(self, shop):
        (failure,) = shop.fail("ann")
        done = shop.tasks.send_again(failure)
        assert (done.dead_letter, shop.parked, shop.failures) == (Fate.DELETED, 0, [])

        shop.is_mended = True
        (message,) = shop.runtime.receive()
        headers = shop.runtime.envelope(message)["headers"]
        assert headers["id"] == headers["root_id"] == done.task_id != failure.task_id
        assert shop.runtime.hand_over([message]).all_deleted
        assert shop.ran == [("ann", 1)]

    def test_after_the_call_itself_has_run_it_runs_all_the_same(self, shop):
        (failure,) = shop.fail("ann")
        whole = shop.tasks.get(failure.id)
        shop.is_mended = True
        shop.tasks.retry(failure)
        shop.runtime.deliver()
        shop.tasks.records.put(whole, 60)

        shop.tasks.send_again(failure)
        shop.runtime.deliver()
        assert shop.ran == [("ann", 1)] * 2


class TestDiscard:
    def test_message_and_record_are_gone(self, shop):
        ann, bob = shop.fail("ann", "bob")
        done = shop.tasks.discard(ann)

        assert str(done).endswith("discarded. Its dead letter is deleted.")
        assert shop.failures == [bob]
        assert shop.parked == 1

    def test_without_a_permission_nothing_is_changed(self, shop, faults):
        (failure,) = shop.fail("ann")
        faults.fail(shop.runtime.settings, "sqs", "DeleteMessage", "AccessDenied", status=403)

        with pytest.raises(FailedTaskError, match="allow sqs:DeleteMessage there"):
            shop.tasks.discard(failure)
        assert shop.failures == [failure]


class TestSync:
    def put(self, shop: Shop, body: str, **options: Any) -> None:
        shop.runtime.sqs.send_message(
            QueueUrl=shop.runtime.stack.dead_letter_queue_url, MessageBody=body, **options
        )

    def test_what_is_recorded_stays_as_it_is(self, shop):
        shop.fail("ann")
        before = shop.failures

        assert [(each.looked_at, each.recorded) for each in sync(shop.runtime.app)] == [(1, 0)]
        assert shop.failures == before

    def test_what_is_recorded_just_now_stays_as_it_is(self, shop, monkeypatch):
        (failure,) = shop.fail("ann")
        before = shop.tasks.get(failure.id)
        with monkeypatch.context() as patch:  # as it was when they were asked
            patch.setattr(Failures, "all", lambda self: iter(()))
            patch.setattr(Failures, "get", lambda self, key: None)
            assert sync(shop.runtime.app)[0].recorded == 0
        assert shop.tasks.get(failure.id) == before

    def test_what_sqs_has_moved_is_found_and_can_be_sent_back(self, shop):
        call = shop.send.delay("ann")
        queue_url = shop.runtime.settings.queue_url
        for _ in range(MAXIMUM_RECEIVES):  # each by a process that dies
            (message,) = shop.runtime.receive()
            shop.runtime.sqs.change_message_visibility(
                QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
            )
        assert shop.runtime.sqs.receive_message(QueueUrl=queue_url).get("Messages", []) == []
        assert shop.parked == 1

        (synced,) = sync(shop.runtime.app)
        (failure,) = shop.failures
        assert (synced.looked_at, synced.recorded) == (1, 1)
        assert (failure.task, failure.task_id, failure.reason) == ("shop.send", call.id, MOVED)
        assert failure.queue == shop.runtime.queue_arn
        assert sync(shop.runtime.app)[0].recorded == 0

        shop.tasks.retry(failure)
        shop.is_mended = True
        assert shop.runtime.deliver().all_deleted
        assert shop.ran == [("ann", 1)]
        assert (shop.failures, shop.parked) == ([], 0)

    def test_what_cannot_be_read_is_recorded_with_its_reason(self, shop):
        self.put(shop, "{}")
        self.put(shop, "not a message")
        sync(shop.runtime.app)

        assert sorted(each.reason for each in shop.failures) == [
            "The body is neither base64 nor JSON.",
            "The envelope has no headers.",
        ]

    def test_what_cannot_be_read_is_sent_back_as_it_is(self, shop):
        self.put(shop, "not a message")
        sync(shop.runtime.app)
        (failure,) = shop.failures

        assert shop.tasks.retry(failure).dead_letter is Fate.DELETED
        (message,) = shop.runtime.receive()
        assert message["Body"] == "not a message"
        (failure,) = shop.failures
        with pytest.raises(UnreadableMessageError, match="neither base64 nor JSON"):
            shop.tasks.send_again(failure)

    @pytest.mark.parametrize(
        ("headers", "properties"),
        [
            ({"retries": 10**40}, {}),
            ({"retries": True}, {}),
            ({"task": "\ud800[/]\x1b[2J", "id": 7, "argsrepr": ["x"]}, {}),
            ({"expires": "tomorrow"}, {}),
            ({"expires": 1e300}, {}),
            ({"lambda_schedule": 3}, {}),
            ({"lambda_schedule": {"expires_seconds": "x"}}, {}),
            ({}, []),
            ({}, {"delivery_info": "x"}),
            ({}, {"delivery_info": {"routing_key": ["x"]}}),
        ],
    )
    def test_what_is_hostile_is_recorded_and_can_be_sent_back(self, shop, headers, properties):
        self.put(shop, json.dumps({"body": "", "headers": headers, "properties": properties}))
        assert sync(shop.runtime.app)[0].recorded == 1

        (failure,) = shop.failures
        shop.tasks.retry(failure, queue=shop.runtime.stack.queue_url)
        assert (shop.parked, shop.runtime.stack.depth()) == (0, 1)
        shop.runtime.deliver()
        assert (shop.parked, len(list(shop.tasks.select()))) == (1, 1)

    def test_arguments_are_redacted_as_the_settings_say(self, make_runtime):
        runtime = make_runtime(lambda_redact_arguments=True)
        body = {"body": "", "headers": {"argsrepr": "('secret',)"}, "properties": {}}
        runtime.sqs.send_message(
            QueueUrl=runtime.stack.dead_letter_queue_url, MessageBody=json.dumps(body)
        )
        sync(runtime.app)
        with FailedTasks(runtime.app) as tasks:
            (failure,) = tasks.select()
            assert tasks.get(failure.id).args == "<redacted>"

    def test_without_a_dead_letter_queue(self, make_runtime, faults):
        runtime = make_runtime(lambda_dead_letter_queue_url=None)
        runtime.sqs.set_queue_attributes(
            QueueUrl=runtime.settings.queue_url, Attributes={"RedrivePolicy": ""}
        )
        with pytest.raises(FailedTaskError, match="No queue of the settings has a dead-letter"):
            sync(runtime.app)
