"""Asynchronous tasks whose tracer runs on the event loop's thread: no thread waits for them."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import anyio
import pytest
from celery import Task, current_task, signals
from django.core.exceptions import SynchronousOnlyOperation
from django.utils.asyncio import async_unsafe

from lambda_runtime.celery_hooks import tracing

#: Only a test that fails waits for so long.
WAIT_SECONDS = 30
LOOP = "lambda-celery-event-loop"


@pytest.fixture
def runtime(make_runtime):
    return make_runtime(
        lambda_async_concurrency=1000, result_backend=None, lambda_time_reserve_seconds=1
    )


def test_hundreds_wait_for_each_other_and_none_has_a_thread(runtime, began):
    count = 300
    waiting = []
    all_there = asyncio.Event()

    @runtime.task
    async def meet():
        waiting.append(current_task.request.id)
        if len(waiting) == count:
            all_there.set()
        await asyncio.wait_for(all_there.wait(), WAIT_SECONDS)

    ids = {meet.delay().id for _ in range(count)}
    assert runtime.deliver(count).all_deleted
    assert set(waiting) == ids
    assert set(began) == {LOOP}
    assert [each["status"] for each in runtime.records()] == ["COMPLETED"] * count


def test_no_more_run_at_a_time_than_the_setting_says(make_runtime, began):
    runtime = make_runtime(lambda_async_concurrency=3, result_backend=None)
    running, most = [0], [0]

    @runtime.task
    async def send():
        running[0] += 1
        most[0] = max(most[0], running[0])
        await asyncio.sleep(0.01)
        running[0] -= 1

    for _ in range(30):
        send.delay()
    assert runtime.deliver(30).all_deleted
    assert most == [3]
    assert set(began) == {LOOP}


class WithCall(Task):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(*args, **kwargs)


class WithHook(Task):
    def on_success(self, *_: Any) -> None:
        """It may take long."""


@pytest.mark.parametrize(
    ("options", "conf"),
    [
        ({}, {"result_backend": "cache+memory://"}),
        ({"base": WithHook}, {}),
        ({"base": WithCall}, {}),
        ({"autoretry_for": (ConnectionError,)}, {}),
        ({"ignore_result": True, "store_errors_even_if_ignored": True},
         {"result_backend": "cache+memory://"}),
    ],
    ids=["a result", "a hook", "a call of its own", "autoretry_for", "errors are stored"],
)  # fmt: skip
def test_what_may_take_time_around_the_body_has_a_thread(make_runtime, began, options, conf):
    runtime = make_runtime(**{"result_backend": None, "lambda_async_concurrency": 2, **conf})

    @runtime.task(**options)
    async def send():
        await asyncio.sleep(0)
        ran_on.append(threading.current_thread().name)

    ran_on: list[str] = []
    for _ in range(2):  # the first one makes its tracer
        send.delay()
    assert runtime.deliver(2).all_deleted
    assert ran_on == [LOOP] * 2
    assert LOOP not in began


def test_a_result_that_is_ignored_needs_none(make_runtime, began):
    runtime = make_runtime(lambda_async_concurrency=2)

    @runtime.task(ignore_result=True)
    async def send():
        await asyncio.sleep(0)

    send.delay()
    assert runtime.deliver(1).all_deleted
    assert began == [LOOP]


def test_what_follows_has_a_thread(runtime, began):
    @runtime.task
    async def send(*_args):
        await asyncio.sleep(0)

    (send.si() | send.si()).delay()
    assert runtime.deliver(1).all_deleted
    assert LOOP not in began
    assert runtime.deliver(1).all_deleted
    assert began[1:] == [LOOP]  # nothing follows the last one


@pytest.mark.parametrize(
    "module", ["proj.receivers", "lambda_function", "celery.fixups.django_ours"]
)
def test_a_receiver_of_somebody_s_has_a_thread(runtime, began, module):
    @runtime.task
    async def send():
        await asyncio.sleep(0)

    def receive(**_):
        """It may ask a database."""

    receive.__module__ = module
    send.delay()
    signals.task_prerun.connect(receive)
    try:
        assert runtime.deliver(1).all_deleted
    finally:
        signals.task_prerun.disconnect(receive)
    assert LOOP not in began


def test_the_loop_is_hidden_from_what_is_synchronous(runtime, monkeypatch):
    """Django refuses its database methods where a loop runs."""
    asked: list[str] = []

    @async_unsafe
    def ask():
        asked.append(threading.current_thread().name)

    traced = tracing._traced

    def around(task: Any, run: Any) -> Any:
        ask()
        try:
            return traced(task, run)
        finally:
            ask()

    monkeypatch.setattr(tracing, "_traced", around)
    refused = []

    @runtime.task
    async def send():
        await asyncio.sleep(0)
        try:
            ask()
        except SynchronousOnlyOperation as exc:
            refused.append(exc)

    for _ in range(3):
        send.delay()
    assert runtime.deliver(3).all_deleted
    assert asked == [LOOP] * 6
    assert len(refused) == 3


def test_libraries_for_asyncio_know_where_they_are(runtime):
    seen: list[Any] = []

    @runtime.task
    async def send():
        seen.append(anyio.get_current_task().name is not None)
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 0)
        with anyio.move_on_after(0.01) as scope:
            await anyio.sleep(WAIT_SECONDS)
        seen.append(scope.cancelled_caught)
        seen.append(await anyio.to_thread.run_sync(lambda: 1))

    send.delay()
    assert runtime.deliver(1).all_deleted
    assert seen == [True, True, 1]


def test_failures_retries_and_dead_letters_are_those_of_a_thread(make_runtime, began):
    runtime = make_runtime(
        lambda_async_concurrency=8, result_backend=None, lambda_max_receive_count=3
    )
    ran: list[str] = []

    @runtime.task(bind=True)
    async def send(self, how):
        ran.append(how)
        await asyncio.sleep(0)
        if how == "fails":
            raise ValueError("451")
        if how == "retries" and not self.request.retries:
            raise self.retry(countdown=0)

    for how in ("fails", "retries", "fine"):
        send.delay(how)
    first = runtime.receive(3)
    assert len(runtime.hand_over(first).failed) == 1
    assert set(began) == {LOOP}
    assert sorted(ran) == ["fails", "fine", "retries"]
    second = runtime.receive(2)
    assert len(runtime.hand_over(second).failed) == 1
    assert sorted(ran[3:]) == ["fails", "retries"]
    assert runtime.hand_over(runtime.receive(1)).all_deleted
    assert len(runtime.stack.dead_letters()) == 1


def test_context_variables_of_one_are_none_of_another_s(runtime):
    from contextvars import ContextVar

    mine: ContextVar[str] = ContextVar("mine", default="nobody's")
    seen = []

    @runtime.task
    async def send(name):
        seen.append(mine.get())
        mine.set(name)
        await asyncio.sleep(0.01)
        assert mine.get() == name

    for name in "abcd":
        send.delay(name)
    assert runtime.deliver(4).all_deleted
    assert seen == ["nobody's"] * 4


@pytest.mark.parametrize("first_fail", [False, True])
def test_threads_and_the_loop_keep_the_bound_together(make_runtime, first_fail):
    runtime = make_runtime(lambda_async_concurrency=3, result_backend=None)
    running, most = [0], [0]

    async def count(fails=False):
        running[0] += 1
        most[0] = max(most[0], running[0])
        await asyncio.sleep(0.02)
        running[0] -= 1
        if fails:
            raise ValueError("451")

    on_loop = runtime.task(name="proj.on_loop")(count)
    on_thread = runtime.task(name="proj.on_thread", base=WithHook)(count)
    for n in range(24):
        if first_fail:
            on_loop.delay(n < 6)
        else:
            (on_loop, on_thread)[n % 2].delay()
    assert len(runtime.deliver(24).failed) == 6 * first_fail
    assert most == [3]


def test_one_that_is_cancelled_before_it_begins_fails_alone(runtime):
    """By a neighbour, which cancels all that it finds on the loop."""
    through = []

    @runtime.task
    async def send(n):
        if not through:
            through.append(n)
            for each in asyncio.all_tasks() - {asyncio.current_task()}:
                each.cancel()
            return
        through.append(n)

    for n in range(6):
        send.delay(n)
    assert len(runtime.deliver(6).failed) == 6 - len(through)
    while runtime.stack.depth():
        runtime.deliver(runtime.stack.depth())
    assert sorted(through) == list(range(6))


@pytest.mark.parametrize("base", [Task, WithHook], ids=["on the loop", "on a thread"])
def test_one_that_swallows_its_soft_limit_ends_with_the_invocation(runtime, base):
    swallowed = []

    @runtime.task(base=base)
    async def send(swallows):
        while swallows:
            try:
                await asyncio.sleep(WAIT_SECONDS)
            except Exception as exc:
                swallowed.append(exc)

    send.delay(True)
    send.delay(False)
    messages = runtime.receive(2)
    began = time.monotonic()
    answer = runtime.invoke(messages, seconds=4)
    assert time.monotonic() - began < WAIT_SECONDS  # and not until it has slept
    assert len(answer.failed) == 1
    assert len(swallowed) == 1
