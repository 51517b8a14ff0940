"""Django's tasks by way of the queue, run by the handler."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery.exceptions import Ignore, Reject, Retry
from django.test import override_settings

import lambda_celery
import tests.django_settings  # noqa: F401 - before what reads them
from lambda_celery.django.tasks import api, documents, store
from lambda_celery.django.tasks.api import TaskResultStatus
from lambda_celery.exceptions import PublishError
from tests.functional.runtime.test_attempts import lose, received

if api.BaseTaskBackend.__module__.startswith("django_tasks"):
    from django_tasks import task, task_backends
else:
    from django.tasks import task, task_backends

BACKEND = "lambda_celery.django.tasks.LambdaBackend"
ran: list[Any] = []


@task
def add(a, b):
    ran.append((a, b))
    return a + b


@task
async def add_async(a, b):
    await asyncio.sleep(0)
    return a + b


@task(takes_context=True)
def attempt(context, *, fails_until):
    ran.append(context.attempt)
    if context.attempt < fails_until:
        raise LookupError("not yet")
    return context.task_result.id


@task
def leave():
    sys.exit(3)


class UnpicklableError(Exception):
    def __init__(self, code, reason):
        super().__init__(f"{code}: {reason}")


@task
def unpicklable():
    raise UnpicklableError(451, "later")


@task
def ignore():
    raise Ignore


@task
def reject():
    raise Reject("later", requeue=True)


@task
def retry():
    raise Retry("later")


@task
async def cancel():
    raise asyncio.CancelledError


@task
def large(*, returned=0, raised=0):
    if raised:
        raise LookupError("x" * raised)
    return "x" * returned


@task
def complex_value():
    return object()


@pytest.fixture(autouse=True)
def no_runs() -> None:
    ran.clear()


@pytest.fixture
def sent() -> Iterator[list[tuple[str, Any, Any]]]:
    """The signals that were sent: their names, their senders, and the status that they tell."""
    seen: list[tuple[str, Any, Any]] = []
    connected = []
    for name in ("task_enqueued", "task_started", "task_finished"):

        def note(sender: Any, task_result: Any, name: str = name, **_: Any) -> None:
            seen.append((name, task_result.id, task_result.status))

        signal = getattr(api.signals, name)
        signal.connect(note)
        connected.append((signal, note))
    yield seen
    for signal, note in connected:
        signal.disconnect(note)


def test_a_task_is_enqueued_runs_and_has_a_result(make_runtime, results_table, sent):
    runtime = make_runtime(result_backend=f"lambda-dynamodb:///{results_table}")
    result = add.enqueue(1, b=2)

    assert (result.status, result.attempts) == (TaskResultStatus.READY, 0)
    assert add.get_result(result.id) == result
    assert sent == [("task_enqueued", result.id, "READY")]
    assert runtime.deliver().all_deleted
    assert sent[1:] == [
        ("task_started", result.id, "RUNNING"),
        ("task_finished", result.id, "SUCCESSFUL"),
    ]
    enqueued_at = result.enqueued_at
    result.refresh()
    assert result.return_value == 3
    assert result.attempts == 1
    assert result.worker_ids[0].startswith("lambda@")
    assert enqueued_at <= result.started_at <= result.finished_at
    assert result.enqueued_at == enqueued_at


def test_a_copy_does_not_run_again(runtime):
    add.enqueue(1, 2)
    [message] = runtime.receive()
    runtime.send_copy(message)
    runtime.hand_over([message])

    assert runtime.deliver().all_deleted
    assert ran == [(1, 2)]


def test_a_coroutine_is_enqueued_and_run(runtime):
    async def call() -> Any:
        return await add_async.aenqueue(1, 2)

    result = asyncio.run(call())
    assert runtime.deliver().all_deleted

    async def look() -> Any:
        return await add_async.aget_result(result.id)

    assert asyncio.run(look()).return_value == 3


@pytest.mark.parametrize(
    ("called", "error"),
    [
        (leave, SystemExit),
        (ignore, Ignore),
        (reject, Reject),
        (retry, Retry),
        (cancel, asyncio.CancelledError),
        (unpicklable, UnpicklableError),
        (complex_value, TypeError),
        (add, TypeError),
    ],
    ids=[
        "sys.exit",
        "ignore",
        "reject",
        "retry",
        "cancel",
        "what cannot be pickled",
        "what it returns",
        "its arguments",
    ],
)
def test_a_task_that_raises_has_failed_and_is_parked(runtime, stack, sent, called, error):
    result = called.enqueue()

    assert runtime.deliver().all_deleted

    assert sent[-1] == ("task_finished", result.id, "FAILED")
    result.refresh()
    assert result.finished_at is not None
    [kept] = result.errors
    assert kept.exception_class is error
    assert kept.traceback.startswith("Traceback")
    assert len(stack.dead_letters()) == 1


def test_what_is_sent_back_is_another_attempt_of_it(runtime, stack):
    result = attempt.enqueue(fails_until=2)
    [message] = runtime.receive()
    runtime.hand_over([message])
    assert len(stack.dead_letters()) == 1

    runtime.send_copy(message)
    runtime.deliver()

    result.refresh()
    assert ran == [1, 2]
    assert result.return_value == result.id
    assert [each.exception_class for each in result.errors] == [LookupError]


def test_what_is_lost_with_its_process_at_its_last_attempt_has_failed(make_runtime, sent):
    runtime = make_runtime(lambda_max_receive_count=2)
    result = add.enqueue(1, 2)
    [message] = runtime.receive()
    lose(runtime, message, times=2)

    assert runtime.hand_over([received(message, 3)]).all_deleted

    assert ran == []
    assert sent[-1] == ("task_finished", result.id, "FAILED")
    result.refresh()
    assert result.errors[0].exception_class_path.endswith(".WorkerLostError")


def test_what_was_lost_after_its_result_was_kept_stays_successful(make_runtime, sent):
    runtime = make_runtime(lambda_max_receive_count=2)
    result = add.enqueue(1, 2)
    [message] = runtime.receive()
    lose(runtime, message, times=2)
    kept = documents.to_document(result) | {"status": "SUCCESSFUL", "return_value": 3}
    store.write(runtime.app, result.id, kept)

    assert runtime.hand_over([received(message, 3)]).all_deleted

    assert [name for name, _, _ in sent] == ["task_enqueued"]
    result.refresh()
    assert (result.return_value, result.errors) == (3, [])


@pytest.mark.parametrize("size", [{"returned": 500_000}, {"raised": 500_000}])
def test_what_the_store_does_not_take_at_the_end_is_logged(
    make_runtime, results_table, sent, caplog, size
):
    runtime = make_runtime(result_backend=f"lambda-dynamodb:///{results_table}")
    result = large.enqueue(**size)

    assert runtime.deliver().all_deleted

    assert sent[-1] == ("task_finished", result.id, "FAILED" if "raised" in size else "SUCCESSFUL")
    assert f"The result {result.id}" in caplog.text
    result.refresh()
    assert result.status == TaskResultStatus.RUNNING


def test_a_task_that_is_not_deployed_comes_back_and_has_failed_at_last(
    make_runtime, monkeypatch, sent
):
    runtime = make_runtime(lambda_max_receive_count=2)
    result = add.enqueue(1, 2)
    with monkeypatch.context() as patch:
        patch.delattr(f"{__name__}.add")
        assert runtime.deliver().all_returned
        assert runtime.deliver().all_deleted

    # Without it there is no result to tell of.
    assert [name for name, _, _ in sent] == ["task_enqueued"]
    result.refresh()
    assert result.status == TaskResultStatus.FAILED
    assert result.errors[0].exception_class_path.endswith("UnknownDjangoTaskError")


def test_what_a_message_names_is_not_imported(runtime, stack, web):
    assert "this" not in sys.modules
    for path in ("this.s", "os.system", "nothing"):
        web.send_task("lambda_celery.django.run_task", kwargs={"task": path, "args": ["true"]})

    assert runtime.deliver(3).all_returned
    assert "this" not in sys.modules


def test_what_aws_refuses_is_raised_and_no_signal_is_sent(runtime, faults, sent):
    faults.fail(runtime.settings, "sqs", "SendMessage", "AccessDenied", status=403)

    with pytest.raises(PublishError):
        add.enqueue(1, 2)
    assert sent == []


def test_what_a_batch_holds_has_had_its_signal(runtime, stack, sent):
    results = []

    def enqueue_and_raise() -> None:
        with lambda_celery.batch():
            results.append(add.enqueue(1, 2))
            raise LookupError

    with pytest.raises(LookupError):
        enqueue_and_raise()

    [result] = results
    assert sent == [("task_enqueued", result.id, "READY")]
    assert stack.depth() == 0
    result.refresh()
    assert result.status == TaskResultStatus.READY


def test_a_task_whose_result_cannot_be_stored_is_not_sent(runtime, monkeypatch, sent, stack):
    def refuse(*args: Any) -> None:
        raise ConnectionError("the back end is down")

    monkeypatch.setattr(runtime.app.backend, "_set_with_state", refuse)

    with pytest.raises(PublishError, match=r"add could not be stored, so the task was not sent"):
        add.enqueue(1, 2)
    assert sent == []
    assert stack.depth() == 0


@pytest.mark.parametrize("name", ["task_enqueued", "task_started", "task_finished"])
def test_a_receiver_that_raises_changes_nothing(runtime, name):
    def refuse(**_: Any) -> None:
        raise ConnectionError("no database")

    signal = getattr(api.signals, name)
    signal.connect(refuse)
    try:
        result = add.enqueue(1, 2)
        assert runtime.deliver().all_deleted
    finally:
        signal.disconnect(refuse)

    result.refresh()
    assert result.return_value == 3
    assert ran == [(1, 2)]


def test_a_time_is_a_delay(runtime, faults):
    calls = faults.watch(runtime.settings, "sqs", "SendMessage")

    add.using(run_after=datetime.now(UTC) + timedelta(minutes=10)).enqueue(1, 2)

    assert 590 < calls[0]["DelaySeconds"] <= 600


def test_queues_and_priorities_are_queues_of_celery(runtime):
    options = {"priority_queues": {"mail": {-100: "bulk", 0: "mail", 50: "urgent"}}}
    with override_settings(
        TASKS={"default": {"BACKEND": BACKEND, "QUEUES": [], "OPTIONS": options}}
    ):
        assert task_backends["default"].supports_priority
        queues = []
        for called in (
            add,
            add.using(queue_name="mail"),
            add.using(queue_name="mail", priority=-1),
            add.using(queue_name="mail", priority=60),
        ):
            called.enqueue(1, 2)
            [message] = runtime.receive()
            queues.append(runtime.envelope(message)["properties"]["delivery_info"]["routing_key"])
            assert runtime.hand_over([message]).all_deleted
        with pytest.raises(api.InvalidTask, match="The queue 'default' has no priorities"):
            add.using(priority=1)

    assert queues == ["celery", "mail", "bulk", "urgent"]


@pytest.mark.parametrize("no_id", ["", None, 5, "nobody's", "x" * 5000])
def test_what_is_no_id_has_no_result(make_runtime, results_table, no_id):
    make_runtime(result_backend=f"lambda-dynamodb:///{results_table}")
    with pytest.raises(api.TaskResultDoesNotExist):
        add.get_result(no_id)


def test_without_a_store_there_are_no_results(make_runtime):
    runtime = make_runtime(result_backend=None)
    result = add.enqueue(1, 2)
    runtime.deliver()

    assert not task_backends["default"].supports_get_result
    assert ran == [(1, 2)]
    with pytest.raises(NotImplementedError):
        result.refresh()
