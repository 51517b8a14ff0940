"""Direct calls: what the function is called with, runs, and answers."""

from __future__ import annotations

import json
import time

import pytest
from celery import states
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded, WorkerLostError

from lambda_celery import ConfigurationError
from lambda_celery.direct_calls import (
    InvocationType,
    call_event,
    decoded,
    read_answer,
    record_of,
)
from lambda_celery.exceptions import CallFailedError, MessagesReturnedError
from lambda_celery.publishing.captured import Captured
from lambda_celery.publishing.marks import Running, RunningCall
from lambda_runtime.messages.delivery import Delivery
from lambda_runtime.messages.publication import publication_of
from lambda_runtime.messages.request import read_request
from lambda_runtime.table.claims import IdempotencyTable
from tests.functional.runtime.conftest import Context


@pytest.fixture
def ran():
    return []


class Caller:
    """Calls the handler as Lambda does: with JSON, and back."""

    def __init__(self, runtime):
        self.runtime = runtime

    def event(self, signature, kind=InvocationType.REQUEST_RESPONSE):
        task_id, outgoing = Captured().message_of(signature)
        record = record_of(task_id, outgoing.message)
        return call_event(record, kind, outgoing.queue_url)

    def raw(self, event, seconds=60):
        sent = json.loads(json.dumps(event))
        answer = self.runtime.handler(sent, Context(time.time() + seconds))
        return json.loads(json.dumps(answer))

    def answer(self, event, seconds=60):
        return read_answer(self.raw(event, seconds))

    def call(self, signature, seconds=60):
        return self.answer(self.event(signature), seconds)

    def exception(self, answer):
        written = decoded(answer.result, ["json"])
        return self.runtime.app.backend.exception_to_python(written)


@pytest.fixture
def caller(runtime):
    return Caller(runtime)


def queued(runtime):
    told = runtime.sqs.get_queue_attributes(
        QueueUrl=runtime.settings.queue_url,
        AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed"],
    )
    return sum(map(int, told["Attributes"].values()))


class TestAnswered:
    def test_with_what_the_task_returned(self, runtime, caller, ran):
        @runtime.task(name="add")
        def add(x, y):
            ran.append((x, y))
            return {"sum": x + y}

        answer = caller.call(add.s(2, y=3))
        assert answer.state == states.SUCCESS
        assert decoded(answer.result, ["json"]) == {"sum": 5}
        assert ran == [(2, 3)]
        assert queued(runtime) == 0

    def test_of_a_coroutine(self, runtime, caller):
        @runtime.task(name="twice")
        async def twice(x):
            return 2 * x

        assert decoded(caller.call(twice.s(2)).result, ["json"]) == 4

    def test_with_what_the_task_raised_and_where(self, runtime, caller):
        @runtime.task(name="fail")
        def fail():
            raise KeyError("no such row")

        answer = caller.call(fail.s())
        assert answer.state == states.FAILURE
        exc = caller.exception(answer)
        assert type(exc) is KeyError
        assert exc.args == ("no such row",)
        assert 'raise KeyError("no such row")' in answer.traceback
        assert queued(runtime) == 0

    def test_once_more_without_running_again(self, runtime, caller, ran):
        @runtime.task(name="count")
        def count(fail):
            ran.append(1)
            if fail:
                raise ValueError("bug")
            return len(ran)

        for fail in (False, True):
            ran.clear()
            event = caller.event(count.s(fail))
            first, second = caller.raw(event), caller.raw(event)
            assert first == second
            assert ran == [1]

    def test_with_a_retry_that_its_caller_is_to_call(self, runtime, caller, ran):
        @runtime.task(name="flaky", bind=True, max_retries=3)
        def flaky(self):
            ran.append(self.request.retries)
            if self.request.retries < 2:
                raise self.retry(countdown=7)
            return "done"

        answer = caller.call(flaky.s())
        assert answer.state == states.RETRY
        assert 6 < answer.seconds <= 7
        for _ in range(2):
            answer = caller.answer(call_event(answer.message, InvocationType.REQUEST_RESPONSE, ""))
        assert answer.state == states.SUCCESS
        assert ran == [0, 1, 2]
        assert queued(runtime) == 0

    def test_with_the_failure_when_the_retries_are_used_up(self, runtime, caller):
        @runtime.task(name="always", autoretry_for=(OSError,), max_retries=1)
        def always():
            raise OSError("down")

        answer = caller.call(always.s())
        answer = caller.answer(call_event(answer.message, InvocationType.REQUEST_RESPONSE, ""))
        assert isinstance(caller.exception(answer), OSError)

    def test_that_another_run_of_it_goes_on(self, runtime, caller):
        @runtime.task(name="nested")
        def nested():
            return read_answer(caller.raw(event)).state

        event = caller.event(nested.s())
        assert decoded(caller.answer(event).result, ["json"]) == states.STARTED

    def test_that_there_is_no_time_for_it(self, runtime, caller, no_time, ran):
        @runtime.task(name="add")
        def add():
            ran.append(1)

        event = caller.event(add.s())
        with no_time():
            answer = caller.answer(event)
        assert answer.state == states.PENDING
        assert ran == []
        assert caller.answer(event).state == states.SUCCESS

    @pytest.mark.parametrize("raised", [Ignore(), Reject("no", requeue=False)])
    def test_with_what_celery_has_other_words_for(self, runtime, caller, raised):
        @runtime.task(name="wish")
        def wish():
            raise raised

        answer = caller.call(wish.s())
        if isinstance(raised, Ignore):
            assert answer.state == states.IGNORED
        else:
            assert isinstance(caller.exception(answer), Reject)

    def test_that_it_has_expired(self, runtime, caller, ran):
        @runtime.task(name="add")
        def add():
            ran.append(1)

        event = caller.event(add.s().set(expires=0.001))
        time.sleep(0.01)  # its end is a time, and nothing tells of it
        assert caller.answer(event).state == states.REVOKED
        assert ran == []

    def test_that_its_task_is_not_registered(self, runtime, caller, caplog):
        @runtime.task(name="gone")
        def gone():
            return 1

        event = caller.event(gone.s())
        del runtime.app.tasks["gone"]
        answer = caller.answer(event)
        assert answer.state == states.REJECTED
        assert "'gone' is not registered" in answer.reason
        assert "cannot be run" in caplog.text
        assert "parked" not in caplog.text

    def test_that_it_was_cut_off(self, runtime, caller):
        @runtime.task(name="slow")
        def slow():
            while True:
                time.sleep(0.01)

        answer = caller.call(slow.s(), seconds=1.5)
        assert isinstance(caller.exception(answer), SoftTimeLimitExceeded)

    def test_that_what_it_returned_cannot_be_written(self, runtime, caller, ran):
        @runtime.task(name="odd", ignore_result=True)
        def odd():
            ran.append(1)
            return object()

        event = caller.event(odd.s())
        answer = caller.answer(event)
        assert answer.state == states.FAILURE
        assert "cannot be written" in str(caller.exception(answer))
        assert caller.answer(event) == answer
        assert ran == [1]

    def test_by_the_bucket_if_it_is_big(self, runtime, caller, ran):
        @runtime.task(name="big", ignore_result=True)
        def big():
            ran.append(1)
            return "x" * 7_000_000

        event = caller.event(big.s())
        answer = caller.answer(event)
        assert answer.pointer
        assert caller.answer(event) == answer
        assert ran == [1]

    def test_that_it_is_too_big_without_a_bucket(self, make_runtime, ran):
        runtime = make_runtime(lambda_payload_bucket=None)
        caller = Caller(runtime)

        @runtime.task(name="big", ignore_result=True)
        def big(size):
            ran.append(1)
            return "x" * size

        answer = caller.call(big.s(7_000_000))
        assert answer.state == states.FAILURE
        assert "lambda_payload_bucket" in answer.reason
        event = caller.event(big.s(1_000_000))
        assert caller.answer(event).state == states.SUCCESS
        assert "not kept" in caller.answer(event).reason
        assert ran == [1, 1]

    @pytest.mark.parametrize("may_run_again", [True, False])
    def test_when_its_process_was_lost(self, runtime, caller, ran, may_run_again):
        @runtime.task(name="lost", reject_on_worker_lost=None if may_run_again else False)
        def lost():
            ran.append(1)

        event = caller.event(lost.s())
        delivery = Delivery.from_record(event["message"])
        request = read_request(runtime.app, runtime.settings, delivery, delivery.body, "host")
        key = publication_of(request).key
        IdempotencyTable(runtime.settings).claim(key, life_seconds=3600, run_ends=time.time() - 60)
        answer = caller.answer(event)
        if may_run_again:
            assert answer.state == states.SUCCESS
            assert ran == [1]
        else:
            assert isinstance(caller.exception(answer), WorkerLostError)
            assert ran == []


class TestWithoutDynamoDB:
    @pytest.fixture
    def add(self, runtime, ran):
        @runtime.task(name="add")
        def add(x, y):
            ran.append(1)
            return x + y

        return add

    def test_before_the_run_it_is_to_be_asked_again(self, runtime, caller, add, ran, faults):
        event = caller.event(add.s(2, 3))
        heal = faults.fail(runtime.settings, "dynamodb", "PutItem", "InternalError", status=500)
        assert caller.answer(event).state == states.PENDING
        heal()
        assert caller.answer(event).state == states.SUCCESS
        assert ran == [1]

    def test_after_the_run_it_is_answered(self, runtime, caller, add, ran, faults):
        faults.fail(runtime.settings, "dynamodb", "UpdateItem", "InternalError", status=500)
        assert decoded(caller.call(add.s(2, 3)).result, ["json"]) == 5
        assert ran == [1]

    def test_without_a_permission_its_caller_is_told(self, runtime, caller, add, ran, faults):
        faults.fail(runtime.settings, "dynamodb", "PutItem", "AccessDeniedException")
        answer = caller.call(add.s(2, 3))
        assert answer.state == states.REJECTED
        assert "allow dynamodb:PutItem" in answer.reason
        assert ran == []


class TestByATaskThatRunsAgain:
    """Its second run makes the same calls, under other ids."""

    def called_twice(self, runtime, caller, signature):
        answers = []
        for _ in range(2):
            with Running(RunningCall("the parent", "the mark of the parent")):
                event = caller.event(signature)
            answers.append(caller.answer(event))
        return answers

    def test_what_has_succeeded_is_answered_and_not_run_again(self, runtime, caller, ran):
        @runtime.task(name="add")
        def add(x, y):
            ran.append(1)
            return x + y

        for answer in self.called_twice(runtime, caller, add.s(2, 3)):
            assert decoded(answer.result, ["json"]) == 5
        assert ran == [1]

    def test_what_has_failed_runs_again(self, runtime, caller, ran):
        @runtime.task(name="flaky")
        def flaky():
            ran.append(1)
            if len(ran) == 1:
                raise OSError("down")
            return "up"

        failed, succeeded = self.called_twice(runtime, caller, flaky.s())
        assert isinstance(caller.exception(failed), OSError)
        assert decoded(succeeded.result, ["json"]) == "up"


def test_its_links_are_published(runtime, caller, ran):
    @runtime.task(name="add")
    def add(x, y):
        return x + y

    @runtime.task(name="note")
    def note(value):
        ran.append(value)

    caller.call(add.s(1, 2).set(link=note.s()))
    assert runtime.deliver().all_deleted
    assert ran == [3]


class TestByHand:
    def test_returns_what_the_task_returns_if_it_is_asked_to(self, runtime, caller):
        @runtime.task(name="add")
        def add(x, y):
            return x + y

        event = {"task": "add", "args": [2, 3], "invocation_type": "RequestResponse"}
        assert caller.raw(event) == 5

    def test_raises_what_the_task_raises(self, runtime, caller):
        @runtime.task(name="fail")
        def fail():
            raise ValueError("no such row")

        event = {"task": "fail", "invocation_type": "RequestResponse"}
        with pytest.raises(CallFailedError, match=r"FAILURE: .*ValueError.*no such row"):
            caller.raw(event)

    def test_goes_on_by_the_queue_if_nobody_waits(self, runtime, caller, ran):
        @runtime.task(name="flaky")
        def flaky():
            ran.append(1)
            if len(ran) == 1:
                raise OSError("down")

        assert caller.raw({"task": "flaky"}) is None
        assert ran == [1]
        assert runtime.deliver().all_deleted
        assert ran == [1, 1]

    def test_refuses_a_field_that_means_nothing(self, runtime, caller):
        with pytest.raises(ConfigurationError, match="'arg', which means nothing"):
            caller.raw({"task": "add", "arg": [1]})


class TestEvent:
    def test_runs_once_however_often_it_comes(self, runtime, caller, ran):
        @runtime.task(name="add")
        def add(x):
            ran.append(x)

        event = caller.event(add.s(1), InvocationType.EVENT)
        assert caller.raw(event) is None
        assert caller.raw(event) is None
        assert ran == [1]
        assert queued(runtime) == 0

    def test_counts_its_attempts_on_the_queue_from_the_first(self, make_runtime, ran):
        runtime = make_runtime(lambda_max_receive_count=3)

        @runtime.task(name="fail")
        def fail():
            ran.append(1)
            raise OSError("down")

        caller = Caller(runtime)
        caller.raw(caller.event(fail.s(), InvocationType.EVENT))
        runtime.deliver()
        runtime.deliver()
        assert len(ran) == 3
        assert queued(runtime) == 0
        assert len(runtime.stack.dead_letters()) == 1

    def test_is_tried_again_by_lambda_if_its_queue_cannot_be_reached(
        self, runtime, caller, faults, ran
    ):
        @runtime.task(name="fail")
        def fail():
            ran.append(1)
            raise OSError("down")

        event = caller.event(fail.s(), InvocationType.EVENT)
        heal = faults.fail(runtime.settings, "sqs", "SendMessage", "InternalError", status=500)
        with pytest.raises(MessagesReturnedError, match="could not be sent to its queue"):
            caller.raw(event)
        heal()
        caller.raw(event)
        assert ran == [1, 1]
        assert queued(runtime) == 1


def test_one_of_another_version_is_refused(runtime, caller):
    @runtime.task(name="add")
    def add():
        return 1

    event = {**caller.event(add.s()), "lambda_celery_call": 2}
    with pytest.raises(ConfigurationError, match="is of version 2"):
        caller.raw(event)
