"""The queue that a project's tests have: what it takes from a call, and what it makes of it."""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from celery import Celery, Task, chain, current_app, signals
from celery.exceptions import Reject

import lambda_celery
from lambda_celery import aws
from lambda_celery.conf import settings_of
from lambda_celery.exceptions import ConfigurationError, LambdaCeleryError, PublishError
from lambda_celery.testing import LambdaCeleryQueue


@pytest.fixture
def app() -> Celery:
    made = Celery("proj", broker="amqp://guest@127.0.0.1:1//", backend="cache+memory://")
    made.conf.update(lambda_tasks=["*"], broker_transport_options={"max_retries": 1})
    lambda_celery.install(made)
    return made


@pytest.fixture
def queue(app: Celery) -> Iterator[LambdaCeleryQueue]:
    with LambdaCeleryQueue(app) as queue:
        yield queue


@pytest.fixture
def ran() -> list[Any]:
    return []


@pytest.fixture
def note(app: Celery, ran: list[Any]) -> Any:
    @app.task(name="note", shared=False)
    def note(*args: Any, **kwargs: Any) -> Any:
        ran.append((args, kwargs))
        return args[0] if args else None

    return note


def ends(queue: LambdaCeleryQueue) -> list[str | None]:
    return [each.end for each in queue.run()]


class TestEnqueued:
    def test_a_message_tells_what_the_call_was(self, queue, note):
        note.apply_async(((1, "a"),), {"x": {"y": None}}, queue="mail", countdown=70)

        [message] = queue.messages
        assert (message.task, message.args, message.kwargs) == (
            "note",
            [[1, "a"]],
            {"x": {"y": None}},
        )
        assert message.queue == "mail"
        assert message.waits_seconds == pytest.approx(70, abs=5)
        assert queue.assert_enqueued(
            note, args=((1, "a"),), kwargs={"x": {"y": None}}, queue="mail", countdown=70, times=1
        )
        assert queue.assert_enqueued("note", eta=message.eta)

    @pytest.mark.parametrize(
        "other",
        [
            {"args": [2]}, {"kwargs": {"x": 1}}, {"queue": "mail"}, {"countdown": 60},
            {"eta": datetime(2020, 1, 1, tzinfo=UTC)}, {"message_group_id": "a"}, {"times": 2},
        ],
    )  # fmt: skip
    def test_what_is_asserted_is_compared_and_what_is_there_is_shown(self, queue, note, other):
        note.delay(1)

        with pytest.raises(AssertionError) as raised:
            queue.assert_enqueued(note, **other)
        assert "note(1) on queue 'celery'" in str(raised.value)

    def test_a_naive_time_is_utc_as_for_a_worker(self, queue, note):
        eta = datetime.now() + timedelta(hours=1)
        note.apply_async(eta=eta)

        assert queue.assert_enqueued(note, eta=eta).eta == eta.replace(tzinfo=UTC)

    @pytest.mark.parametrize(
        ("task", "sentence"),
        [
            ("elsewhere", r"elsewhere goes to the app's own broker, and not to Lambda: give it"),
            ("nowhere", "There is no task nowhere in the app 'proj'"),
        ],
    )
    def test_of_a_task_that_goes_elsewhere_a_sentence_says_so(self, app, queue, task, sentence):
        @app.task(name="elsewhere", shared=False, lambda_celery=False)
        def elsewhere() -> None: ...

        with pytest.raises(AssertionError, match=sentence):
            queue.assert_enqueued(task)

    def test_what_is_not_to_be_there_is_shown(self, queue, note):
        queue.assert_not_enqueued()
        note.delay(1)
        queue.assert_not_enqueued("other")

        with pytest.raises(AssertionError, match=r"note\(1\)"):
            queue.assert_not_enqueued(note)
        with pytest.raises(AssertionError, match="Something is enqueued"):
            queue.assert_not_enqueued()

    def test_with_eager_on_a_sentence_says_why_nothing_is_enqueued(self, app, queue, note, ran):
        app.conf.task_always_eager = True
        note.delay(1)

        assert ran
        with pytest.raises(AssertionError, match="task_always_eager is on"):
            queue.assert_enqueued(note)
        with pytest.raises(LambdaCeleryError, match="task_always_eager is on"):
            queue.run()

    def test_many_calls_at_once_are_each_there(self, queue, note):
        with lambda_celery.batch():
            for number in range(25):
                note.delay(number)
            queue.assert_not_enqueued(note)
        lambda_celery.delay_many(note, [(number,) for number in range(25, 40)])

        assert sorted(each.args[0] for each in queue.enqueued(note)) == list(range(40))
        assert len(queue.run()) == 40

    def test_a_large_body_is_read_and_run_from_the_bucket(self, queue, note, ran):
        note.delay("x" * 2_000_000)

        [message] = queue.messages
        assert len(message.args[0]) == 2_000_000
        assert "ExtendedPayloadSize" in message.attributes
        assert ends(queue) == ["succeeded"]

    def test_the_settings_of_the_app_are_its_own_again_afterwards(self, app, note):
        before = settings_of(app)
        with LambdaCeleryQueue(app, maximum_delay_seconds=60) as queue:
            assert settings_of(app) is queue.settings
            with pytest.raises(PublishError, match="maximum_delay_seconds"):
                note.apply_async(countdown=61)
        assert settings_of(app) is before
        assert before.queue_url is None

    def test_a_setting_is_read_as_it_is_from_the_configuration(self, app, note):
        url = "https://sqs.us-east-1.amazonaws.com/000000000000/mail"
        with LambdaCeleryQueue(app, queues={"mail": url}, payload_bucket=None) as queue:
            note.apply_async(queue="mail")
            assert queue.messages[0].queue_url == url
            with pytest.raises(PublishError, match="payload_bucket"):
                note.delay("x" * 2_000_000)

    @pytest.mark.parametrize(
        ("chosen", "sentence"),
        [
            ({"CELERY_LAMBDA_QUEUE_URL": "https://a/b"}, r"is neither .* Did you mean queue_url\?"),
            ({"retry_jiter": True}, r"is neither .* Did you mean retry_jitter\?"),
            ({"maximum_delay_seconds": "a day"}, "but must be a whole number"),
            ({"processes": 2}, "processes cannot be chosen for a test"),
        ],
    )
    def test_what_is_no_setting_is_refused_in_a_sentence(self, app, chosen, sentence):
        with pytest.raises(ConfigurationError, match=sentence):
            LambdaCeleryQueue(app, **chosen)

    def test_an_app_that_is_switched_off_is_on(self, app, note):
        app.conf.lambda_enabled = False
        with LambdaCeleryQueue(app) as queue:
            note.delay()
            assert queue.enqueued(note)

    def test_no_test_sees_what_another_one_has_left(self, app, note):
        for _ in range(2):
            with LambdaCeleryQueue(app) as queue:
                assert queue.messages == queue.dead_letters == queue.outcomes == []
                note.apply_async((1,), task_id="the-same")
                queue.deliver_twice()
                queue.fail_delivery(3, ValueError())
                note.delay(2)
                assert ends(queue)[:1] == ["succeeded"]

    def test_other_calls_of_aws_are_told_to_be_missing(self, queue):
        with pytest.raises(LambdaCeleryError, match="sqs:PurgeQueue is not there"):
            aws.client("sqs", queue.settings).purge_queue(QueueUrl=queue.settings.queue_url)
        with pytest.raises(LambdaCeleryError, match="scheduler:ListSchedules is not there"):
            aws.client("scheduler", queue.settings).list_schedules()

    def test_a_projects_own_clients_are_left_alone(self, queue):
        mine = boto3.client(
            "sqs", region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b"
        )
        stub = Stubber(mine)
        stub.add_response("list_queues", {"QueueUrls": ["mine"]})
        with stub:
            assert mine.list_queues()["QueueUrls"] == ["mine"]


class TestRun:
    def test_what_becomes_of_a_call_is_told(self, app, queue):
        @app.task(name="double", shared=False)
        def double(number: int) -> int:
            return 2 * number

        result = double.delay(4)
        [outcome] = queue.run()

        assert (outcome.end, outcome.fate, outcome.result, outcome.number) == (
            "succeeded", "deleted", 8, 1,
        )  # fmt: skip
        assert outcome.message.args == [4]
        assert outcome.has_run
        assert str(outcome) == "1. double(4) on queue 'celery': succeeded, deleted"
        assert result.get(timeout=1) == 8
        assert queue.outcomes == [outcome]

    def test_in_a_task_waiting_for_another_is_refused_as_on_lambda(self, app, queue, note):
        @app.task(name="waiting", shared=False, max_retries=0)
        def waiting() -> Any:
            return note.delay(1).get(timeout=1)

        waiting.delay()
        [outcome, _] = queue.run()
        assert "Never call result.get() within a task" in str(outcome.exception)

    def test_a_chain_goes_on(self, app, queue, note, ran):
        chain(note.s(1), note.s(2), note.s(3))()

        assert queue.run_once().result == 1
        queue.assert_enqueued(note, args=[1, 2])
        assert ends(queue) == ["succeeded"] * 2
        assert [args for args, _ in ran] == [(1,), (1, 2), (1, 3)]

    def test_an_asynchronous_task_runs(self, app, queue):
        @app.task(
            name="soon", shared=False, autoretry_for=(OSError,), retry_backoff=3, retry_jitter=False
        )
        async def soon(number: int) -> int:
            return number + 1

        soon.delay(1)
        queue.fail_delivery(1, OSError("gone"))
        assert ends(queue) == ["retried"]
        queue.advance()
        [outcome] = queue.run()
        assert (outcome.end, outcome.result) == ("succeeded", 2)

    def test_what_ends_the_test_is_no_failure_of_the_task(self, app, queue):
        @app.task(name="ending", shared=False)
        def ending(how: str) -> None:
            if how == "Ctrl-C":
                raise KeyboardInterrupt
            pytest.fail("as pytest-timeout does")

        for how, raised in (("Ctrl-C", KeyboardInterrupt), ("other", pytest.fail.Exception)):
            ending.delay(how)
            with pytest.raises(raised):
                queue.run()
        queue.advance()
        queue.fail_delivery(1, KeyboardInterrupt)
        assert queue.run_once().end == "retried"

    def test_each_of_a_tests_threads_may_publish_and_run(self, app, queue, note, ran):
        def publish_and_run() -> None:
            for number in range(10):
                note.delay(number)
                queue.run()

        with ThreadPoolExecutor(4) as pool:
            for future in [pool.submit(publish_and_run) for _ in range(4)]:
                future.result()

        assert len(ran) == 40
        assert [each.number for each in queue.outcomes] == list(range(1, 41))
        assert {each.end for each in queue.outcomes} == {"succeeded"}
        assert "run" not in vars(note)

    def test_nothing_due_is_no_error_but_of_run_once(self, queue, note):
        assert queue.run() == []
        note.apply_async(countdown=5)
        with pytest.raises(LambdaCeleryError, match=r"call advance\(\)"):
            queue.run_once()

    def test_a_task_that_calls_itself_ends_somewhere(self, app, queue):
        @app.task(name="again", shared=False)
        def again() -> None:
            again.delay()

        again.delay()
        with pytest.raises(LambdaCeleryError, match="After 20 deliveries"):
            queue.run(limit=20)

    def test_the_order_of_a_message_group_is_kept(self, app, ran):
        @app.task(name="noting", shared=False)
        def noting(text: str) -> None:
            ran.append(text)

        url = "https://sqs.us-east-1.amazonaws.com/000000000000/celery.fifo"
        with LambdaCeleryQueue(app, queue_url=url) as queue:
            for text in ("a1", "b1", "a2"):
                noting.apply_async((text,), MessageGroupId=text[0])
            queue.assert_enqueued(noting, args=["b1"], message_group_id="b")
            queue.fail_delivery(1, ValueError())
            queue.run()
            assert ran == ["b1"]
            queue.advance()
            queue.run()
            assert ran == ["b1", "a1", "a2"]


class TestTime:
    def test_what_is_far_off_hops_and_is_never_early(self, queue, note, ran):
        note.apply_async((1,), countdown=2000)

        for seconds in (899, 900, 199):
            queue.advance(seconds)
            queue.run()
            assert not ran
        queue.advance(3)
        assert ends(queue) == ["succeeded"]

    def test_what_has_expired_is_not_run(self, queue, note, ran):
        note.apply_async((1,), expires=60)
        note.apply_async((2,), expires=datetime.now(UTC) + timedelta(seconds=120))
        queue.advance(61)

        assert ends(queue) == ["expired", "succeeded"]
        assert [args for args, _ in ran] == [(2,)]

    def test_a_rate_limit_is_kept(self, app, queue, ran):
        @app.task(name="slow", shared=False, rate_limit="1/m")
        def slow(number: int) -> None:
            ran.append(number)

        for number in range(3):
            slow.delay(number)
        queue.run()
        assert len(ran) == 1
        queue.advance(61)
        queue.run()
        assert len(ran) == 2
        queue.advance(61)
        queue.run()
        assert len(ran) == 3

    def test_a_key_is_remembered_for_as_long_as_the_task_says(self, app, queue, ran):
        @app.task(
            name="once", shared=False, idempotency_key=lambda order: order,
            idempotency_ttl_seconds=3600,
        )  # fmt: skip
        def once(order: str) -> None:
            ran.append(order)

        once.delay("a")
        once.delay("a")
        assert ends(queue) == ["succeeded", "duplicate"]
        queue.advance(3700)
        once.delay("a")
        assert ends(queue) == ["succeeded"]

    def test_what_is_revoked_is_not_run(self, app, queue, note, ran):
        result = note.apply_async((1,), countdown=100)
        app.control.revoke(result.id)
        queue.advance(101)
        assert ends(queue) == ["revoked"]
        assert not ran

    def test_without_seconds_it_goes_to_what_is_due_next(self, queue, note):
        with pytest.raises(LambdaCeleryError, match="No message waits"):
            queue.advance()
        note.apply_async((1,), countdown=50)
        note.apply_async((2,), countdown=500)
        assert queue.advance() == pytest.approx(51, abs=2)
        assert [each.message.args for each in queue.run()] == [[1]]


class TestWrong:
    def test_a_failure_comes_back_after_its_back_off_and_is_parked_in_the_end(
        self, queue, note, ran
    ):
        note.delay(1)
        for number in range(1, 6):
            queue.fail_delivery(number, ValueError("no"))
        fates = []
        while queue.messages:
            fates += [each.fate for each in queue.run()]
            if queue.messages:
                queue.advance()

        assert fates == ["returned"] * 4 + ["parked"]
        assert not ran
        [letter] = queue.dead_letters
        assert (letter.task, letter.reason, letter.exception) == (
            "note",
            "failed",
            "ValueError: no",
        )
        assert str(letter) == "note(1) on queue 'celery': failed (ValueError: no)"
        assert queue.redrive() == 1
        assert queue.dead_letters == []
        assert ends(queue) == ["succeeded"]

    def test_a_failure_of_the_body_itself_is_told(self, app, queue):
        @app.task(name="wrong", shared=False, max_retries=0)
        def wrong() -> None:
            raise Reject("for good", requeue=False)

        wrong.delay()
        [outcome] = queue.run()
        assert outcome.fate == "parked"
        assert isinstance(outcome.exception, Reject)

    def test_what_comes_twice_is_run_once(self, queue, note, ran):
        queue.deliver_twice()
        note.delay(1)

        [first, second] = queue.run()
        assert (first.end, second.end) == ("succeeded", "duplicate")
        assert first.message.task_id == second.message.task_id
        assert not second.has_run
        assert len(ran) == 1

    def test_a_large_body_that_comes_twice_is_gone_by_then(self, queue, note, ran):
        queue.deliver_twice()
        note.delay("x" * 2_000_000)

        [first, second] = queue.run()
        assert (first.end, second.has_run, second.fate) == ("succeeded", False, "deleted")
        assert second.message == replace(first.message, receive_count=2)
        assert len(ran) == 1

    def test_what_has_been_cannot_be_made_to_fail(self, queue, note):
        note.delay(1)
        queue.run()
        for number in (0, 1):
            with pytest.raises(ValueError, match="the next one is 2"):
                queue.fail_delivery(number, ValueError())
            with pytest.raises(ValueError, match="the next one is 2"):
                queue.kill_delivery(number)

    def test_from_a_common_dead_letter_queue_each_goes_back_where_it_was(self, app, note):
        url = "https://sqs.us-east-1.amazonaws.com/000000000000/"
        queues = {each: url + each for each in ("a", "b")}
        with LambdaCeleryQueue(
            app, queues=queues, dead_letter_queue_url=url + "dead", max_receive_count=1
        ) as queue:
            for number, name in enumerate("ab", 1):
                note.apply_async(queue=name)
                queue.fail_delivery(number, ValueError())
            queue.run()

            assert [each.queue_url for each in queue.dead_letters] == [url + "dead"] * 2
            assert queue.redrive() == 2
            assert [each.queue_url for each in queue.messages] == [url + "a", url + "b"]

    def test_of_a_dead_letter_no_countdown_is_left(self, app, queue):
        @app.task(name="trying", bind=True, shared=False, max_retries=1)
        def trying(self: Any) -> None:
            raise self.retry(countdown=5)

        trying.delay()
        queue.run()
        queue.advance()
        queue.run()

        [letter] = queue.dead_letters
        assert letter.countdown == 0
        assert "countdown" not in str(letter)

    def test_a_killed_process_tells_nobody_and_its_message_comes_again(self, app, queue, ran):
        @app.task(name="calling", shared=False)
        def calling() -> None:
            ran.append("calling")
            app.send_task("note-later", countdown=9)

        calling.delay()
        queue.kill_delivery(1)
        [outcome] = queue.run()
        assert (outcome.fate, outcome.end, outcome.has_run) == ("lost", None, True)
        queue.assert_enqueued("note-later", countdown=9)
        queue.assert_enqueued(calling)

        queue.advance(350)  # its lock has ended, and it is hidden still
        assert [each.message.task for each in queue.run()] == ["note-later"]
        queue.advance(11)
        assert [each.end for each in queue.run() if each.message.task == "calling"] == ["succeeded"]
        assert ran == ["calling"] * 2

    def test_what_a_lost_process_must_not_run_twice_is_parked(self, app, queue, ran):
        @app.task(name="careful", shared=False, reject_on_worker_lost=False, ignore_result=True)
        def careful() -> None:
            ran.append(1)

        careful.delay()
        queue.kill_delivery(1)
        queue.run()
        queue.advance()
        [outcome] = queue.run()
        assert outcome.fate == "parked"
        assert ran == [1]


class TestProcess:
    def test_it_is_no_function_afterwards(self, app, note):
        Celery("other", broker="memory://").set_current()  # and not the one whose queue it is
        handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
        variables = dict(os.environ)
        frozen, protected = gc.get_freeze_count(), Task.__call__
        current, on_resize = current_app._get_current_object(), signal.getsignal(signal.SIGWINCH)
        started: list[Any] = []
        signals.worker_process_init.connect(
            lambda **_: started.append(1), weak=False, dispatch_uid="t"
        )
        try:
            with LambdaCeleryQueue(app) as queue:
                note.delay(1)
                assert started == []
                queue.run()
                assert started == [1]
        finally:
            signals.worker_process_init.disconnect(dispatch_uid="t")
        assert logging.getLogger().handlers == handlers
        assert logging.getLogger().level == level
        assert dict(os.environ) == variables
        assert gc.get_freeze_count() <= frozen
        assert signal.getsignal(signal.SIGWINCH) is on_resize
        assert Task.__call__ is protected
        assert current_app._get_current_object() is current
        assert "run" not in vars(note)
