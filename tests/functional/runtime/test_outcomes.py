"""What becomes of a message: one test, at least, for each row of the table."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from celery import chain, chord, signals
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from celery.result import AsyncResult
from celery.worker import state as worker_state

from lambda_celery import ConfigurationError
from lambda_celery.aws.connections import Connections
from lambda_celery.envelope import read_envelope, read_message
from lambda_celery.failures.record import (
    EXCEPTION_ATTRIBUTE,
    REASON_ATTRIBUTE,
    RECEIVE_COUNT_ATTRIBUTE,
)
from lambda_runtime.deadline import Deadline
from lambda_runtime.messages.delivery import Delivery
from lambda_runtime.messages.publication import publication_of
from lambda_runtime.messages.request import read_request
from lambda_runtime.table.claims import IdempotencyTable


def state(runtime: Any, result: AsyncResult) -> str:
    return str(AsyncResult(result.id, app=runtime.app).state)


@pytest.fixture
def heard() -> Any:
    """Names of Celery's task signals, in the order in which they were sent."""
    names = (
        "task_received", "task_prerun", "task_postrun", "task_success", "task_failure",
        "task_retry", "task_revoked",
    )  # fmt: skip
    order: list[str] = []
    receivers = []
    for name in names:

        def receiver(name: str = name, **kwargs: Any) -> None:
            order.append(name)

        getattr(signals, name).connect(receiver, weak=False)
        receivers.append((getattr(signals, name), receiver))
    yield order
    for signal, receiver in receivers:
        signal.disconnect(receiver)


class TestRanToTheEnd:
    def test_is_deleted_with_its_result_stored(self, runtime, heard):
        @runtime.task
        def add(x, y):
            return x + y

        result = add.delay(1, 2)

        assert runtime.deliver().all_deleted
        assert state(runtime, result) == "SUCCESS"
        assert AsyncResult(result.id, app=runtime.app).result == 3
        assert heard == ["task_received", "task_prerun", "task_success", "task_postrun"]
        (kept,) = runtime.records()
        assert kept["status"] == "COMPLETED"
        # The record outlives the queue (4 days), its dead-letter queue (14) and the queue again.
        assert int(kept["expiration"]) > time.time() + 22 * 86_400

    @pytest.mark.parametrize("concurrency", [1, 2])
    def test_whatever_its_arguments_are_called(self, make_runtime, concurrency):
        runtime = make_runtime(lambda_concurrency=concurrency)
        ran = []

        @runtime.task(name="proj.any", time_limit=60, soft_time_limit=50)
        def send(**kwargs):
            ran.append(kwargs)

        given = dict.fromkeys(["self", "task", "body", "around", "soft_seconds", "directly"], 1)
        runtime.app.send_task("proj.any", kwargs=given)

        assert runtime.deliver().all_deleted
        assert ran == [given]

    def test_a_call_of_the_task_itself_in_its_body_is_no_attempt(self, runtime):
        ran = []

        @runtime.task(bind=True)
        def send(self, n):
            ran.append((n, list(self.request.args)))
            return n and self(n - 1)

        send.delay(2)

        assert runtime.deliver().all_deleted
        assert ran == [(2, [2]), (1, [1]), (0, [0])]

    def test_publishes_callbacks_and_the_chain(self, runtime):
        seen = []

        @runtime.task
        def add(x, y):
            return x + y

        @runtime.task
        def note(value):
            seen.append(value)

        chain(add.s(1, 2), add.s(10)).apply_async(link=note.s())

        assert runtime.deliver().all_deleted
        assert runtime.deliver().all_deleted
        assert runtime.deliver().all_deleted
        assert seen == [13]

    def test_the_state_of_the_worker_is_kept(self, runtime):
        active = []

        @runtime.task(bind=True)
        def send(self, fails):
            active.extend(each.id for each in worker_state.active_requests)
            if fails:
                raise ValueError("451")

        counted = worker_state.total_count[send.name]
        succeeds, fails = send.delay(False), send.delay(True)
        runtime.hand_over(runtime.receive(2))
        assert sorted(active) == sorted([succeeds.id, fails.id])
        assert succeeds.id in worker_state.successful_requests
        assert fails.id not in worker_state.successful_requests
        assert worker_state.total_count[send.name] == counted + 2
        assert not worker_state.active_requests
        assert not worker_state.requests


class TestArrivesAgain:
    def test_after_it_completed_it_is_deleted_and_not_run(self, runtime, heard):
        ran = []

        @runtime.task
        def send(address):
            ran.append(address)

        result = send.delay("ann@example.org")
        first = runtime.deliver()
        runtime.send_copy(first.messages[0])
        runtime.restart()  # another environment

        assert runtime.deliver().all_deleted
        assert ran == ["ann@example.org"]
        assert state(runtime, result) == "SUCCESS"
        assert heard.count("task_prerun") == 1

    def test_within_one_batch_it_is_run_once(self, runtime):
        ran = []

        @runtime.task
        def send(address):
            ran.append(address)

        send.delay("ann@example.org")
        (message,) = runtime.receive()
        runtime.send_copy(message)
        (copy,) = runtime.receive()

        assert runtime.hand_over([message, copy]).all_deleted
        assert ran == ["ann@example.org"]

    def test_after_it_completed_although_its_s3_object_is_deleted(self, runtime):
        ran = []

        @runtime.task
        def send(attachment):
            ran.append(len(attachment))

        send.delay("x" * 2_000_000)
        first = runtime.deliver()
        bucket = runtime.settings.payload_bucket
        assert runtime.stack.s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
        runtime.send_copy(first.messages[0])

        assert runtime.deliver().all_deleted
        assert ran == [2_000_000]
        assert runtime.stack.dead_letters() == []

    def test_while_another_run_is_going_on_it_is_hidden_until_that_ends(self, runtime, faults):
        ran = []

        @runtime.task
        def send(address):
            ran.append(address)

        changes = faults.watch(runtime.settings, "sqs", "ChangeMessageVisibilityBatch")
        send.delay("ann@example.org")
        (message,) = runtime.receive()
        runtime.send_copy(message)
        claims = faults.watch(runtime.settings, "dynamodb", "PutItem")
        runtime.hand_over([message], seconds=300)
        # The other run is where it was before it completed.
        claimed = claims[0]["Item"]
        runtime.stack.dynamodb.put_item(TableName=runtime.settings.idempotency_table, Item=claimed)

        assert runtime.deliver().all_returned
        assert len(ran) == 1
        hidden = changes[-1]["Entries"][0]["VisibilityTimeout"]
        lock_ends_in = int(claimed["in_progress_expiration"]["N"]) / 1000 - time.time()
        assert lock_ends_in < hidden <= lock_ends_in + 10

    def test_several_retries_with_other_arguments_under_one_id_all_run(self, runtime):
        ran = []

        @runtime.task(bind=True, default_retry_delay=0)
        def send_all(self, addresses):
            if len(addresses) == 1:
                ran.extend(addresses)
                return
            for address in addresses:
                self.retry(args=([address],), throw=False)

        send_all.delay(["ann@example.org", "bob@example.org", "cid@example.org"])

        assert runtime.deliver().all_deleted
        assert runtime.deliver(3).all_deleted
        assert sorted(ran) == ["ann@example.org", "bob@example.org", "cid@example.org"]


class TestRetry:
    def test_is_a_new_message_with_the_countdown_as_its_delay(self, runtime, faults, heard):
        @runtime.task(bind=True)
        def send(self):
            raise self.retry(countdown=90)

        sent = faults.watch(runtime.settings, "sqs", "SendMessage")
        result = send.delay()

        assert runtime.deliver().all_deleted
        assert 85 <= sent[-1]["DelaySeconds"] <= 90
        assert state(runtime, result) == "RETRY"
        assert heard == ["task_received", "task_prerun", "task_retry", "task_postrun"]
        assert [each["status"] for each in runtime.records()] == ["COMPLETED"]

    def test_by_autoretry_for_runs_until_it_succeeds(self, runtime):
        runs = []

        @runtime.task(autoretry_for=(ConnectionError,), default_retry_delay=0)
        def send():
            runs.append(1)
            if len(runs) < 3:
                raise ConnectionError("451 try again later")

        result = send.delay()
        for _ in range(3):
            assert runtime.deliver().all_deleted

        assert len(runs) == 3
        assert state(runtime, result) == "SUCCESS"

    def test_with_its_max_retries_used_up_is_parked_at_its_first_receive(self, runtime, heard):
        failed = []

        class Base(runtime.app.Task):
            def on_failure(self, exc, task_id, args, kwargs, einfo):
                failed.append(exc)

        @runtime.task(bind=True, base=Base, max_retries=1, default_retry_delay=0)
        def send(self):
            try:
                raise ConnectionError("451")
            except ConnectionError as exc:
                raise self.retry(exc=exc) from exc

        result = send.delay()
        assert runtime.deliver().all_deleted
        assert runtime.deliver().all_deleted

        (parked,) = runtime.stack.dead_letters()
        assert parked["MessageAttributes"][RECEIVE_COUNT_ATTRIBUTE]["StringValue"] == "1"
        assert "451" in parked["MessageAttributes"][EXCEPTION_ATTRIBUTE]["StringValue"]
        assert state(runtime, result) == "FAILURE"
        assert len(failed) == 1
        assert heard.count("task_failure") == 1

    def test_with_a_limit_in_the_call_is_parked_although_the_task_allows_more(self, runtime):
        @runtime.task(bind=True, max_retries=10)
        def send(self):
            raise self.retry(max_retries=0)

        send.delay()

        assert runtime.deliver().all_deleted
        assert len(runtime.stack.dead_letters()) == 1

    def test_that_cannot_be_published_keeps_the_message(self, runtime, faults):
        @runtime.task(bind=True)
        def send(self):
            raise self.retry(countdown=1)

        result = send.delay()
        (message,) = runtime.receive()
        faults.fail(runtime.settings, "sqs", "SendMessage", "ThrottlingException")

        assert runtime.hand_over([message]).all_returned
        assert state(runtime, result) == "RETRY"
        assert runtime.records() == []


class TestRaised:
    def test_with_attempts_left_logs_the_traceback_at_once(self, runtime, caplog):
        @runtime.task
        def send():
            raise ValueError("no such template")

        send.delay()
        assert runtime.deliver().all_returned
        assert "Traceback" in caplog.text
        assert "no such template" in caplog.text

    def test_with_attempts_left_is_returned_with_back_off(self, make_runtime, faults, heard):
        runtime = make_runtime(lambda_retry_backoff_seconds=40, lambda_retry_jitter=False)
        failed = []

        @runtime.task
        def note(*args):
            failed.append(args)

        @runtime.task
        def send():
            raise ValueError("no such template")

        changes = faults.watch(runtime.settings, "sqs", "ChangeMessageVisibilityBatch")
        result = send.apply_async(link_error=note.s())

        assert runtime.deliver().all_returned
        assert changes[0]["Entries"][0]["VisibilityTimeout"] == 40
        assert state(runtime, result) == "RETRY"
        assert heard == ["task_received", "task_prerun", "task_retry", "task_postrun"]
        assert runtime.records() == []
        assert runtime.stack.dead_letters() == []
        assert failed == []

    def test_is_not_hidden_for_longer_than_sqs_takes(self, make_runtime, faults, monkeypatch):
        """Twelve hours, in which it counts what the run has taken."""
        runtime = make_runtime(
            lambda_retry_backoff_seconds=50_000,
            lambda_retry_backoff_max_seconds=50_000,
            lambda_retry_jitter=False,
        )
        passed = 0.0

        @runtime.task
        def send():
            nonlocal passed
            passed = 5000.0
            raise ValueError("no such template")

        real = Deadline.passed_seconds
        monkeypatch.setattr(Deadline, "passed_seconds", lambda self: real(self) + passed)
        changes = faults.watch(runtime.settings, "sqs", "ChangeMessageVisibilityBatch")
        send.delay()

        assert runtime.deliver(seconds=5400).all_returned
        hidden = changes[0]["Entries"][0]["VisibilityTimeout"]
        assert 37_000 < hidden <= 43_200 - 600 - 5000

    def test_runs_again_and_can_succeed(self, runtime):
        runs = []

        @runtime.task(bind=True)
        def send(self):
            runs.append(self.request.delivery_info["redelivered"])
            if len(runs) == 1:
                raise ValueError("once")

        result = send.delay()
        assert runtime.deliver().all_returned
        assert runtime.deliver().all_deleted
        assert runs == [False, True]
        assert state(runtime, result) == "SUCCESS"

    def test_with_no_attempts_left_is_parked_and_fails_once(self, make_runtime, heard):
        runtime = make_runtime(lambda_max_receive_count=2)
        failed = []

        @runtime.task
        def note(request, exc, traceback):
            failed.append(str(exc))

        @runtime.task
        def send():
            raise ValueError("no such template")

        result = send.apply_async(link_error=note.s())
        assert runtime.deliver().all_returned
        assert runtime.deliver().all_deleted

        (parked,) = runtime.stack.dead_letters()
        attributes = parked["MessageAttributes"]
        assert attributes[REASON_ATTRIBUTE]["StringValue"] == "failed"
        assert attributes[EXCEPTION_ATTRIBUTE]["StringValue"] == "ValueError: no such template"
        assert attributes[RECEIVE_COUNT_ATTRIBUTE]["StringValue"] == "2"
        assert state(runtime, result) == "FAILURE"
        assert heard.count("task_failure") == 1
        assert failed == ["no such template"]
        assert runtime.records() == []

    def test_and_parked_does_not_fail_again_if_its_batch_was_never_answered(
        self, make_runtime, heard
    ):
        """A neighbour killed the process: the original is on the queue still."""
        runtime = make_runtime(lambda_max_receive_count=1)

        @runtime.task
        def send():
            raise ValueError("bug")

        send.delay()
        (message,) = runtime.receive()
        runtime.invoke([message])
        again = {**message, "Attributes": {**message["Attributes"], "ApproximateReceiveCount": "2"}}
        assert runtime.hand_over([again]).all_deleted
        assert heard.count("task_failure") == 1
        assert len(runtime.stack.dead_letters()) == 1

    def test_and_parked_keeps_its_body_in_s3_for_the_redrive(self, make_runtime):
        """Also where the original comes again, since its batch was never answered."""
        runtime = make_runtime(lambda_max_receive_count=1)
        broken, ran = [True], []

        @runtime.task
        def send(attachment):
            if broken:
                raise ValueError("bug")
            ran.append(len(attachment))

        send.delay("x" * 2_000_000)
        (message,) = runtime.receive()
        runtime.invoke([message])
        again = {**message, "Attributes": {**message["Attributes"], "ApproximateReceiveCount": "2"}}
        assert runtime.hand_over([again]).all_deleted
        (parked,) = runtime.stack.dead_letters()
        broken.clear()
        runtime.send_copy(parked)
        assert runtime.deliver().all_deleted
        assert ran == [2_000_000]

    def test_and_parked_runs_again_after_a_redrive(self, make_runtime):
        runtime = make_runtime(lambda_max_receive_count=1)
        broken = [True]

        @runtime.task
        def send():
            if broken:
                raise ValueError("bug")
            return "sent"

        result = send.delay()
        runtime.deliver()
        (parked,) = runtime.stack.dead_letters()
        broken.clear()
        runtime.send_copy(parked)

        assert runtime.deliver().all_deleted
        assert state(runtime, result) == "SUCCESS"

    def test_the_queues_own_settings_win(self, make_runtime, stack, make_stack, faults):
        elsewhere = make_stack().dead_letter_queue_url
        own = {"url": stack.queue_url, "max_receive_count": 2, "retry_backoff_seconds": 40}
        runtime = make_runtime(
            lambda_max_receive_count=9,
            lambda_retry_jitter=False,
            lambda_queues={"mail": own | {"dead_letter_queue_url": elsewhere}},
        )

        @runtime.task
        def send():
            raise ValueError("bug")

        changes = faults.watch(runtime.settings, "sqs", "ChangeMessageVisibilityBatch")
        send.apply_async(queue="mail")
        (message,) = runtime.receive()
        assert runtime.hand_over([message]).all_returned
        assert changes[0]["Entries"][0]["VisibilityTimeout"] == 40

        message["Attributes"]["ApproximateReceiveCount"] = "2"
        assert runtime.hand_over([message]).all_deleted
        assert (stack.depth(elsewhere), stack.depth(stack.dead_letter_queue_url)) == (1, 0)

    def test_reads_the_limit_from_the_queue_where_no_setting_says_it(self, runtime):
        """The stack's redrive policy says 5."""

        @runtime.task
        def send():
            raise ValueError("bug")

        send.delay()
        for _ in range(4):
            assert runtime.deliver().all_returned
        assert runtime.deliver().all_deleted
        assert len(runtime.stack.dead_letters()) == 1

    @pytest.mark.parametrize("option", ["acks_on_failure_or_timeout", "acks_on_failure"])
    def test_with_acks_on_failure_declared_is_deleted(self, runtime, option, heard):
        @runtime.task(**{option: True})
        def send():
            raise ValueError("bug")

        result = send.delay()

        assert runtime.deliver().all_deleted
        assert state(runtime, result) == "FAILURE"
        assert heard.count("task_failure") == 1
        assert runtime.stack.dead_letters() == []
        assert [each["status"] for each in runtime.records()] == ["COMPLETED"]

    @pytest.mark.parametrize(
        "raised", [SystemExit(1), KeyboardInterrupt(), MemoryError("big"), RecursionError("deep")]
    )
    def test_whatever_it_is_the_other_records_are_answered_for(self, runtime, raised):
        ran = []

        @runtime.task
        def send(n):
            if n == 1:
                raise raised
            ran.append(n)

        for n in range(3):
            send.delay(n)
        answer = runtime.deliver(3)

        assert len(answer.failed) == 1
        assert sorted(ran) == [0, 2]

    def test_with_the_wrong_arguments_is_returned(self, runtime):
        @runtime.task(typing=False)
        def send(address):
            raise AssertionError("not reached")

        send.delay()
        assert runtime.deliver().all_returned

    def test_with_an_exception_that_cannot_be_printed_is_parked(self, make_runtime):
        runtime = make_runtime(lambda_max_receive_count=1)

        class UnprintableError(Exception):
            def __str__(self):
                raise RuntimeError("no")

        @runtime.task
        def send():
            raise UnprintableError

        send.delay()
        assert runtime.deliver().all_deleted
        (parked,) = runtime.stack.dead_letters()
        text = parked["MessageAttributes"][EXCEPTION_ATTRIBUTE]["StringValue"]
        assert "Unprintable" in text

    def test_after_it_published_its_own_retry_is_not_returned_as_well(self, runtime):
        runs = []

        @runtime.task(bind=True, default_retry_delay=0)
        def send(self):
            runs.append(self.request.retries)
            if self.request.retries == 0:
                self.retry(throw=False)
                raise ValueError("bug")

        send.delay()
        assert runtime.deliver().all_deleted
        assert runtime.deliver().all_deleted
        assert runs == [0, 1]
        assert runtime.stack.depth() == 0


class TestAfterTheBody:
    """The mail is out. Whatever fails now must not send a second one."""

    def test_a_chain_that_cannot_be_published_is_parked_and_not_run_again(self, runtime):
        ran = []

        @runtime.task
        def send():
            ran.append(1)
            return "sent"

        @runtime.task
        def takes_nothing():
            raise AssertionError("not reached")

        result = chain(send.s(), takes_nothing.s()).apply_async()
        assert runtime.deliver().all_deleted
        assert ran == [1]
        (parked,) = runtime.stack.dead_letters()
        assert "ran to its end" in parked["MessageAttributes"][REASON_ATTRIBUTE]["StringValue"]
        assert state(runtime, result.parent) == "FAILURE"

    def test_it_is_not_run_again_although_it_cannot_be_parked_either(self, runtime, faults):
        # Given: a task whose link cannot be published, and whose dead letter cannot be sent
        ran = []

        @runtime.task
        def send():
            ran.append(1)

        @runtime.task
        def report(sent):
            raise AssertionError("not reached")

        send.apply_async(link=report.s())
        (message,) = runtime.receive()
        mend = faults.fail(runtime.settings, "sqs", "SendMessage", "InternalError", status=500)

        # When: it comes again and again
        for _ in range(2):
            assert runtime.hand_over([message]).failed

        # Then: it has run once, and is parked as soon as that can be done
        mend()
        assert runtime.hand_over([message]).all_deleted
        assert ran == [1]
        (parked,) = runtime.stack.dead_letters()
        assert "ran to its end" in parked["MessageAttributes"][REASON_ATTRIBUTE]["StringValue"]

        # And: a person who sends it back wants it to run
        runtime.stack.send(parked["Body"])
        runtime.deliver()
        assert ran == [1, 1]

    def test_a_result_that_cannot_be_stored_is_a_failure_without_a_second_run(self, runtime):
        ran = []

        @runtime.task
        def send():
            ran.append(1)
            return object()

        result = send.delay()
        assert runtime.deliver().all_deleted
        assert ran == [1]
        assert runtime.stack.dead_letters() == []
        assert state(runtime, result) == "FAILURE"

    def test_a_part_of_a_chord_that_cannot_be_stored_is_parked(self, runtime, heard):
        """Its chord would wait for ever, and nobody would know why."""

        @runtime.task
        def send():
            return object()

        @runtime.task
        def report(results):
            raise AssertionError("not reached")

        chord([send.s(), send.s()], report.si([]))()
        assert runtime.deliver(2).all_deleted
        parked, _ = runtime.stack.dead_letters()
        reason = parked["MessageAttributes"]["LambdaCeleryReason"]["StringValue"]
        assert reason == "ran to its end, but what follows it failed"

    def test_an_error_of_any_kind_in_our_own_bookkeeping(self, runtime, monkeypatch):
        ran = []

        @runtime.task
        def send():
            ran.append(1)

        def refuse(*args: Any, **kwargs: Any) -> None:
            raise RuntimeError("a bug of ours")

        monkeypatch.setattr(IdempotencyTable, "complete", refuse)
        send.delay()
        assert runtime.deliver().all_deleted
        assert ran == [1]


class TestHooks:
    def test_a_task_called_before_the_body_does_not_take_its_place(self, runtime):
        @runtime.task
        def other():
            return "called directly"

        class Base(runtime.app.Task):
            def before_start(self, task_id, args, kwargs):
                assert other() == "called directly"

        @runtime.task(base=Base, soft_time_limit=0.2)
        def send():
            time.sleep(30)

        other.delay()
        assert runtime.deliver().all_deleted
        send.delay()
        assert runtime.deliver().all_returned

    def test_replace_by_itself_runs_again(self, runtime):
        runs = []

        @runtime.task(bind=True)
        def poll(self, order):
            runs.append(self.request.replaced_task_nesting)
            if len(runs) < 3:
                raise self.replace(self.si(order))

        poll.delay(5)
        for _ in range(3):
            assert runtime.deliver().all_deleted
        assert runs == [0, 1, 2]

    def test_waiting_for_another_tasks_result_is_refused_as_in_a_worker(self, runtime):
        @runtime.task
        def other():
            """Never run here."""

        @runtime.task
        def send():
            return other.delay().get(timeout=30)

        result = send.delay()
        assert runtime.deliver().all_returned
        assert "Never call result.get()" in repr(AsyncResult(result.id, app=runtime.app).result)

    def test_reject_from_a_hook_after_the_body(self, runtime):
        class Base(runtime.app.Task):
            def on_success(self, *args):
                raise Reject("never", requeue=False)

        @runtime.task(base=Base)
        def send():
            return "sent"

        send.delay()
        assert runtime.deliver().all_deleted
        assert len(runtime.stack.dead_letters()) == 1

    def test_tools_that_put_their_own_tracer_into_celery_are_used(self, runtime, monkeypatch):
        from celery.app import trace

        built = []
        original = trace.build_tracer

        def build_tracer(name: str, *args: Any, **kwargs: Any) -> Any:
            built.append(name)
            return original(name, *args, **kwargs)

        monkeypatch.setattr(trace, "build_tracer", build_tracer)

        @runtime.task
        def send():
            """Anything."""

        send.delay()
        assert runtime.deliver().all_deleted
        assert built == [send.name]


class TestIgnoreAndReject:
    def test_ignore_is_deleted(self, runtime):
        @runtime.task
        def send():
            raise Ignore

        result = send.delay()
        assert runtime.deliver().all_deleted
        assert state(runtime, result) == "PENDING"
        assert [each["status"] for each in runtime.records()] == ["COMPLETED"]

    def test_reject_to_be_requeued_is_returned(self, runtime):
        @runtime.task
        def send():
            raise Reject("not now", requeue=True)

        send.delay()
        assert runtime.deliver().all_returned
        assert runtime.records() == []

    def test_reject_is_parked(self, runtime, heard):
        @runtime.task
        def send():
            raise Reject("never", requeue=False)

        result = send.delay()
        assert runtime.deliver().all_deleted
        (parked,) = runtime.stack.dead_letters()
        assert parked["MessageAttributes"][REASON_ATTRIBUTE]["StringValue"] == "rejected"
        assert state(runtime, result) == "FAILURE"
        assert heard.count("task_failure") == 1
        assert runtime.records() == []


class TestTime:
    def test_expired_is_deleted_and_revoked(self, runtime, heard):
        ran = []

        @runtime.task
        def send():
            ran.append(1)

        result = send.apply_async(expires=datetime.now(UTC) - timedelta(seconds=5))
        assert runtime.deliver().all_deleted
        assert ran == []
        assert state(runtime, result) == "REVOKED"
        assert "task_revoked" in heard
        assert runtime.records() == []

    def test_an_expired_copy_of_what_has_run_is_not_revoked(self, runtime, heard):
        @runtime.task
        def send():
            return "sent"

        result = send.apply_async(expires=3600)
        (message,) = runtime.receive()
        assert runtime.hand_over([message]).all_deleted
        envelope = runtime.envelope(message)
        envelope["headers"]["expires"] = (datetime.now(UTC) - timedelta(seconds=5)).isoformat()
        body = base64.b64encode(json.dumps(envelope).encode()).decode()
        runtime.send_copy({**message, "Body": body})
        assert runtime.deliver().all_deleted
        assert state(runtime, result) == "SUCCESS"
        assert "task_revoked" not in heard

    def test_eta_ahead_hops_with_the_remaining_delay_and_the_same_id(self, runtime, faults):
        @runtime.task
        def send():
            raise AssertionError("not reached")

        sent = faults.watch(runtime.settings, "sqs", "SendMessage")
        send.apply_async(countdown=2000)
        assert sent[0]["DelaySeconds"] == 900
        body = sent[0]["MessageBody"]
        # The first hop's delay is over: here it had none.
        runtime.sqs.send_message(QueueUrl=runtime.settings.queue_url, MessageBody=body)

        assert runtime.deliver().all_deleted
        assert sent[1]["MessageBody"] == body
        assert sent[1]["DelaySeconds"] == 900
        assert runtime.records() == []

    def test_eta_nearer_than_900_seconds_is_one_hop_and_never_early(self, runtime, faults):
        @runtime.task
        def send():
            raise AssertionError("not reached")

        sent = faults.watch(runtime.settings, "sqs", "SendMessage")
        eta = datetime.now(UTC) + timedelta(seconds=100.5)
        send.apply_async(eta=eta)
        now = datetime.now(UTC)
        assert now + timedelta(seconds=sent[0]["DelaySeconds"]) >= eta

    def test_eta_hop_of_a_body_in_s3_keeps_the_object(self, runtime, faults):
        @runtime.task
        def send(attachment):
            raise AssertionError("not reached")

        sent = faults.watch(runtime.settings, "sqs", "SendMessage")
        send.apply_async(("x" * 2_000_000,), countdown=2000)
        runtime.sqs.send_message(**{**sent[0], "DelaySeconds": 0})

        assert runtime.deliver().all_deleted
        assert sent[1] == sent[0]
        bucket = runtime.settings.payload_bucket
        assert runtime.stack.s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1

    @pytest.mark.parametrize("is_old", [True, False])
    def test_a_body_in_s3_that_has_waited_for_a_day_is_stored_anew(
        self, runtime, faults, monkeypatch, is_old
    ):
        """The bucket's lifecycle rule would remove it before its message is due."""
        ran = []

        @runtime.task
        def send(attachment):
            ran.append(len(attachment))

        if is_old:
            monkeypatch.setattr("lambda_celery.payloads._RENEWED_AFTER", timedelta(0))
        copied = faults.watch(runtime.settings, "s3", "CopyObject")
        sent = faults.watch(runtime.settings, "sqs", "SendMessage")
        send.apply_async(("x" * 2_000_000,), countdown=6)
        runtime.sqs.send_message(**{**sent[0], "DelaySeconds": 0})

        assert runtime.deliver().all_deleted
        assert len(copied) == is_old
        assert runtime.deliver().all_deleted
        assert ran == [2_000_000]

    def test_soft_time_limit_is_raised_in_the_task(self, runtime):
        cleaned = []

        @runtime.task(soft_time_limit=0.2)
        def send():
            try:
                time.sleep(30)
            except SoftTimeLimitExceeded:
                cleaned.append(1)
                raise

        result = send.delay()
        assert runtime.deliver().all_returned
        assert cleaned == [1]
        assert state(runtime, result) == "RETRY"

    def test_hard_time_limit_cannot_be_caught_by_except_exception(self, runtime):
        @runtime.task(time_limit=0.2)
        def send():
            try:
                time.sleep(30)
            except Exception:
                return "caught"
            return "slept"

        result = send.delay()
        assert runtime.deliver().all_returned
        assert state(runtime, result) == "RETRY"
        assert "TimeLimitExceeded" in repr(AsyncResult(result.id, app=runtime.app).result)

    def test_limits_of_the_call_win(self, runtime):
        @runtime.task(soft_time_limit=30)
        def send():
            time.sleep(30)

        send.apply_async(soft_time_limit=0.2)
        assert runtime.deliver().all_returned

    def test_no_task_starts_when_the_invocation_runs_short(self, runtime):
        ran = []

        @runtime.task
        def send():
            ran.append(1)

        send.delay()
        assert runtime.deliver(seconds=0).all_returned
        assert ran == []
        assert runtime.records() == []

    def test_what_was_not_run_is_not_spent_at_its_last_receive(
        self, make_runtime, faults, monkeypatch
    ):
        runtime = make_runtime(lambda_max_receive_count=1)
        ran = []

        @runtime.task
        def send():
            ran.append(1)

        send.delay()
        with monkeypatch.context() as patch:
            patch.setattr(Deadline, "seconds_for_tasks", lambda self: 0.0)
            assert runtime.deliver().all_deleted  # sent on, as a new message
        mend = faults.fail(
            runtime.settings, "dynamodb", "PutItem", "InternalServerError", status=500
        )
        assert runtime.deliver().all_deleted  # and again
        mend()
        assert ran == []
        assert runtime.deliver().all_deleted
        assert ran == [1]
        assert runtime.stack.dead_letters() == []
        assert runtime.stack.depth() == 0

    def test_a_task_that_would_outlive_the_invocation_gets_an_exception_before_the_kill(
        self, runtime
    ):
        @runtime.task
        def slow():
            time.sleep(60)

        @runtime.task
        def quick():
            return "ran"

        quick_result, slow_result = quick.delay(), slow.delay()
        messages = runtime.receive(2)
        messages.sort(key=lambda m: slow_result.id in runtime_ids(runtime, m))
        answer = runtime.hand_over(messages, seconds=2)

        assert answer.failed == [messages[1]["MessageId"]]
        assert state(runtime, quick_result) == "SUCCESS"

    def test_cut_off_by_the_invocation_is_no_failure_of_the_task(self, runtime):
        @runtime.task(max_retries=0)
        def slow():
            time.sleep(60)

        result = slow.delay()
        # What is kept of it is for storing the state, on a busy machine too.
        assert runtime.deliver(seconds=4).all_returned
        assert state(runtime, result) == "RETRY"
        assert runtime.stack.dead_letters() == []

    @pytest.mark.parametrize("attempts", [1, 2])
    def test_a_task_that_swallows_its_limit_does_not_take_its_neighbours_along(
        self, make_runtime, attempts
    ):
        runtime = make_runtime(lambda_max_receive_count=attempts)

        @runtime.task
        def stubborn():
            with contextlib.suppress(SoftTimeLimitExceeded):
                time.sleep(60)
            time.sleep(60)

        @runtime.task
        def quick():
            return "ran"

        stubborn_result, quick_result = stubborn.delay(), quick.delay()
        messages = runtime.receive(2)
        messages.sort(key=lambda m: stubborn_result.id in runtime_ids(runtime, m))
        answer = runtime.hand_over(messages, seconds=3)

        comes_back = attempts > 1
        assert answer.failed == ([messages[1]["MessageId"]] if comes_back else [])
        assert len(runtime.stack.dead_letters()) == (not comes_back)
        assert state(runtime, quick_result) == "SUCCESS"

    def test_no_task_starts_that_is_known_to_take_longer_than_what_is_left(self, runtime, faults):
        ran = []

        @runtime.task
        def send(n):
            ran.append(n)
            time.sleep(0.7)

        changes = faults.watch(runtime.settings, "sqs", "ChangeMessageVisibilityBatch")
        for n in range(2):
            send.delay(n)
        messages = runtime.receive(2)
        answer = runtime.hand_over(messages, seconds=1.6)
        assert [each["VisibilityTimeout"] for each in changes[0]["Entries"]] == [0]
        assert answer.failed == [messages[1]["MessageId"]]
        assert len(ran) == 1


def runtime_ids(runtime: Any, message: dict[str, Any]) -> str:
    read = read_message(read_envelope(message["Body"]), runtime.app.conf.accept_content, {})
    return str(read.headers["id"])


class TestCannotBeRun:
    def test_a_task_that_is_not_registered_is_returned_then_parked(self, make_runtime):
        runtime = make_runtime(lambda_max_receive_count=2)
        runtime.app.send_task("proj.of_the_next_release")

        assert runtime.deliver().all_returned
        assert runtime.deliver().all_deleted
        (parked,) = runtime.stack.dead_letters()
        reason = parked["MessageAttributes"][REASON_ATTRIBUTE]["StringValue"]
        assert "proj.of_the_next_release" in reason
        assert "not registered" in reason
        assert runtime.records() == []

    @pytest.mark.parametrize(
        "body",
        [
            "rubbish",
            "{}",
            "[]",
            "e30=",
            "null",
            '{"properties": {}, "body": "?", "headers": {}}',
            '{"properties": {}, "body": "[]", "headers": [1]}',
            '{"properties": {"delivery_info": 5}, "body": "[]", "headers": {}}',
            '{"properties": {}, "body": "[[], {}, [1]]", "content-type": "application/json",'
            ' "content-encoding": "utf-8", "headers": {"task": "celery.accumulate", "id": "1"}}',
            '{"properties": {}, "body": "[[], {}, {}]", "content-type": "application/json",'
            ' "content-encoding": "utf-8",'
            ' "headers": {"task": "celery.accumulate", "id": "1", "timelimit": 5}}',
            '{"properties": {}, "body": "[[], {}, {}]", "content-type": "application/json",'
            ' "content-encoding": "utf-8",'
            ' "headers": {"task": "celery.accumulate", "id": "1", "eta": "soon"}}',
        ],
    )
    def test_an_unreadable_body_is_returned_then_parked_with_one_line(
        self, make_runtime, caplog, body
    ):
        runtime = make_runtime(lambda_max_receive_count=2)
        runtime.sqs.send_message(QueueUrl=runtime.settings.queue_url, MessageBody=body)

        assert runtime.deliver().all_returned
        lines = [r.getMessage() for r in caplog.records if "cannot be run" in r.getMessage()]
        assert len(lines) == 1
        caplog.clear()
        assert runtime.deliver().all_deleted
        assert len([r for r in caplog.records if r.levelname == "ERROR"]) == 1
        assert [each["Body"] for each in runtime.stack.dead_letters()] == [body]

    def test_a_content_type_that_is_not_accepted_is_never_decoded(self, make_runtime):
        runtime = make_runtime(lambda_max_receive_count=1)

        @runtime.task(serializer="pickle")
        def send(value):
            raise AssertionError("not reached")

        send.delay(1)
        assert runtime.deliver().all_deleted
        (parked,) = runtime.stack.dead_letters()
        assert "pickle" in parked["MessageAttributes"][REASON_ATTRIBUTE]["StringValue"]

    def test_a_lost_s3_object_is_returned_then_parked(self, make_runtime, caplog):
        runtime = make_runtime(lambda_max_receive_count=2)

        @runtime.task
        def send(attachment):
            raise AssertionError("not reached")

        send.delay("x" * 2_000_000)
        bucket = runtime.settings.payload_bucket
        (found,) = runtime.stack.s3.list_objects_v2(Bucket=bucket)["Contents"]
        runtime.stack.s3.delete_object(Bucket=bucket, Key=found["Key"])

        assert runtime.deliver().all_returned
        assert f"s3://{bucket}/{found['Key']}" in caplog.text
        assert runtime.deliver().all_deleted
        assert len(runtime.stack.dead_letters()) == 1


class TestAWSFails:
    def test_dynamodb_before_the_run_the_message_is_returned(self, runtime, faults):
        ran = []

        @runtime.task
        def send():
            ran.append(1)

        send.delay()
        mend = faults.fail(
            runtime.settings, "dynamodb", "PutItem", "InternalServerError", status=500
        )
        assert runtime.deliver().all_returned
        assert ran == []
        mend()
        assert runtime.deliver().all_deleted
        assert ran == [1]

    def test_a_table_that_does_not_exist_is_named_with_its_setting(self, make_runtime, caplog):
        runtime = make_runtime(lambda_idempotency_table="nowhere")

        @runtime.task
        def send():
            raise AssertionError("not reached")

        send.delay()
        with pytest.raises(ConfigurationError, match=r"does not exist.*lambda_idempotency_table"):
            runtime.deliver()
        assert "does not exist" in caplog.text

    def test_dynamodb_after_the_run_the_message_is_deleted(self, runtime, faults, caplog):
        @runtime.task
        def send():
            return "sent"

        result = send.delay()
        faults.fail(runtime.settings, "dynamodb", "UpdateItem", "InternalServerError", status=500)
        assert runtime.deliver().all_deleted
        assert state(runtime, result) == "SUCCESS"
        assert "dynamodb:UpdateItem" in caplog.text

    @pytest.mark.parametrize("concurrency", [1, 2])
    def test_a_completion_that_is_refused_is_written_before_the_batch_is_through(
        self, make_runtime, faults, monkeypatch, concurrency
    ):
        runtime = make_runtime(lambda_concurrency=concurrency)
        monkeypatch.setattr("lambda_runtime.deadline._PATIENCE_SECONDS", 30)
        ran, mend = [], []

        @runtime.task
        def send(n):
            ran.append(n)

        send.delay(1)
        (message,) = runtime.receive()
        runtime.handler  # noqa: B018 - made before the fault
        for operation in ("UpdateItem", "BatchExecuteStatement"):
            mend.append(faults.fail(runtime.settings, "dynamodb", operation, "ThrottlingException"))
        passed = []

        def sleep(seconds: float) -> None:
            passed.append(seconds)
            if len(passed) == 3:
                for each in mend:
                    each()

        monkeypatch.setattr(
            "lambda_runtime.table.completions.time",
            SimpleNamespace(monotonic=time.monotonic, sleep=sleep),
        )
        runtime.invoke([message])  # and its process died before it had answered

        (record,) = runtime.records()
        assert record["status"] == "COMPLETED"
        assert runtime.invoke([message]).failed == []
        assert ran == [1]

    def test_one_that_stays_refused_does_not_hold_the_answer(self, runtime, faults, caplog):
        @runtime.task
        def send():
            """It is only run."""

        send.delay()
        (message,) = runtime.receive()
        faults.fail(runtime.settings, "dynamodb", "UpdateItem", "ThrottlingException")
        assert runtime.invoke([message], seconds=5).failed == []
        assert "stays out of date" in caplog.text

    def test_so_late_before_the_run_that_the_time_is_short_it_comes_back(
        self, runtime, monkeypatch
    ):
        ran, deadlines = [], []

        @runtime.task(soft_time_limit=5)
        def send():
            ran.append(1)

        def make_deadline(*args: Any) -> Deadline:
            deadlines.append(Deadline(*args))
            return deadlines[-1]

        claim = IdempotencyTable.claim

        def claim_slowly(*args: Any, **kwargs: Any) -> Any:
            found = claim(*args, **kwargs)
            if len(deadlines) == 1:
                deadlines[0].epoch -= 50
            return found

        monkeypatch.setattr("lambda_runtime.invocation.Deadline", make_deadline)
        monkeypatch.setattr(IdempotencyTable, "claim", claim_slowly)
        send.delay()
        assert runtime.deliver().all_returned
        assert ran == []
        assert runtime.records() == []
        assert runtime.deliver().all_deleted
        assert ran == [1]

    def test_a_claim_whose_answer_was_lost_is_still_ours(self, runtime, monkeypatch):
        """DynamoDB wrote the record, the answer got lost, and botocore asks again."""
        ran = []

        @runtime.task
        def send():
            ran.append(1)

        lost = []
        send.delay()
        (message,) = runtime.receive()
        exchange = Connections.exchange

        def exchange_and_lose(self: Connections, request: bytes) -> Any:
            answer = exchange(self, request)
            if not lost and b"INPROGRESS" in request:
                lost.append(1)
                raise ConnectionResetError
            return answer

        monkeypatch.setattr(Connections, "exchange", exchange_and_lose)
        answer = runtime.hand_over([message])
        assert lost == [1]
        assert answer.all_deleted
        assert ran == [1]

    @pytest.mark.parametrize(
        ("service", "operation", "code"),
        [
            ("dynamodb", "PutItem", "ProvisionedThroughputExceededException"),
            ("s3", "GetObject", "SlowDown"),
        ],
    )
    def test_throttled_before_the_run_it_comes_back(
        self, runtime, faults, service, operation, code
    ):
        ran = []

        @runtime.task
        def send(attachment):
            ran.append(1)

        send.delay("x" * 2_000_000)
        (message,) = runtime.receive()
        status = 503 if service == "s3" else 400
        mend = faults.fail(runtime.settings, service, operation, code, status=status)
        assert runtime.hand_over([message]).all_returned
        mend()
        assert runtime.deliver().all_deleted
        assert ran == [1]

    @pytest.mark.parametrize(
        ("service", "operation", "code"),
        [
            ("dynamodb", "UpdateItem", "ProvisionedThroughputExceededException"),
            ("s3", "DeleteObject", "SlowDown"),
        ],
    )
    def test_throttled_after_the_run_it_is_deleted(self, runtime, faults, service, operation, code):
        @runtime.task
        def send(attachment):
            return "sent"

        send.delay("x" * 2_000_000)
        status = 503 if service == "s3" else 400
        faults.fail(runtime.settings, service, operation, code, status=status)
        assert runtime.deliver().all_deleted

    def test_throttled_while_it_changes_visibility_the_answer_stands(self, runtime, faults):
        @runtime.task
        def send():
            raise ValueError("bug")

        send.delay()
        faults.fail(runtime.settings, "sqs", "ChangeMessageVisibilityBatch", "ThrottlingException")
        assert runtime.deliver().all_returned

    def test_throttled_while_it_releases_the_claim_the_message_comes_back(self, runtime, faults):
        @runtime.task
        def send():
            raise ValueError("bug")

        send.delay()
        faults.fail(
            runtime.settings, "dynamodb", "DeleteItem", "ProvisionedThroughputExceededException"
        )
        assert runtime.deliver().all_returned

    def test_throttled_while_it_parks_the_message_stays_on_the_queue(self, make_runtime, faults):
        runtime = make_runtime(lambda_max_receive_count=1)

        @runtime.task
        def send():
            raise ValueError("bug")

        send.delay()
        (message,) = runtime.receive()
        faults.fail(runtime.settings, "sqs", "SendMessage", "ThrottlingException")
        assert runtime.hand_over([message]).all_returned

    def test_throttled_while_it_hops_the_message_stays_on_the_queue(self, runtime, faults):
        @runtime.task
        def send():
            raise AssertionError("not reached")

        sent = faults.watch(runtime.settings, "sqs", "SendMessage")
        send.apply_async(countdown=2000)
        runtime.sqs.send_message(
            QueueUrl=runtime.settings.queue_url, MessageBody=sent[0]["MessageBody"]
        )
        (message,) = runtime.receive()
        faults.fail(runtime.settings, "sqs", "SendMessage", "ThrottlingException")
        assert runtime.hand_over([message]).all_returned

    def test_a_result_back_end_that_is_down_does_not_lead_to_a_second_run(
        self, runtime, monkeypatch
    ):
        ran = []

        @runtime.task
        def send():
            ran.append(1)

        send.delay()
        runtime.handler  # noqa: B018 - made before the fault

        def refuse(*args: Any, **kwargs: Any) -> None:
            raise ConnectionError("the back end is down")

        monkeypatch.setattr(runtime.app.backend, "_set_with_state", refuse)
        monkeypatch.setattr(runtime.app.backend, "max_retries", 0)
        answer = runtime.deliver()

        assert answer.all_deleted
        assert [each["status"] for each in runtime.records()] == ["COMPLETED"]

    def test_a_failure_that_cannot_be_stored_is_still_returned(self, runtime, monkeypatch):
        failed = []

        class Base(runtime.app.Task):
            def on_failure(self, *args):
                failed.append(args)

        @runtime.task(base=Base)
        def send():
            raise ValueError("bug")

        send.delay()
        runtime.handler  # noqa: B018 - made before the fault

        def refuse(*args: Any, **kwargs: Any) -> None:
            raise ConnectionError("the back end is down")

        monkeypatch.setattr(runtime.app.backend, "_set_with_state", refuse)
        assert runtime.deliver().all_returned
        assert failed == []


class TestTheProcessDied:
    """What is left is a claim whose lock has ended; the message comes again."""

    def leave_a_claim(self, runtime: Any, message: dict[str, Any], ended: float) -> None:
        delivery = Delivery.from_record(runtime.event([message])["Records"][0])
        request = read_request(runtime.app, runtime.settings, delivery, delivery.body, "host")
        IdempotencyTable(runtime.settings).claim(
            publication_of(request).key, life_seconds=1000, run_ends=time.time() - ended
        )

    def test_it_is_run_again(self, runtime):
        ran = []

        @runtime.task
        def send():
            ran.append(1)

        send.delay()
        (message,) = runtime.receive()
        self.leave_a_claim(runtime, message, ended=5)
        assert runtime.hand_over([message]).all_deleted
        assert ran == [1]

    def test_and_reject_on_worker_lost_is_false_it_is_parked_and_not_run(self, runtime, heard):
        ran = []

        @runtime.task(reject_on_worker_lost=False)
        def send():
            ran.append(1)

        result = send.delay()
        (message,) = runtime.receive()
        self.leave_a_claim(runtime, message, ended=5)
        assert runtime.hand_over([message]).all_deleted
        assert ran == []
        (parked,) = runtime.stack.dead_letters()
        assert "WorkerLostError" in parked["MessageAttributes"][EXCEPTION_ATTRIBUTE]["StringValue"]
        assert state(runtime, result) == "FAILURE"
        assert heard.count("task_failure") == 1
        assert [each["status"] for each in runtime.records()] == ["INPROGRESS"]

    def test_and_retry_on_worker_lost_is_set_it_is_retried_as_a_new_message(self, runtime):
        ran = []

        @runtime.task(bind=True, retry_on_worker_lost=True, default_retry_delay=0)
        def send(self):
            ran.append(self.request.retries)

        result = send.delay()
        (message,) = runtime.receive()
        self.leave_a_claim(runtime, message, ended=5)
        assert runtime.hand_over([message]).all_deleted
        assert ran == []
        assert state(runtime, result) == "RETRY"
        assert runtime.stack.dead_letters() == []
        assert runtime.deliver().all_deleted
        assert ran == [1]

    def test_after_it_stored_success_it_is_deleted(self, runtime):
        @runtime.task(reject_on_worker_lost=False)
        def send():
            raise AssertionError("not reached")

        result = send.delay()
        (message,) = runtime.receive()
        self.leave_a_claim(runtime, message, ended=5)
        runtime.app.backend.mark_as_done(result.id, "sent")
        assert runtime.hand_over([message]).all_deleted
        assert runtime.stack.dead_letters() == []
        assert state(runtime, result) == "SUCCESS"

    def test_before_its_lock_ended_a_copy_waits_even_with_reject_on_worker_lost_false(
        self, runtime
    ):
        @runtime.task(reject_on_worker_lost=False)
        def send():
            raise AssertionError("not reached")

        send.delay()
        (message,) = runtime.receive()
        self.leave_a_claim(runtime, message, ended=-100)
        assert runtime.hand_over([message]).all_returned
        assert runtime.stack.dead_letters() == []
