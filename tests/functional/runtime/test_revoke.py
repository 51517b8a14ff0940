"""``revoke`` of a task that has not started."""

from __future__ import annotations

import pytest
from celery import signals
from celery.canvas import StampingVisitor

from lambda_celery import PublishError


@pytest.fixture
def revoked():
    """The ids of the tasks that ``task_revoked`` was sent for."""
    ids = []

    def note(request, terminated, expired, **kwargs):
        ids.append((request.id, terminated, expired))

    signals.task_revoked.connect(note)
    yield ids
    signals.task_revoked.disconnect(note)


@pytest.fixture
def runtime(make_runtime):
    # A broker without workers: Celery's own broadcast goes nowhere.
    return make_runtime(broker_url="memory://")


@pytest.fixture
def send(runtime):
    @runtime.task(name="send")
    def send(address):
        ran.append(address)

    ran = send.ran = []
    return send


def test_by_its_result_it_is_deleted_and_not_run(runtime, send, revoked):
    result = send.delay("ada")
    other = send.delay("bob")

    result.revoke()

    assert runtime.deliver(2).all_deleted
    assert send.ran == ["bob"]
    assert (result.state, other.state) == ("REVOKED", "SUCCESS")
    assert revoked == [(result.id, False, False)]


def test_by_app_control_it_takes_a_list_of_ids(runtime, send):
    results = [send.delay(n) for n in range(30)]

    runtime.app.control.revoke([each.id for each in results[:28]] + [results[0].id])

    assert runtime.deliver(30).all_deleted
    assert sorted(send.ran) == [28, 29]


def test_while_it_waits_for_its_due_time_nothing_is_left_behind(runtime, send, revoked):
    result = send.apply_async(("ada",), countdown=3600, DelaySeconds=0)

    result.revoke()

    assert runtime.deliver().all_deleted
    assert runtime.stack.depth() == 0
    assert [each for each, *_ in revoked] == [result.id]


def test_by_stamped_headers(runtime, send, revoked):
    class Tenant(StampingVisitor):
        def on_signature(self, sig, **headers):
            return {"tenant": sig.args[0], "stamped_headers": ["tenant"]}

    signatures = [send.s("acme"), send.s("umbrella")]
    for signature in signatures:
        signature.stamp(Tenant())
    acme, _ = [each.apply_async() for each in signatures]

    runtime.app.control.revoke_by_stamped_headers({"tenant": ["acme", "hooli"]})

    assert runtime.deliver(2).all_deleted
    assert send.ran == ["umbrella"]
    assert [each for each, *_ in revoked] == [acme.id]


def test_a_retry_that_waits_is_revoked_like_its_task(runtime, revoked):
    @runtime.task(bind=True)
    def send(self):
        raise self.retry(countdown=0)

    result = send.delay()
    assert runtime.deliver().all_deleted

    result.revoke()
    runtime.restart()  # this environment has asked less than a second ago

    assert runtime.deliver().all_deleted
    assert runtime.stack.depth() == 0
    assert result.state == "REVOKED"


def test_a_copy_of_what_has_run_is_not_announced_as_revoked(runtime, send, revoked):
    result = send.delay("ada")
    (message,) = runtime.receive()
    runtime.send_copy(message)
    assert runtime.hand_over([message]).all_deleted

    result.revoke()
    runtime.restart()

    assert runtime.deliver().all_deleted
    assert (result.state, revoked, send.ran) == ("SUCCESS", [], ["ada"])


def test_nothing_is_asked_about_a_task_while_nothing_is_revoked(runtime, send, faults):
    asked = faults.watch(runtime.settings, "dynamodb", "GetItem")
    for _ in range(3):
        send.delay("ada")
    assert runtime.deliver(3).all_deleted
    assert len([each for each in asked if each["Key"]["id"] == {"S": "revoked"}]) == len(asked)


def test_a_table_that_cannot_be_written_is_said(runtime, send, faults):
    faults.fail(runtime.settings, "dynamodb", "BatchWriteItem", "AccessDeniedException")
    with pytest.raises(PublishError, match="dynamodb:BatchWriteItem"):
        send.delay("ada").revoke()


def test_a_table_that_cannot_be_read_keeps_the_message(runtime, send, faults):
    send.delay("ada")
    undo = faults.fail(runtime.settings, "dynamodb", "GetItem", "ThrottlingException")
    assert runtime.deliver().all_returned
    undo()
    assert runtime.deliver().all_deleted
    assert send.ran == ["ada"]


def test_a_broker_that_is_not_there_is_logged_and_lambda_is_told(make_runtime, caplog):
    runtime = make_runtime()  # nobody listens at its broker's address

    @runtime.task
    def send():
        raise AssertionError("not reached")

    result = send.delay()
    result.revoke()

    assert "workers are not" in caplog.text
    assert runtime.deliver().all_deleted
    assert result.state == "REVOKED"


@pytest.mark.parametrize(
    "broker",
    [
        {"broker_url": None},
        {"broker_url": "sqs://", "broker_transport": "lambda_celery.transport:Transport"},
    ],
    ids=["none", "SQS"],
)
def test_without_another_broker_lambda_is_told(make_runtime, broker, caplog):
    runtime = make_runtime(**broker)

    @runtime.task
    def send():
        raise AssertionError("not reached")

    result = send.delay()
    result.revoke()

    assert runtime.deliver().all_deleted
    assert result.state == "REVOKED"
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


def test_without_a_table_workers_are_told_alone_and_a_warning_says_so(make_runtime, caplog):
    runtime = make_runtime(broker_url="memory://", lambda_idempotency_table=None)
    runtime.app.control.revoke("some-id")
    assert "lambda_idempotency_table" in caplog.text


def test_an_app_with_a_control_class_of_its_own_keeps_it(make_runtime):
    runtime = make_runtime(broker_url="memory://")
    assert type(runtime.app.control).__name__ == "Control"
    assert runtime.app.control.purge.__self__ is runtime.app.control
