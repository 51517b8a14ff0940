"""Direct calls in the tests of a project: by the real handler, on the test's thread."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import TaskRevokedError
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import AsyncResult

import lambda_celery
from lambda_celery.aws import invoking
from lambda_celery.exceptions import CallFailedError
from lambda_celery.invoke import agather, ainvoke, gather, invoke, stream
from lambda_celery.testing import LambdaCeleryQueue


@pytest.fixture
def app() -> Celery:
    made = Celery("proj", broker="amqp://guest@127.0.0.1:1//", backend="cache+memory://")
    made.conf.update(lambda_tasks=["*"], broker_transport_options={"max_retries": 1})
    lambda_celery.install(made)
    return made


@pytest.fixture
def queue(app: Celery, monkeypatch: pytest.MonkeyPatch) -> Iterator[LambdaCeleryQueue]:
    def lacks() -> Any:
        raise AssertionError("aiohttp was asked for.")

    monkeypatch.setattr(invoking, "_aiohttp", lacks)
    with LambdaCeleryQueue(app) as queue:
        yield queue


@pytest.fixture
def add(app: Celery) -> Any:
    @app.task(name="add", shared=False)
    def add(x: int, y: int) -> int:
        return x + y

    return add


@pytest.fixture
def where(app: Celery) -> Any:
    @app.task(name="where", shared=False)
    def where() -> list[Any]:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return [threading.get_ident(), where.request.called_directly]

    return where


HERE = [threading.get_ident(), False]


def test_all_ways_to_call_without_asyncio_run_on_the_callers_thread(queue, where):
    assert [invoke(where.s()), *gather([where.s(), where.s()])] == [HERE] * 3
    assert queue.messages == []


def test_in_a_coroutine_a_call_finds_no_event_loop(queue, where):
    async def asynchronously() -> list[Any]:
        taken = [each.get() async for each in stream([where.s()])]
        awaited = [await ainvoke(where.s()), *(await agather([where.s()]))]
        assert invoke(where.s()) == HERE
        return [*taken, *awaited]

    # Where Django is loaded, on the thread of sync_to_async().
    assert [directly for _, directly in asyncio.run(asynchronously())] == [False] * 3


@pytest.mark.filterwarnings("ignore:coroutine 'agather' was never awaited")
def test_a_gather_in_a_coroutine_is_refused_as_ever(queue, add):
    async def blocking() -> None:
        gather([add.s(1, 2)])

    with pytest.raises(RuntimeError, match="running event loop"):
        asyncio.run(blocking())
    gc.collect()  # which warns of what asyncio.run() has refused


def test_many_have_the_order_of_their_signatures(queue, add):
    seen: list[Any] = []

    assert gather(
        (add.s(n, 1) for n in range(5)), max_connections=2, progress=lambda *each: seen.append(each)
    ) == [1, 2, 3, 4, 5]
    assert seen == [(n, None) for n in range(1, 6)]


def test_what_it_raises_is_raised(app, queue):
    @app.task(name="fails", shared=False)
    def fails() -> None:
        raise ValueError("no such card")

    with pytest.raises(ValueError, match="no such card") as raised:
        invoke(fails.s())
    assert "in fails" in str(raised.value.__cause__)
    assert queue.messages == queue.dead_letters == []


def test_the_countdown_of_a_retry_lets_the_queues_time_pass(app, queue, add):
    @app.task(name="again", shared=False, bind=True, max_retries=3)
    def again(self: Any) -> Any:
        if self.request.retries < 3:
            raise self.retry(countdown=3600)
        return self.request.retries

    add.apply_async((1, 2), countdown=2 * 3600)
    assert invoke(again.s(), timeout=4 * 3600) == 3
    assert [each.result for each in queue.run()] == [3]  # it is due by now


def test_who_does_not_wait_so_long_has_a_time_out(app, queue):
    @app.task(name="again", shared=False, bind=True, max_retries=None)
    def again(self: Any) -> Any:
        raise self.retry(countdown=100)

    with pytest.raises(CeleryTimeoutError, match="no answer after 250 s"):
        invoke(again.s(), timeout=250)


def test_a_call_waits_for_its_turn_by_the_queues_time(app, queue):
    @app.task(name="seldom", shared=False, rate_limit="1/h")
    def seldom(n: int) -> int:
        return n

    assert gather([seldom.s(n) for n in range(3)], timeout=4 * 3600) == [0, 1, 2]


def test_a_call_expires_by_the_queues_time(app, queue, add):
    @app.task(name="seldom", shared=False, rate_limit="1/h")
    def seldom() -> str:
        return "ran"

    queue.advance(1000)
    assert invoke(seldom.s().set(expires=60)) == "ran"
    with pytest.raises(TaskRevokedError):  # it is not its turn before
        invoke(seldom.s().set(expires=60), timeout=4 * 3600)


def test_an_event_that_fails_goes_on_by_the_queue(app, queue):
    ran: list[int] = []

    @app.task(name="fails_once", shared=False)
    def fails_once() -> str:
        ran.append(1)
        if len(ran) == 1:
            raise ValueError("no such card")
        return "done"

    handle = invoke(fails_once.s(), invocation_type="Event")

    assert isinstance(handle, AsyncResult)
    [message] = queue.messages
    assert (message.task, message.task_id, ran) == ("fails_once", handle.id, [1])
    queue.advance()
    assert [each.result for each in queue.run()] == ["done"]
    assert handle.get() == "done"


@pytest.mark.parametrize("by", ["queue", "call"])
@pytest.mark.parametrize("kind", ["synchronous", "asynchronous"])
def test_a_task_calls_others(app, queue, add, by, kind):
    if kind == "synchronous":

        @app.task(name="outer", shared=False)
        def outer() -> Any:
            return [invoke(add.s(1, 2)), *gather([add.s(n, 1) for n in range(3)])]

    else:

        @app.task(name="outer", shared=False)
        async def outer() -> Any:
            return [await ainvoke(add.s(1, 2)), *(await agather([add.s(n, 1) for n in range(3)]))]

    if by == "call":
        assert invoke(outer.s()) == [3, 1, 2, 3]
    else:
        outer.delay()
        [outcome] = queue.run()
        assert (outcome.end, outcome.result) == ("succeeded", [3, 1, 2, 3])


def test_a_task_that_calls_itself_ends(app, queue):
    @app.task(name="down", shared=False)
    def down(n: int) -> int:
        return 0 if n == 0 else 1 + invoke(down.s(n - 1))

    assert invoke(down.s(3)) == 3


def test_what_is_big_goes_through_the_bucket(app, queue):
    @app.task(name="echo", shared=False)
    def echo(text: str) -> str:
        return text

    text = "x" * 7_000_000
    assert invoke(echo.s(text)) == text


def test_what_ends_a_test_is_no_failure_of_the_tasks(app, queue):
    @app.task(name="ends", shared=False)
    def ends() -> None:
        pytest.fail("of the test")

    for call in (lambda: invoke(ends.s()), lambda: gather([ends.s()], return_exceptions=True)):
        with pytest.raises(pytest.fail.Exception, match="of the test"):
            call()


def test_what_the_function_cannot_do_is_said(app, queue, add):
    signature = add.s(1, 2)
    del app.tasks["add"]

    with pytest.raises(CallFailedError, match="not registered"):
        invoke(signature)


def test_an_eager_call_is_celerys(app, queue, where):
    app.conf.task_always_eager = True

    assert invoke(where.s()) == HERE
