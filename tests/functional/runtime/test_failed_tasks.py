"""The list of failed tasks agrees with the dead-letter queue, whatever parks a message."""

from __future__ import annotations

import time
from typing import Any

import pytest
from celery.exceptions import Reject

from lambda_celery.exceptions import ConfigurationError
from lambda_celery.failures import Failure, Failures
from lambda_celery.failures.record import REASON_ATTRIBUTE
from lambda_celery.table.schema import failure_key
from lambda_runtime import decision
from tests.functional.runtime.test_attempts import lose, received


def failures(runtime: Any) -> list[Failure]:
    """Return all that is known of each failed task."""
    store = Failures(runtime.settings)
    found = [store.get(each.id) for each in store.all()]
    assert None not in found
    return [each for each in found if each is not None]


def redrive(runtime: Any) -> None:
    """Move the dead letters to their queue, as SQS's own redrive does."""
    for message in runtime.stack.dead_letters():
        runtime.sqs.send_message(
            QueueUrl=runtime.settings.queue_url,
            MessageBody=message["Body"],
            MessageAttributes=message["MessageAttributes"],
        )
        runtime.sqs.delete_message(
            QueueUrl=runtime.stack.dead_letter_queue_url, ReceiptHandle=message["ReceiptHandle"]
        )


@pytest.fixture
def runtime(make_runtime):
    return make_runtime(lambda_max_receive_count=2)


class TestWhatIsParked:
    def test_what_has_raised(self, runtime):
        @runtime.task
        def send(member, subject=""):
            raise ValueError(f"451 for {member}")

        sent = send.apply_async((7,), {"subject": "Hi"}, argsrepr="(<member>,)")
        (message,) = runtime.receive()
        assert runtime.invoke([message]).all_returned
        assert failures(runtime) == []
        before = time.time()
        assert runtime.hand_over([received(message, 2)]).all_deleted

        (failure,) = failures(runtime)
        assert failure.id == failure_key(message["Body"])
        assert (failure.task, failure.task_id) == (send.name, sent.id)
        assert (failure.reason, failure.exception) == ("failed", "ValueError")
        assert failure.message == "451 for 7"
        assert "in send" in failure.traceback
        assert (failure.args, failure.kwargs) == ("(<member>,)", "{'subject': 'Hi'}")
        assert failure.attempts == 2
        assert failure.queue == runtime.queue_arn
        assert failure.dead_letter_queue == runtime.stack.dead_letter_queue_url
        assert before - 1 <= failure.failed_at.timestamp() <= time.time() + 1
        assert failure.body == message["Body"]
        assert failure.retried_at is None
        assert Failures(runtime.settings).of_task(sent.id)[0].id == failure.id

    def test_it_lives_as_long_as_the_dead_letter(self, runtime):
        @runtime.task
        def send():
            raise Reject(requeue=False)

        runtime.sqs.set_queue_attributes(
            QueueUrl=runtime.stack.dead_letter_queue_url,
            Attributes={"MessageRetentionPeriod": "7200"},
        )
        send.delay()
        before = time.time()
        assert runtime.deliver().all_deleted

        (failure,) = failures(runtime)
        item = runtime.stack.dynamodb.get_item(
            TableName=runtime.settings.idempotency_table, Key={"id": {"S": failure.id}}
        )["Item"]
        assert failure.reason == "rejected"
        assert before + 7200 - 1 <= int(item["expiration"]["N"]) <= time.time() + 7200

    def test_what_was_lost_with_its_process(self, runtime):
        @runtime.task(reject_on_worker_lost=False)
        def send():
            raise AssertionError("it is not run again")

        send.delay()
        (message,) = runtime.receive()
        lose(runtime, message)
        assert runtime.hand_over([received(message, 2)]).all_deleted

        (failure,) = failures(runtime)
        assert (failure.reason, failure.exception) == ("the process was lost", "WorkerLostError")

    def test_what_cannot_be_read(self, runtime):
        runtime.stack.send("no message of Celery's")
        (message,) = runtime.receive()
        assert runtime.hand_over([received(message, 2)]).all_deleted

        (failure,) = failures(runtime)
        assert (failure.task, failure.task_id, failure.exception) == ("", "", "")
        assert failure.reason
        assert failure.body == "no message of Celery's"

    def test_what_is_not_registered(self, runtime, web):
        sent = web.send_task("proj.of_the_next_release", [1])
        (message,) = runtime.receive()
        assert runtime.hand_over([received(message, 2)]).all_deleted

        (failure,) = failures(runtime)
        assert (failure.task, failure.task_id) == ("proj.of_the_next_release", sent.id)

    def test_what_aws_denies(self, runtime, faults):
        @runtime.task
        def send():
            raise AssertionError("it is not run")

        sent = send.delay()
        (message,) = runtime.receive()
        # Its claim; the record itself is put, too.
        mend = faults.fail(runtime.settings, "dynamodb", "GetItem", "AccessDeniedException")
        assert runtime.hand_over([received(message, 2)]).all_deleted
        mend()

        (failure,) = failures(runtime)
        assert "allow dynamodb:GetItem" in failure.reason
        assert (failure.task, failure.task_id) == (send.name, sent.id)

    def test_what_has_run_but_for_what_follows_it(self, runtime):
        @runtime.task
        def send():
            """It succeeds."""

        # Nobody listens at the app's own broker.
        link = runtime.app.signature("elsewhere.note", queue="elsewhere", immutable=True)
        runtime.app.conf.lambda_tasks = [send.name]
        send.apply_async(link=link)
        (message,) = runtime.receive()
        assert runtime.hand_over([message]).all_deleted

        (failure,) = failures(runtime)
        assert failure.reason == "ran to its end, but what follows it failed"
        assert failure.exception

    def test_what_we_have_stumbled_over(self, runtime, monkeypatch):
        def stumble(*args, **kwargs):
            raise RuntimeError("a bug of ours")

        @runtime.task
        def send():
            raise AssertionError("it is not run")

        sent = send.delay()
        (message,) = runtime.receive()
        monkeypatch.setattr(decision, "publication_of", stumble)
        assert runtime.hand_over([received(message, 2)]).all_deleted

        (failure,) = failures(runtime)
        assert (failure.reason, failure.exception) == ("an internal error", "RuntimeError")
        assert failure.task_id == sent.id

    def test_what_runs_in_another_process(self, make_runtime, tmp_path):
        runtime = make_runtime(lambda_max_receive_count=1, lambda_processes=2)

        class UnpicklableError(Exception):
            def __init__(self) -> None:
                super().__init__(open(tmp_path))  # noqa: SIM115

        @runtime.task
        def send():
            raise UnpicklableError

        send.delay()
        assert runtime.deliver().all_deleted

        (failure,) = failures(runtime)
        assert "in send" in failure.traceback

    def test_what_is_too_large_is_in_the_dead_letter_alone(self, runtime):
        @runtime.task
        def send(text):
            raise Reject(requeue=False)

        send.delay("x" * 400_000)
        assert runtime.deliver().all_deleted

        (failure,) = failures(runtime)
        assert failure.body is None
        assert failure.size > 400_000
        assert len(runtime.stack.dead_letters()) == 1


class TestComesBack:
    def test_and_runs_it_is_no_longer_listed(self, runtime):
        broken = [True]

        @runtime.task
        def send():
            if broken:
                raise Reject(requeue=False)

        send.delay()
        assert runtime.deliver().all_deleted
        assert len(failures(runtime)) == 1
        broken.clear()
        redrive(runtime)
        assert runtime.deliver().all_deleted
        assert failures(runtime) == []

    @pytest.mark.parametrize("conf", [{"lambda_concurrency": 4}, {"lambda_processes": 2}])
    def test_also_where_others_run_at_the_same_time(self, make_runtime, tmp_path, conf):
        runtime = make_runtime(**conf)
        mended = tmp_path / "mended"

        @runtime.task
        def send(n):
            if not mended.exists():
                raise Reject(requeue=False)

        for n in range(6):
            send.delay(n)
        assert runtime.deliver(6).all_deleted
        assert len(failures(runtime)) == 6
        mended.touch()
        redrive(runtime)
        for n in range(4):
            send.delay(n)
        assert runtime.deliver(10).all_deleted
        assert failures(runtime) == []

    def test_and_asks_to_be_retried_it_is_another_message(self, runtime):
        broken = [True]

        @runtime.task(bind=True)
        def send(self):
            if broken:
                raise Reject(requeue=False)
            if not self.request.retries:
                raise self.retry(countdown=0)

        send.delay()
        assert runtime.deliver().all_deleted
        broken.clear()
        redrive(runtime)
        assert runtime.deliver().all_deleted
        assert failures(runtime) == []
        (retry,) = runtime.receive()
        assert REASON_ATTRIBUTE not in retry.get("MessageAttributes", {})

    def test_also_after_it_was_sent_on(self, runtime, no_time):
        broken = [True]

        @runtime.task
        def send():
            if broken:
                raise Reject(requeue=False)

        send.delay()
        assert runtime.deliver().all_deleted
        broken.clear()
        redrive(runtime)
        (message,) = runtime.receive()
        with no_time():
            assert runtime.hand_over([received(message, 2)]).all_deleted
        assert len(failures(runtime)) == 1
        assert runtime.deliver().all_deleted
        assert failures(runtime) == []

    def test_and_fails_again_it_is_listed_once(self, runtime):
        @runtime.task
        def send():
            raise Reject(requeue=False)

        send.delay()
        assert runtime.deliver().all_deleted
        (first,) = failures(runtime)
        assert Failures(runtime.settings).mark_retried(first)
        redrive(runtime)
        (message,) = runtime.receive()
        assert REASON_ATTRIBUTE in message["MessageAttributes"]
        assert runtime.hand_over([message]).all_deleted

        (again,) = failures(runtime)
        assert again.id == first.id
        assert again.failed_at > first.failed_at
        assert again.retried_at is None
        assert not Failures(runtime.settings).forget(first)

    def test_it_stays_listed_if_its_process_dies_after_it_was_parked_again(self, runtime):
        @runtime.task
        def send():
            raise Reject(requeue=False)

        send.delay()
        assert runtime.deliver().all_deleted
        redrive(runtime)
        (message,) = runtime.receive()
        assert runtime.invoke([message]).all_deleted  # and Lambda never hears of it
        assert runtime.hand_over([received(message, 2)]).all_deleted
        assert len(failures(runtime)) == 1


def test_of_a_success_nothing_is_written(runtime, faults):
    @runtime.task
    def send():
        """It succeeds."""

    send.delay()
    deleted = faults.watch(runtime.settings, "dynamodb", "DeleteItem")
    put = faults.watch(runtime.settings, "dynamodb", "PutItem")
    assert runtime.deliver().all_deleted
    assert deleted == []
    assert [each for each in put if "failures" in each.get("Item", {})] == []


def test_the_message_is_parked_although_it_cannot_be_listed(runtime, faults, caplog):
    @runtime.task
    def send():
        faults.fail(runtime.settings, "dynamodb", "PutItem", "ServiceUnavailable", status=503)
        raise Reject(requeue=False)

    send.delay()
    assert runtime.deliver().all_deleted
    assert len(runtime.stack.dead_letters()) == 1
    assert "not in the list of failed tasks" in caplog.text


def test_what_was_parked_and_not_listed_is_listed_when_it_comes_again(runtime, faults):
    """As if its process had died in between: Lambda never hears of its end."""
    mends = []

    @runtime.task
    def send(n):
        mends.append(faults.fail(runtime.settings, "dynamodb", "PutItem", "ServiceUnavailable"))
        raise Reject(requeue=False)

    sent = send.delay(7)
    (message,) = runtime.receive()
    assert runtime.invoke([message]).all_deleted
    assert failures(runtime) == []
    for mend in mends:
        mend()

    for receive_count in (2, 3):
        assert runtime.invoke([received(message, receive_count)]).all_deleted
        (failure,) = failures(runtime)
        assert (failure.task_id, failure.args) == (sent.id, "(7,)")
        assert failure.body == message["Body"]
    assert len(mends) == 1
    assert len(runtime.stack.dead_letters()) == 1


def test_who_may_not_read_the_list_is_told_in_a_sentence(runtime, faults):
    faults.fail(runtime.settings, "dynamodb", "Query", "AccessDeniedException")
    with pytest.raises(ConfigurationError, match="dynamodb:Query"):
        Failures(runtime.settings).count()
