"""Many messages sent together."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import uuid
from datetime import UTC, datetime
from types import SimpleNamespace
from unittest.mock import Mock, call

import pytest
from celery import Task, chain, group, signals
from celery.exceptions import Retry
from celery.utils.time import maybe_iso8601

import lambda_celery
from lambda_celery import BatchPublishError, aws, batch
from lambda_celery.publishing import bulk_sender as batch_sender


def anything(*args, **kwargs):
    """It is only sent."""


@pytest.fixture
def send(runtime):
    # A shared task is every app's: its name must not meet another test's.
    return lambda_celery.task(name=f"proj.{uuid.uuid4().hex}")(anything)


@pytest.fixture
def requests(runtime, faults):
    """The sizes of the requests, in entries."""
    seen = faults.watch(runtime.settings, "sqs", "SendMessageBatch")
    return lambda: sorted(len(each["Entries"]) for each in seen)


def envelope(message):
    text = json.loads(base64.b64decode(message["Body"]))
    text["body"] = base64.b64decode(text["body"])
    return text


class TestBatch:
    def test_sends_at_its_end_ten_a_request_and_tells_how_far_it_is(self, runtime, send, requests):
        told = []

        with batch(progress=lambda sent, total: told.append((sent, total))):
            for n in range(12):
                send.delay(n)
            group(send.si(n) for n in range(5)).delay()
            send.chunks(((n,) for n in range(4)), 2).apply_async()
            chain(send.si(1), send.si(2)).delay()
            assert runtime.stack.depth() == 0

        assert requests() == [10, 10]
        assert told[-1] == (20, 20)
        assert told == sorted(told)
        assert runtime.deliver(20).all_deleted

    def test_sends_nothing_if_the_block_raises(self, runtime, send):
        with pytest.raises(ZeroDivisionError), batch():
            send.delay()
            raise ZeroDivisionError

        send.delay()
        assert runtime.stack.depth() == 1

    def test_tells_of_what_it_drops(self, runtime, send):
        dropped, sent = [], []
        with pytest.raises(ZeroDivisionError), batch(on_dropped=dropped.extend):
            sent.append(send.delay("a").id)
            with batch(on_dropped=pytest.fail):
                sent.append(send.delay("b").id)
            raise ZeroDivisionError
        assert dropped == sent
        with batch(on_dropped=pytest.fail):
            send.delay("c")
        assert runtime.stack.depth() == 1

    def test_within_another_is_part_of_it(self, runtime, send, requests):
        with batch():
            send.delay(1)
            with batch():
                send.delay(2)
            with pytest.raises(ZeroDivisionError), batch():
                send.delay("dropped")
                raise ZeroDivisionError
            assert runtime.stack.depth() == 0

        assert requests() == [2]

    def test_has_no_part_in_what_threads_publish(self, runtime, send, requests):
        with batch():
            thread = threading.Thread(target=send.delay)
            thread.start()
            thread.join()
            assert runtime.stack.depth() == 1
        assert requests() == []

    def test_takes_in_what_asyncio_awaits_and_no_other_task(self, runtime, send, requests):
        async def many():
            begun, other_is_done = asyncio.Event(), asyncio.Event()

            async def batched():
                with batch():
                    begun.set()
                    await other_is_done.wait()
                    await send.adelay(1)
                    await send.aapply_async((2,), queue="other")
                    return await asyncio.to_thread(runtime.stack.depth)

            async def other():
                await begun.wait()
                await send.adelay(3)
                other_is_done.set()

            return await asyncio.gather(batched(), other())

        assert asyncio.run(many())[0] == 1
        assert requests() == [2]

    def test_what_outlives_it_is_sent_by_itself(self, runtime, send):
        """An asyncio task has a copy of the block's context."""

        async def many():
            ended = asyncio.Event()

            async def late():
                await ended.wait()
                for n in range(3):
                    send.delay(n)

            with batch():
                task = asyncio.create_task(late())
                await asyncio.sleep(0)
            ended.set()
            await task

        asyncio.run(many())
        assert runtime.stack.depth() == 3

    def test_options_are_those_of_each_call(self, runtime, send, requests):
        headers = {}
        with batch():
            for tenant in "ab":
                headers["tenant"] = tenant
                send.apply_async((1,), headers=headers)
                send.apply_async(kwargs={"n": 1}, headers=headers)
        assert requests() == [4]
        sent = [envelope(each)["headers"]["tenant"] for each in runtime.receive(4)]
        assert sorted(sent) == ["a", "a", "b", "b"]

    @pytest.mark.parametrize("arguments", [{"x": 1}, "z"])
    def test_arguments_that_are_no_list_are_refused_as_by_celery(self, send, arguments):
        with batch():
            send.delay(1)
            with pytest.raises(TypeError):
                send.apply_async(arguments)

    def test_a_class_of_the_project_is_called_as_by_celery(self, runtime):
        class Tenanted(Task):
            def apply_async(self, *args, **options):
                options["kwargs"] = {**options.get("kwargs", {}), "tenant": "a"}
                return super().apply_async(*args, **options)

        send = runtime.app.task(name=f"proj.{uuid.uuid4().hex}", base=Tenanted)(anything)
        with batch():
            send.apply_async(kwargs={"n": 1})
        send.apply_async(kwargs={"n": 1})
        bodies = [json.loads(envelope(each)["body"]) for each in runtime.receive(2)]
        assert [each[1] for each in bodies] == [{"n": 1, "tenant": "a"}] * 2

    def test_a_mock_in_the_place_of_celery_s_method_sees_the_call_as_it_is(
        self, runtime, send, monkeypatch
    ):
        mock = Mock()
        monkeypatch.setattr(Task, "apply_async", mock)
        send.apply_async((1,), queue="q")
        assert mock.call_args == call((1,), queue="q")

    def test_one_request_never_holds_two_queues(self, make_runtime, make_stack, faults):
        other = make_stack()
        runtime = make_runtime(lambda_queues={"bulk": other.queue_url})
        send = runtime.task(anything, name="proj.send")

        with batch():
            for _ in range(2):
                send.delay()
                send.apply_async(queue="bulk")

        assert (runtime.stack.depth(), other.depth()) == (2, 2)

    def test_big_bodies_go_through_s3(self, runtime, send, requests):
        with batch():
            for n in range(3):
                send.delay(n, "x" * 1_000_000)
            send.delay("small")

        assert requests() == [4]
        assert (
            len(
                runtime.stack.s3.list_objects_v2(Bucket=runtime.settings.payload_bucket)["Contents"]
            )
            == 3
        )
        assert runtime.deliver(4).all_deleted

    def test_a_tasks_own_retry_is_not_lost_with_it(self, runtime, send):
        @runtime.task(bind=True)
        def retried(self):
            with batch():
                send.delay("sent as well")
                raise self.retry(countdown=0) if not self.request.retries else Retry()

        retried.delay()
        assert runtime.deliver().all_deleted
        assert runtime.stack.depth() == 2

    def test_a_fifo_queue_keeps_its_order(self, make_stack, make_runtime):
        fifo = make_stack(suffix=".fifo")
        runtime = make_runtime(lambda_queue_url=fifo.queue_url)
        send = runtime.task(anything, name="proj.send")

        with batch():
            for n in range(35):
                send.apply_async((n,), MessageGroupId="a")

        received = []
        while len(received) < 35:
            messages = runtime.receive(5)
            received += [json.loads(envelope(each)["body"])[0][0] for each in messages]
            for each in messages:
                runtime.sqs.delete_message(
                    QueueUrl=fifo.queue_url, ReceiptHandle=each["ReceiptHandle"]
                )
        assert received == list(range(35))


class TestFailures:
    @pytest.fixture(autouse=True)
    def no_waiting(self, monkeypatch):
        monkeypatch.setattr(batch_sender, "time", SimpleNamespace(sleep=lambda seconds: None))

    @pytest.fixture
    def refuse(self, runtime, monkeypatch):
        """Have SQS refuse the entries whose Ids are given, request by request."""
        client = aws.client("sqs", runtime.settings)
        send = client.send_message_batch

        def start(*answers):
            left = iter(answers)

            def send_and_refuse(**parameters):
                answer = send(**parameters)
                failed = next(left, {})
                sent = [each for each in answer["Successful"] if each["Id"] not in failed]
                refused = [{"Id": n, **why} for n, why in failed.items()]
                return {**answer, "Successful": sent, "Failed": refused}

            monkeypatch.setattr(client, "send_message_batch", send_and_refuse)

        return start

    def test_what_fails_for_a_moment_is_sent_again(self, send, requests, refuse):
        refuse({"1": {"SenderFault": False, "Code": "InternalError"}})

        with batch():
            for _ in range(3):
                send.delay()

        assert requests() == [1, 3]

    def test_exactly_those_that_are_not_sent_are_listed(self, send, requests, refuse):
        refuse({"1": {"SenderFault": True, "Code": "InvalidMessageContents", "Message": "No."}})

        with pytest.raises(BatchPublishError, match="InvalidMessageContents") as caught, batch():
            results = [send.delay() for _ in range(3)]

        assert [each.task_id for each in caught.value.failed] == [results[1].id]
        assert caught.value.sent == 2
        assert requests() == [3]

    def test_one_bad_message_does_not_keep_back_its_neighbours(self, runtime, send):
        # botocore refuses the whole request.
        attributes = {"tenant": {"DataType": "Binary", "BinaryValue": b"7", "Unknown": "x"}}

        with pytest.raises(BatchPublishError) as caught, batch():
            send.delay(1)
            bad = send.apply_async((2,), message_attributes=attributes)
            send.delay(3)

        assert [each.task_id for each in caught.value.failed] == [bad.id]
        assert runtime.stack.depth() == 2

    def test_a_refused_request_names_all_its_tasks(self, runtime, send, faults):
        faults.fail(runtime.settings, "sqs", "SendMessageBatch", "AccessDenied", status=403)

        with pytest.raises(BatchPublishError, match="allow sqs:SendMessage ") as caught, batch():
            results = [send.delay() for _ in range(25)]

        assert {each.task_id for each in caught.value.failed} == {each.id for each in results}

    def test_delay_many_stops_taking_from_its_iterable(self, runtime, send, faults):
        faults.fail(runtime.settings, "sqs", "SendMessageBatch", "AccessDenied", status=403)
        endless = iter(lambda: (1,), None)

        with pytest.raises(BatchPublishError) as caught:
            send.delay_many(endless, ids=False)

        assert caught.value.sent == 0


CALLS = [
    (("ann@example.org", 1), {}),
    (("é\"\\\n", None, [1.5, {"a": True}]), {"at": datetime(2026, 1, 2, tzinfo=UTC)}),
    ([], {}),
    (("x" * 3_000,), {"key": "y" * 3_000}),
]  # fmt: skip


class TestMany:
    @pytest.fixture(autouse=True)
    def nobody_listens(self, monkeypatch):
        # A handler that another test has made in this process does.
        monkeypatch.setattr(signals.after_task_publish, "receivers", [])

    @pytest.mark.parametrize("conf", [
        {}, {"lambda_redact_arguments": True}, {"task_ignore_result": True},
        {"broker_transport_options": {"sqs_base64_encoding": False}},
        {"task_compression": "zlib"}, {"task_protocol": 1},
    ])  # fmt: skip
    def test_the_messages_are_those_of_apply_async(self, make_runtime, faults, monkeypatch, conf):
        runtime = make_runtime(**conf)
        send = runtime.task(anything, name="proj.send", time_limit=9)
        batches = faults.watch(runtime.settings, "sqs", "SendMessageBatch")
        options = {"queue": "bulk", "headers": {"x-tenant": "7"}, "MessageGroupId": "fair"}

        built = count_calls(monkeypatch, runtime.app)

        ids = lambda_celery.apply_async_many(send, CALLS, **options)
        assert len(built) == (4 if {"task_compression", "task_protocol"} & conf.keys() else 1)
        with batch():
            singles = [send.apply_async(args, kwargs, **options).id for args, kwargs in CALLS]

        many, single = ([dict(each) for each in request["Entries"]] for request in batches)
        assert [normal(each, i) for each, i in zip(many, ids, strict=True)] == [
            normal(each, i) for each, i in zip(single, singles, strict=True)
        ]
        assert len(set(ids)) == 4

    def test_it_is_filled_in_where_nobody_listens(self, runtime, send, requests, monkeypatch):
        calls = count_calls(monkeypatch, runtime.app)

        ids = send.delay_many((n,) for n in range(25))

        assert (len(ids), requests(), len(calls)) == (25, [5, 10, 10], 1)
        assert runtime.deliver(25).all_deleted

    def test_who_listens_hears_of_each(self, runtime, send):
        heard = []

        def stamp(headers=None, **kwargs):
            heard.append(headers["id"])

        signals.before_task_publish.connect(stamp)
        try:
            ids = send.delay_many((n,) for n in range(3))
        finally:
            signals.before_task_publish.disconnect(stamp)
        assert heard == ids

    def test_a_countdown_counts_from_each_call(self, runtime, send, faults):
        batches = faults.watch(runtime.settings, "sqs", "SendMessageBatch")

        lambda_celery.apply_async_many(send, [((n,), {}) for n in range(3)], countdown=600)

        entries = batches[0]["Entries"]
        bodies = [json.loads(base64.b64decode(each["MessageBody"])) for each in entries]
        etas = [maybe_iso8601(each["headers"]["eta"]) for each in bodies]
        assert etas == sorted(set(etas))
        assert all(590 < each["DelaySeconds"] <= 600 for each in entries)

    def test_a_task_with_its_own_apply_async_keeps_it(self, runtime):
        class Own(Task):
            def apply_async(self, args=None, kwargs=None, **options):
                return super().apply_async((*args, "added"), kwargs, **options)

        send = runtime.task(anything, base=Own, name="proj.own")

        lambda_celery.delay_many(send, [(1,), (2,)])

        bodies = [json.loads(envelope(each)["body"])[0] for each in runtime.receive(2)]
        assert sorted(bodies) == [[1, "added"], [2, "added"]]

    def test_eager_mode_runs_each(self, runtime):
        ran = []

        @runtime.task
        def send(n):
            ran.append(n)

        runtime.app.conf.task_always_eager = True

        lambda_celery.delay_many(send, [(1,), (2,)])

        assert (ran, runtime.stack.depth()) == ([1, 2], 0)

    def test_within_a_batch_it_joins_that(self, runtime, send):
        with pytest.raises(ZeroDivisionError), batch():
            send.delay_many((n,) for n in range(3))
            raise ZeroDivisionError
        assert runtime.stack.depth() == 0

    @pytest.mark.parametrize(("calls", "sentence"), [
        (["ann@example.org"], "give them as a tuple"), ([(1,), 2], "give them as a tuple"),
    ])  # fmt: skip
    def test_arguments_that_are_no_tuple_are_refused(self, send, calls, sentence):
        with pytest.raises(TypeError, match=sentence):
            send.delay_many(calls)

    @pytest.mark.parametrize("calls", [[(1,)], ["ann@example.org"], [None]])
    def test_a_call_that_is_no_pair_is_refused(self, send, calls):
        with pytest.raises(TypeError, match="give each as a pair"):
            send.apply_async_many(calls)

    def test_arguments_that_the_task_does_not_take_are_refused(self, runtime):
        @runtime.task
        def send(one):
            """It is only sent."""

        with pytest.raises(TypeError, match="positional argument"):
            lambda_celery.delay_many(send, [(1,), (1, 2)])
        assert runtime.stack.depth() == 1

    def test_a_task_id_for_all_is_refused(self, send):
        with pytest.raises(TypeError, match="leave it out"):
            send.apply_async_many([((), {})], task_id="one")


def count_calls(monkeypatch, app):
    """Return a list of the messages that Celery builds from now on."""
    calls = []
    build = app.amqp.send_task_message
    monkeypatch.setitem(
        app.amqp.__dict__,
        "send_task_message",
        lambda *args, **kwargs: calls.append(args) or build(*args, **kwargs),
    )
    return calls


def normal(entry, task_id):
    """Return an entry's text without what is random in it."""
    text = entry["MessageBody"]
    text = text if text.startswith("{") else base64.b64decode(text).decode()
    found = json.loads(text)
    tag = found["properties"]["delivery_tag"]
    if found["headers"].get("id") is None:  # protocol 1 has its id in the body
        found["body"] = base64.b64decode(found["body"]).decode().replace(task_id, "ID")
        text = json.dumps(found)
    assert task_id in text
    mark = found["headers"].get("lambda_publication", "MARK")
    text = text.replace(task_id, "ID").replace(tag, "TAG").replace(mark, "MARK")
    return {**entry, "Id": "", "MessageBody": text}
