"""Coroutine functions as tasks: on one event loop, many at the same time."""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import logging
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from typing import Any
from weakref import ref

import pytest
from celery import chain, current_app, current_task, shared_task, signals
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded, TimeLimitExceeded
from celery.result import AsyncResult

import lambda_celery
from lambda_celery.envelope import read_envelope, read_message
from lambda_celery.failures.record import EXCEPTION_ATTRIBUTE
from lambda_runtime.celery_hooks import tracing
from lambda_runtime.running import event_loop
from lambda_runtime.running.limits.limit import HardTimeLimit

#: Only a test that fails waits for so long.
WAIT_SECONDS = 30


class Meeting:
    """Coroutines that wait for each other, again and again, as at :class:`threading.Barrier`."""

    def __init__(self, parties: int) -> None:
        self._parties = parties
        self._waiting: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        if len(self._waiting) == self._parties:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.set_result(None)
        await asyncio.wait_for(future, WAIT_SECONDS)


async def wait_for(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, WAIT_SECONDS)


@pytest.fixture(params=["on a thread", "on the loop"])
def runtime(request, monkeypatch, make_runtime):
    """Where the tracer runs. These tests' back end is in memory, so that it may be either."""
    is_on_loop = request.param == "on the loop"
    monkeypatch.setattr(tracing, "waits_for_nothing", lambda request: is_on_loop)
    return make_runtime(lambda_async_concurrency=4, lambda_time_reserve_seconds=1)


@pytest.fixture
def no_collections():
    """Have nothing freed but what nobody refers to."""
    gc.disable()
    yield
    gc.enable()


def result_of(runtime: Any, result: AsyncResult) -> AsyncResult:
    return AsyncResult(result.id, app=runtime.app)


def headers_of(message: dict[str, Any]) -> dict[str, Any]:
    return read_message(read_envelope(message["Body"]), ["json"], {}).headers


class TestConcurrency:
    def test_as_many_run_at_the_same_time_as_the_setting_says_and_no_more(self, runtime):
        together = Meeting(4)
        running, most, threads = set(), [], set()

        @runtime.task
        async def send(n):
            running.add(n)
            await together.wait()
            most.append(len(running))
            await together.wait()
            running.discard(n)
            await together.wait()
            threads.add(threading.current_thread())

        for n in range(8):
            send.delay(n)
        assert runtime.deliver(8).all_deleted
        assert most == [4] * 8
        assert len(threads) == 1
        assert threading.main_thread() not in threads

    @pytest.mark.parametrize("limits", [{}, {"soft_time_limit": 60, "time_limit": 90}])
    def test_what_has_run_is_freed_without_the_garbage_collector(
        self, runtime, limits, no_collections
    ):
        """Hundreds of bodies a second as garbage would cost more than they do."""
        ended = []

        @runtime.task(**limits)
        async def send(n):
            await asyncio.sleep(0)
            ended.append(ref(asyncio.current_task()))

        for n in range(2):  # with the second one, the loop has gone on after the first one's end
            send.delay(n)
            assert runtime.deliver(1).all_deleted
        assert ended[0]() is None

    def test_by_default_as_many_as_of_the_others(self, make_runtime):
        runtime = make_runtime(lambda_concurrency=2)
        together = Meeting(2)
        running, most = set(), []

        @runtime.task
        async def send(n):
            running.add(n)
            await together.wait()
            most.append(len(running))
            await together.wait()
            running.discard(n)
            await together.wait()

        for n in range(4):
            send.delay(n)
        assert runtime.deliver(4).all_deleted
        assert most == [2] * 4

    def test_the_others_stay_one_by_one_on_the_main_thread_and_neither_waits(self, runtime):
        """Whatever comes first in the batch: each kind has something in it for the other."""
        steps = [threading.Event() for _ in range(4)]
        threads, running, most = [], [], []

        @runtime.task
        def ordinary(wait, go):
            threads.append(threading.current_thread())
            running.append(1)
            most.append(len(running))
            steps[go].set()
            assert steps[wait].wait(WAIT_SECONDS)
            running.pop()

        @runtime.task
        async def asynchronous(wait, go):
            await wait_for(steps[wait])
            steps[go].set()

        ordinary.delay(1, 0)
        ordinary.delay(3, 2)
        asynchronous.delay(2, 3)
        asynchronous.delay(0, 1)
        assert runtime.deliver(4).all_deleted
        assert threads == [threading.main_thread()] * 2
        assert most == [1, 1]

    def test_a_message_group_keeps_its_order_whatever_its_kinds(self, make_runtime, make_stack):
        stack = make_stack(suffix=".fifo")
        runtime = make_runtime(lambda_queue_url=stack.queue_url, lambda_async_concurrency=4)
        ran = defaultdict(list)
        together = Meeting(2)

        @runtime.task
        async def asynchronous(group, n):
            await asyncio.sleep(0)
            if (group, n) == ("mixed", 2):
                raise ValueError("not yet")
            ran[group].append(n)

        @runtime.task
        def ordinary(group, n):
            assert threading.current_thread() is threading.main_thread()
            ran[group].append(n)

        @runtime.task
        async def meet(group, n):
            await together.wait()
            ran[group].append(n)

        for n, task in enumerate([asynchronous, ordinary, asynchronous, ordinary]):
            task.apply_async(("mixed", n), MessageGroupId="mixed")
        for n in range(2):
            for each in ("a", "b"):
                meet.apply_async((each, n), MessageGroupId=each)
        answer = runtime.deliver(8)

        assert ran == {"mixed": [0, 1], "a": [0, 1], "b": [0, 1]}
        assert len(answer.failed) == 2

    def test_a_body_in_s3_works_as_well(self, make_runtime):
        runtime = make_runtime(lambda_payload_threshold_bytes=0)
        seen = []

        @runtime.task
        async def send(text):
            await asyncio.sleep(0)
            seen.append((text, threading.current_thread().name))

        send.delay("hello")
        assert runtime.deliver().all_deleted
        assert seen == [("hello", "lambda-celery-event-loop")]

    def test_one_loop_for_all_invocations(self, runtime):
        loops = []

        @runtime.task
        async def send():
            loops.append(asyncio.get_running_loop())

        for _ in range(2):
            send.delay()
            assert runtime.deliver().all_deleted
        runtime.restart()
        send.delay()
        assert runtime.deliver().all_deleted
        assert len(loops) == 3
        assert len(set(loops)) == 1

    def test_what_has_not_started_when_the_time_runs_short_comes_back(self, runtime):
        ran = []

        @runtime.task
        async def send():
            ran.append(1)

        for _ in range(4):
            send.delay()
        assert len(runtime.deliver(4, seconds=0).failed) == 4
        assert ran == []

    def test_a_fork_has_a_loop_of_its_own(self):
        code = """
import asyncio, os
from lambda_runtime.celery_hooks import tracing
from lambda_runtime.running import event_loop

def run():
    async def body():
        await asyncio.sleep(0)
        return os.getpid()
    return event_loop.run(body(), name="t", task_id="1", soft_seconds=None, hard_seconds=None)

assert run() == os.getpid()
child = os.fork()
if not child:
    os._exit(run() != os.getpid())
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert run() == os.getpid()
"""
        subprocess.run([sys.executable, "-c", code], check=True, timeout=WAIT_SECONDS)


class TestRequest:
    def test_each_has_its_own_after_each_await_and_in_what_it_starts(self, runtime):
        together = Meeting(4)
        seen = {}

        @runtime.task(bind=True)
        async def send(self, n):
            found = []

            async def look():
                await asyncio.sleep(0)
                found.append((self.request.id, current_task.request.id, current_app.main))

            async def grandparent():
                await asyncio.gather(look(), look())

            await together.wait()
            await look()
            await asyncio.create_task(look())
            await asyncio.ensure_future(grandparent())
            await together.wait()
            seen[n] = found
            if n % 2:
                raise ValueError("not yet")

        results = {n: send.delay(n) for n in range(4)}
        answer = runtime.deliver(4)

        assert seen == {n: [(each.id, each.id, "proj")] * 4 for n, each in results.items()}
        states = {n: result_of(runtime, each).state for n, each in results.items()}
        assert states == {0: "SUCCESS", 1: "RETRY", 2: "SUCCESS", 3: "RETRY"}
        assert len(answer.failed) == 2

    @pytest.mark.skipif(not hasattr(asyncio, "TaskGroup"), reason="of Python 3.11")
    def test_it_is_in_a_task_group(self, runtime):
        seen = []

        @runtime.task(bind=True)
        async def send(self):
            async def look():
                await asyncio.sleep(0)
                seen.append(self.request.id)

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(look())
                tasks.create_task(look())

        result = send.delay()
        assert runtime.deliver().all_deleted
        assert seen == [result.id] * 2

    def test_nothing_is_left_on_the_loop(self, runtime):
        @runtime.task
        async def send():
            await asyncio.sleep(0)

        send.delay()
        assert runtime.deliver().all_deleted

        async def look():
            return current_task._get_current_object()

        assert event_loop.run(
            look(), name="t", task_id="1", soft_seconds=None, hard_seconds=None
        ) is None  # fmt: skip

    def test_the_asyncio_task_has_its_name(self, runtime):
        names = []

        @runtime.task
        async def send():
            names.append(asyncio.current_task().get_name())

        result = send.delay()
        assert runtime.deliver().all_deleted
        assert names == [result.id]

    def test_asyncios_debugging_aids_show_the_coroutine(self, runtime):
        shown = []

        @runtime.task
        async def send():
            async def deliver_mail():
                shown.append(repr(asyncio.current_task()))
                shown.append(asyncio.current_task().get_stack()[-1].f_code.co_name)

            await asyncio.create_task(deliver_mail())

        send.delay()
        assert runtime.deliver().all_deleted
        assert "deliver_mail" in shown[0]
        assert shown[1] == "deliver_mail"

    def test_a_direct_call_in_a_body_is_of_another_request(self, runtime):
        @runtime.task(bind=True)
        async def inner(self):
            await asyncio.sleep(0)
            return self.request.id

        @runtime.task(bind=True)
        async def outer(self):
            return [inner(), self.request.id]

        @runtime.task(bind=True)
        def ordinary(self):
            return [inner(), self.request.id]

        results = [outer.delay(), ordinary.delay()]
        assert runtime.deliver(2).all_deleted
        assert [result_of(runtime, each).result for each in results] == [
            [None, each.id] for each in results
        ]

    def test_log_lines_have_the_task_and_the_message(self, make_runtime, capsys):
        root = logging.getLogger()
        before, level = root.handlers[:], root.level
        try:
            runtime = make_runtime(worker_hijack_root_logger=True, lambda_async_concurrency=2)
            together = Meeting(2)

            @runtime.task
            async def send(n):
                async def child():
                    await asyncio.sleep(0)
                    logging.getLogger("proj").info("child %d", n)

                await together.wait()
                logging.getLogger("proj").info("body %d", n)
                await asyncio.gather(child())

            results = [send.delay(n) for n in range(2)]
            messages = runtime.receive(2)
            runtime.hand_over(messages)
        finally:
            root.handlers[:] = before
            root.setLevel(level)
        out = capsys.readouterr().out.splitlines()
        lines = {line["message"]: line for line in map(json.loads, out) if "message" in line}

        ids = {headers_of(each)["id"]: each["MessageId"] for each in messages}
        for n, result in enumerate(results):
            for who in ("body", "child"):
                line = lines[f"{who} {n}"]
                assert line["task_id"] == result.id
                assert line["message_id"] == ids[result.id]
                assert line["function_request_id"]


class TestOutcomes:
    def test_success_with_its_hooks_and_signals(self, runtime):
        heard = []

        @runtime.task(bind=True, name="proj.send")
        async def send(self, x):
            await asyncio.sleep(0)
            heard.append("body")
            return x + 1

        @signals.task_prerun.connect
        def prerun(task, **_):
            heard.append(f"prerun {task.name}")

        @signals.task_success.connect
        def success(result, **_):
            heard.append(f"success {result}")

        @signals.task_postrun.connect
        def postrun(state, **_):
            heard.append(f"postrun {state}")

        result = send.delay(1)
        assert runtime.deliver().all_deleted
        assert result_of(runtime, result).result == 2
        assert heard == ["prerun proj.send", "body", "success 2", "postrun SUCCESS"]

    def test_it_is_run_once(self, runtime):
        ran = []

        @runtime.task(idempotency_key=lambda order: order)
        async def confirm(order):
            await asyncio.sleep(0)
            ran.append(order)

        confirm.delay("7")
        confirm.delay("7")
        (first, second) = runtime.receive(2)
        runtime.send_copy(first)
        assert runtime.hand_over([first]).all_deleted
        assert runtime.hand_over([second]).all_deleted
        assert runtime.deliver().all_deleted
        assert ran == ["7"]

    def test_a_failure_comes_back_and_its_traceback_is_the_bodys(self, runtime):
        @runtime.task
        async def send():
            await asyncio.sleep(0)
            raise ValueError("no such template")

        result = send.delay()
        assert runtime.deliver().all_returned
        stored = result_of(runtime, result)
        assert stored.state == "RETRY"
        assert "no such template" in stored.traceback
        assert "in send" in stored.traceback

    def test_retries_used_up_is_parked(self, runtime):
        @runtime.task(bind=True, max_retries=1)
        async def send(self):
            await asyncio.sleep(0)
            raise self.retry(countdown=0, exc=ConnectionError("451"))

        result = send.delay()
        for _ in range(2):
            assert runtime.deliver().all_deleted
        (dead,) = runtime.stack.dead_letters()
        assert "451" in dead["MessageAttributes"][EXCEPTION_ATTRIBUTE]["StringValue"]
        assert result_of(runtime, result).state == "FAILURE"

    def test_a_retry_that_was_sent_before_a_failure_stands(self, runtime):
        runs = []

        @runtime.task(bind=True)
        async def send(self):
            runs.append(self.request.retries)
            if self.request.retries == 0:
                await asyncio.to_thread(lambda: None)
                self.retry(countdown=0, throw=False)
                raise ValueError("afterwards")

        send.delay()
        assert runtime.deliver().all_deleted  # it does not come back beside its retry
        assert runtime.deliver().all_deleted
        assert runs == [0, 1]

    def test_autoretry_for_with_back_off(self, runtime):
        runs = []

        @runtime.task(
            bind=True, autoretry_for=(OSError,), retry_backoff=1, retry_jitter=False, max_retries=1
        )
        async def send(self):
            runs.append(self.request.retries)
            await asyncio.sleep(0)
            if not self.request.retries:
                raise ConnectionError("451")

        result = send.delay()
        assert runtime.deliver().all_deleted
        assert result_of(runtime, result).state == "RETRY"
        assert runtime.deliver().all_deleted
        assert result_of(runtime, result).state == "SUCCESS"
        assert runs == [0, 1]

    def test_ignore_and_reject(self, runtime):
        @runtime.task
        async def send(how):
            await asyncio.sleep(0)
            raise {"ignore": Ignore(), "back": Reject(requeue=True), "away": Reject("bad")}[how]

        for how in ("ignore", "back", "away"):
            send.delay(how)
        assert len(runtime.deliver(3).failed) == 1
        assert len(runtime.stack.dead_letters()) == 1

    def test_link_chain_and_chord(self, runtime):
        seen = []

        @runtime.task
        async def add(x, y):
            await asyncio.sleep(0)
            return x + y

        @runtime.task
        async def note(value):
            seen.append(value)

        chain(add.s(1, 2), add.s(10), note.s()).apply_async()
        add.apply_async((1, 1), link=note.s())
        for count in (2, 2, 1):
            assert runtime.deliver(count).all_deleted
        assert sorted(seen) == [2, 13]

    @pytest.mark.parametrize("is_async", [True, False])
    def test_arguments_may_have_any_names(self, runtime, is_async):
        async def asynchronous(*, task, body, function, attempt):
            return [task, body, function, attempt]

        def ordinary(*, task, body, function, attempt):
            return [task, body, function, attempt]

        @runtime.task
        async def publishes(arguments):
            await send.adelay(**arguments)

        send = lambda_celery.task(name=f"tests.async.runtime.names.{is_async}")(
            asynchronous if is_async else ordinary
        )
        publishes.delay({"task": 1, "body": 2, "function": 3, "attempt": 4})
        assert runtime.deliver().all_deleted
        (message,) = runtime.receive()
        assert runtime.hand_over([message]).all_deleted
        result = AsyncResult(headers_of(message)["id"], app=runtime.app)
        assert result.result == [1, 2, 3, 4]

    def test_a_class_with_a_coroutine_for_its_run(self, runtime):
        class Send(runtime.app.Task):
            name = "proj.send"

            async def run(self, address):
                await asyncio.sleep(0)
                return [address, self.request.id]

        runtime.app.register_task(Send())
        result = runtime.app.tasks["proj.send"].delay("ann")
        assert runtime.deliver().all_deleted
        assert result_of(runtime, result).result == ["ann", result.id]

    def test_a_shared_task(self, runtime):
        @shared_task(name="tests.async.runtime.shared")
        async def send():
            await asyncio.sleep(0)
            return threading.current_thread().name

        result = send.delay()
        assert runtime.deliver().all_deleted
        assert result_of(runtime, result).result == "lambda-celery-event-loop"

    @pytest.mark.parametrize(
        ("how", "error"),
        [("cancel", "CancelledError"), ("exit", "WorkerLostError"), ("child", "WorkerLostError")],
    )
    def test_what_is_no_exception_is_that_tasks_failure_alone(self, runtime, how, error):
        together = Meeting(2)

        @runtime.task(max_retries=0)
        async def end():
            await together.wait()

            async def leave():
                raise KeyboardInterrupt

            if how == "cancel":
                asyncio.current_task().cancel()
            elif how == "exit":
                sys.exit("by mistake")
            else:
                await asyncio.create_task(leave())
            await asyncio.Event().wait()

        @runtime.task
        async def send():
            await together.wait()
            for _ in range(10):
                await asyncio.sleep(0)
            return "sent"

        failed, sent = end.delay(), send.delay()
        assert runtime.deliver(2).all_deleted
        (dead,) = runtime.stack.dead_letters()
        assert dead["MessageAttributes"][EXCEPTION_ATTRIBUTE]["StringValue"].startswith(error)
        assert result_of(runtime, failed).state == "FAILURE"
        assert result_of(runtime, sent).result == "sent"


class TestPublishing:
    def test_what_it_sends_are_its_children(self, runtime):
        @lambda_celery.task(name="tests.async.runtime.other")
        async def other(n):
            pass

        @runtime.task
        async def send():
            await asyncio.sleep(0)
            other.delay(1)
            await other.adelay(2)
            await asyncio.gather(other.aapply_async((3,)), other.adelay(4))

        root = send.apply_async(root_id="the-root")
        assert runtime.deliver().all_deleted
        sent = [headers_of(each) for each in runtime.receive(4)]
        assert [(each["root_id"], each["parent_id"]) for each in sent] == [
            ("the-root", root.id)
        ] * 4
        children = result_of(runtime, root).children
        assert {each.id for each in children} == {each["id"] for each in sent}

    def test_an_open_batch_takes_part(self, runtime):
        depths = []

        @lambda_celery.task(name="tests.async.runtime.another")
        async def other(n):
            pass

        @runtime.task
        async def send(succeeds):
            with lambda_celery.batch():
                await other.adelay(1)
                await asyncio.gather(*(other.adelay(n) for n in range(3)))
                depths.append(runtime.stack.depth())
                if not succeeds:
                    raise ValueError("no such template")
            depths.append(runtime.stack.depth())

        send.apply_async((True,))
        assert runtime.deliver().all_deleted
        assert depths == [1, 5]
        runtime.receive(4)
        send.apply_async((False,))
        assert runtime.deliver().all_returned
        assert runtime.stack.depth() == 5


class TestTimeLimits:
    def test_the_soft_limit_is_raised_where_the_body_awaits_and_in_no_other(self, runtime):
        limited = threading.Event()

        @runtime.task
        async def send(n):
            if n:
                await wait_for(limited)
                return "sent"
            try:
                await asyncio.Event().wait()
            except SoftTimeLimitExceeded as exc:
                limited.set()
                await asyncio.sleep(0)  # it can still await
                return f"stopped after {exc.args[0]} s"

        first = send.apply_async((0,), soft_time_limit=0.1)
        others = [send.delay(n) for n in range(1, 4)]
        assert runtime.deliver(4).all_deleted
        assert result_of(runtime, first).result == "stopped after 0.1 s"
        assert [result_of(runtime, each).result for each in others] == ["sent"] * 3

    def test_the_soft_limit_of_a_task_brings_it_back(self, runtime):
        @runtime.task(soft_time_limit=0.1)
        async def send():
            await asyncio.Event().wait()

        result = send.delay()
        assert runtime.deliver().all_returned
        stored = result_of(runtime, result)
        assert stored.state == "RETRY"
        assert type(stored.result) is SoftTimeLimitExceeded

    def test_autoretry_for_the_soft_limit(self, runtime):
        @runtime.task(
            soft_time_limit=0.1, autoretry_for=(SoftTimeLimitExceeded,), default_retry_delay=0
        )
        async def send():
            await asyncio.Event().wait()

        send.delay()
        assert runtime.deliver().all_deleted
        (again,) = runtime.receive()
        assert headers_of(again)["retries"] == 1

    def test_the_end_of_the_invocation_is_a_soft_limit(self, runtime):
        @runtime.task(max_retries=0)
        async def send():
            await asyncio.Event().wait()  # for ever, but for the limit

        send.delay()
        assert runtime.deliver(seconds=1.5).all_returned

    def test_the_hard_limit_is_not_caught(self, runtime):
        ended = []

        @runtime.task(time_limit=0.1, max_retries=0)
        async def send():
            try:
                await asyncio.Event().wait()
            except Exception:
                return "caught"
            finally:
                ended.append(1)

        result = send.delay()
        assert runtime.deliver().all_deleted
        (dead,) = runtime.stack.dead_letters()
        named = dead["MessageAttributes"][EXCEPTION_ATTRIBUTE]["StringValue"]
        assert named.startswith(TimeLimitExceeded.__name__)
        assert result_of(runtime, result).state == "FAILURE"
        assert ended == [1]

    def test_the_hard_limit_comes_again(self, runtime, monkeypatch):
        monkeypatch.setattr(HardTimeLimit, "again_seconds", 0.01)
        caught = []

        @runtime.task(time_limit=0.05, soft_time_limit=0.02, max_retries=0)
        async def send():
            while len(caught) < 3:
                try:
                    await asyncio.Event().wait()
                except BaseException as exc:
                    caught.append(type(exc).__mro__[1])
            await asyncio.Event().wait()

        send.delay()
        assert runtime.deliver().all_deleted
        assert caught[0] is SoftTimeLimitExceeded
        assert len(runtime.stack.dead_letters()) == 1

    @pytest.mark.parametrize("limit", ["soft_time_limit", "time_limit"])
    @pytest.mark.parametrize("how", ["gather", "task", "group", "wait_for", "timeout"])
    def test_it_ends_what_the_body_awaits(self, runtime, how, limit):
        if how in {"group", "timeout"} and not hasattr(asyncio, "TaskGroup"):
            pytest.skip("of Python 3.11")
        ended = []

        async def child():
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(asyncio.current_task())

        async def children():
            if how == "gather":
                await asyncio.gather(child(), child(), return_exceptions=True)
            elif how == "task":
                await asyncio.create_task(child())
            elif how == "wait_for":
                await asyncio.wait_for(child(), WAIT_SECONDS)
            elif how == "timeout":
                async with asyncio.timeout(WAIT_SECONDS):
                    await child()
            else:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(child())
                    tasks.create_task(child())

        @runtime.task
        async def send():
            try:
                await children()
            except (SoftTimeLimitExceeded, HardTimeLimit):
                in_time = len(ended)
                if hasattr(asyncio.current_task(), "cancelling"):
                    assert asyncio.current_task().cancelling() == 0
                return in_time

        result = send.apply_async(**{limit: 0.1})
        assert runtime.deliver().all_deleted
        assert result_of(runtime, result).result == {"gather": 2, "group": 2}.get(how, 1)

    @pytest.mark.parametrize(
        ("limit", "error"),
        [("soft_time_limit", SoftTimeLimitExceeded), ("time_limit", TimeLimitExceeded)],
    )
    def test_what_answers_it_with_a_cancellation_of_its_own_does_not_hide_it(
        self, runtime, limit, error
    ):
        """As asgiref does where a synchronous function goes on in its thread."""

        async def query():
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise asyncio.CancelledError("query") from None

        @runtime.task(max_retries=0)
        async def send():
            await query()

        send.apply_async(**{limit: 0.1})
        assert runtime.deliver().all_deleted
        (dead,) = runtime.stack.dead_letters()
        named = dead["MessageAttributes"][EXCEPTION_ATTRIBUTE]["StringValue"]
        assert named.startswith(error.__name__)

    def test_a_result_that_came_with_the_limit_is_kept(self, runtime):
        """What the body awaits goes through with it although it is cancelled."""

        async def deliver_mail():
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return "250 OK"

        @runtime.task
        async def send():
            answer = await asyncio.create_task(deliver_mail())
            asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError as exc:
                return [answer, type(exc).__name__]  # its own cancellation, and no limit

        result = send.apply_async(soft_time_limit=0.1)
        assert runtime.deliver().all_deleted
        assert result_of(runtime, result).result == ["250 OK", "CancelledError"]

    def test_a_body_that_ends_by_itself_is_not_struck_afterwards(self, runtime):
        @runtime.task(soft_time_limit=0.05, time_limit=0.05)
        async def send():
            time.sleep(0.1)  # past both, and nowhere to raise them
            return "sent"

        result = send.delay()
        assert runtime.deliver().all_deleted
        assert result_of(runtime, result).result == "sent"

    def test_what_a_signal_raises_in_the_waiting_thread_ends_the_body(self):
        """Where it waits on the main thread, as Lambda's own handlers for SIGTERM would have it."""
        struck, ended = threading.Event(), threading.Event()

        def strike(*args):
            if not struck.is_set():
                struck.set()
                raise KeyboardInterrupt

        async def body():
            try:
                while True:  # a signal just before the thread waits does not wake it
                    signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
                    await asyncio.sleep(0.01)
            finally:
                ended.set()

        before = signal.signal(signal.SIGUSR1, strike)
        try:
            with pytest.raises(KeyboardInterrupt):
                event_loop.run(body(), name="t", task_id="1", soft_seconds=None, hard_seconds=None)
        finally:
            ended.wait(WAIT_SECONDS)
            signal.signal(signal.SIGUSR1, before)
        assert ended.is_set()


class TestBehindAnOrdinaryDecorator:
    @pytest.fixture(params=["wraps", "leaves no trace"])
    def decorator(self, request):
        def decorator(function):
            def wrapper(*args):
                return function(*args)

            return functools.wraps(function)(wrapper) if request.param == "wraps" else wrapper

        return decorator

    @pytest.mark.parametrize("concurrency", [1, 2])
    def test_it_runs_to_its_end_and_then_its_message_is_deleted(
        self, make_runtime, decorator, concurrency
    ):
        runtime = make_runtime(lambda_concurrency=concurrency)

        @runtime.task(bind=True, name="proj.send")
        @decorator
        async def send(self, n):
            await asyncio.sleep(0)
            if n:
                raise ValueError("no such template")
            return [self.request.id, threading.current_thread().name]

        sent, failed = send.delay(0), send.delay(1)
        answer = runtime.deliver(2)

        assert len(answer.failed) == 1
        assert result_of(runtime, sent).result == [sent.id, "lambda-celery-event-loop"]
        assert result_of(runtime, failed).state == "RETRY"
        assert "in send" in result_of(runtime, failed).traceback

    @pytest.mark.parametrize("concurrency", [1, 2])
    @pytest.mark.parametrize("limit", ["soft_time_limit", "time_limit"])
    def test_its_limit_is_raised_where_it_awaits(self, make_runtime, decorator, concurrency, limit):
        runtime = make_runtime(lambda_concurrency=concurrency)
        caught = []

        @runtime.task(name="proj.send", max_retries=0)
        @decorator
        async def send():
            try:
                await asyncio.Event().wait()
            except BaseException as exc:
                caught.append(type(exc).__mro__[1])
                await asyncio.sleep(0)
                return "stopped"

        result = send.apply_async(**{limit: 0.1})
        assert runtime.deliver().all_deleted
        assert result_of(runtime, result).result == "stopped"
        assert caught == [SoftTimeLimitExceeded if limit == "soft_time_limit" else HardTimeLimit]

    @pytest.mark.parametrize("concurrency", [1, 2])
    def test_what_the_decorator_does_is_limited_too(self, make_runtime, concurrency):
        runtime = make_runtime(lambda_concurrency=concurrency)

        def runs_it_itself(function):
            @functools.wraps(function)
            def wrapper():
                asyncio.run(function())
                while True:
                    time.sleep(0.01)

            return wrapper

        @runtime.task(soft_time_limit=0.1)
        @runs_it_itself
        async def send():
            await asyncio.sleep(0)

        result = send.delay()
        assert runtime.deliver().all_returned
        assert type(result_of(runtime, result).result) is SoftTimeLimitExceeded

    def test_the_time_of_the_decorator_counts(self):
        async def body():
            await asyncio.Event().wait()

        with pytest.raises(SoftTimeLimitExceeded) as caught:
            event_loop.run(
                body(), name="t", task_id="1",
                soft_seconds=3600, hard_seconds=None, passed_seconds=3600,
            )  # fmt: skip
        assert caught.value.args == (3600,)

    def test_an_asynchronous_generator_fails(self, runtime, decorator):
        @runtime.task(name="proj.pages", max_retries=0)
        @decorator
        async def pages():
            yield 1

        pages.delay()
        assert runtime.deliver().all_deleted
        (dead,) = runtime.stack.dead_letters()
        error = dead["MessageAttributes"][EXCEPTION_ATTRIBUTE]["StringValue"]
        assert "proj.pages is an asynchronous generator" in error


class TestLeftBehind:
    def test_it_is_cancelled_with_a_warning(self, runtime, caplog):
        ended = []

        async def background():
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                ended.append(current_task.request.id)

        @runtime.task(name="proj.send")
        async def send():
            kept.append(asyncio.create_task(background()))
            kept.append(asyncio.create_task(background()))
            await asyncio.sleep(0)
            return "sent"

        kept: list[asyncio.Task[None]] = []
        result = send.delay()
        assert runtime.deliver().all_deleted
        assert ended == [result.id] * 2
        assert result_of(runtime, result).result == "sent"
        (warning,) = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
        assert warning.startswith(f"Task proj.send[{result.id}] has ended and left 2 asyncio tasks")

    def test_its_cleaning_up_is_not_the_bodys_time(self, runtime):
        ended = []

        async def background():
            try:
                await asyncio.Event().wait()
            finally:
                time.sleep(0.1)
                await asyncio.sleep(0.01)
                ended.append(1)

        @runtime.task(soft_time_limit=0.05, time_limit=0.05)
        async def send():
            kept.append(asyncio.create_task(background()))
            await asyncio.sleep(0)

        kept: list[asyncio.Task[None]] = []
        send.delay()
        assert runtime.deliver().all_deleted
        assert ended == [1]

    def test_what_has_ended_needs_no_warning(self, runtime, caplog):
        @runtime.task
        async def send():
            await asyncio.gather(*(asyncio.sleep(0) for _ in range(3)))

        send.delay()
        assert runtime.deliver().all_deleted
        assert [each for each in caplog.records if each.levelname == "WARNING"] == []
