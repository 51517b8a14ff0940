"""Coroutine functions as tasks, where no runtime is: called, eager, awaited around, declared."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import pickle
import signal
import subprocess
import sys
import threading
from concurrent.futures import CancelledError
from contextvars import ContextVar

import pytest
from celery import Celery, Task, _state, current_task, shared_task
from celery.app import trace
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from pydantic import BaseModel

from lambda_celery import install
from lambda_celery.celery_hooks.async_tasks import is_async
from lambda_celery.celery_hooks.registry import async_names
from lambda_celery.installation import _install
from lambda_celery.task import task as lambda_task


@pytest.fixture
def app():
    app = Celery("proj", broker="memory://", backend="cache+memory://", set_as_current=True)
    app.conf.task_always_eager = True
    install(app)
    return app


@pytest.fixture
def only_by_hand(monkeypatch):
    """Apps are not installed by themselves: the decorator, in another test, sees to that."""
    finalizers = {each for each in _state._on_app_finalizers if each is not _install}
    monkeypatch.setattr(_state, "_on_app_finalizers", finalizers)


def add(app, **options):
    @app.task(name="proj.add", shared=False, **options)
    async def add(x, y=0):
        await asyncio.sleep(0)
        return x + y

    return app.tasks[add.name]


class TestCalled:
    @pytest.fixture(params=["asyncio", "asgiref"], autouse=True)
    def asgiref(self, request, monkeypatch):
        """Without Django, and with it."""
        if request.param == "asgiref":
            pytest.importorskip("asgiref.sync")
        else:
            monkeypatch.setitem(sys.modules, "asgiref.sync", None)

    @pytest.mark.parametrize(
        "call",
        [
            lambda task: task(1, y=2),
            lambda task: task.run(1, y=2),
            lambda task: task.apply((1,), {"y": 2}).get(),
            lambda task: task.delay(1, y=2).get(),
            lambda task: task.s(1).apply_async((), {"y": 2}).get(),
        ],
        ids=["task()", "run", "apply", "delay", "signature"],
    )
    def test_it_runs_to_its_end(self, app, call):
        assert call(add(app)) == 3

    @pytest.mark.parametrize(
        "call", [lambda task: task(1, y=2), lambda task: task.delay(1, 2).get()]
    )
    def test_so_it_does_where_a_loop_is_running(self, app, call):
        task = add(app)

        async def view():
            return call(task)

        assert asyncio.run(view()) == 3

    def test_its_body_can_be_awaited(self, app):
        async def view():
            return await add(app).__wrapped__(1, y=2)

        assert asyncio.run(view()) == 3

    def test_what_it_raises_is_raised(self, app):
        @app.task(shared=False)
        async def send():
            await asyncio.sleep(0)
            raise ValueError("no such address")

        with pytest.raises(ValueError, match="no such address"):
            send()
        assert send.delay().state == "FAILURE"

    def test_a_cancelled_coroutine_is_a_failure(self, app):
        @app.task(shared=False)
        async def send():
            asyncio.current_task().cancel()
            await asyncio.sleep(0)

        failed = send.delay()

        assert failed.state == "FAILURE"
        with pytest.raises(CancelledError, match="was cancelled"):
            failed.get()

    @pytest.mark.parametrize("loop_is_running", [False, True])
    def test_it_sees_its_request_and_the_context_of_the_call(self, app, loop_is_running):
        tenant = ContextVar("tenant", default=None)

        @app.task(bind=True, shared=False)
        async def send(self):
            async def child():
                await asyncio.sleep(0)
                return [self.request.id, current_task.name, tenant.get()]

            return await asyncio.gather(child(), child())

        def call():
            tenant.set("acme")
            return send.apply_async(task_id="7").get()

        async def view():
            return call()

        seen = asyncio.run(view()) if loop_is_running else call()
        assert seen == [["7", send.name, "acme"]] * 2

    def test_a_call_in_a_body_is_of_another_request(self, app):
        @app.task(bind=True, shared=False)
        async def inner(self):
            await asyncio.sleep(0)
            return [self.request.id, current_task.name]

        @app.task(bind=True, shared=False)
        async def outer(self):
            called = inner()
            await asyncio.sleep(0)
            return [called, [self.request.id, current_task.name]]

        assert outer.apply(task_id="7").get() == [[None, inner.name], ["7", outer.name]]

    def test_retry(self, app):
        runs = []

        @app.task(bind=True, shared=False)
        async def send(self):
            runs.append(self.request.retries)
            await asyncio.sleep(0)
            if self.request.retries < 2:
                raise self.retry(countdown=0)
            return "sent"

        assert send.delay().get() == "sent"
        assert runs == [0, 1, 2]

    @pytest.mark.parametrize("installed_first", [True, False])
    def test_autoretry(self, installed_first, only_by_hand):
        app = Celery("proj", set_as_current=False)
        app.conf.task_always_eager = True
        if installed_first:
            install(app)
        runs = []

        @app.task(shared=False, autoretry_for=(OSError,), max_retries=2, default_retry_delay=0)
        async def send():
            runs.append(1)
            await asyncio.sleep(0)
            raise ConnectionError("451")

        app.finalize()
        install(app)

        with pytest.raises(ConnectionError):
            send.delay().get()
        assert len(runs) == 3

    @pytest.mark.parametrize(("raised", "state"), [(Ignore, "IGNORED"), (Reject, "REJECTED")])
    def test_ignore_and_reject(self, app, raised, state):
        @app.task(shared=False)
        async def send():
            raise raised

        assert send.apply().state == state


class TestBehindAnOrdinaryDecorator:
    """Which hands the coroutine on, or has run it itself: only the call tells."""

    @pytest.mark.parametrize(
        "call", [lambda task: task(1, y=2), lambda task: task.delay(1, y=2).get()]
    )
    @pytest.mark.parametrize("bind", [False, True])
    def test_it_runs_to_its_end(self, app, call, bind):
        async def body(*args, y):
            await asyncio.sleep(0)
            return args[-1] + y

        task = app.task(bind=bind, shared=False, name="proj.add")(ordinary_decorator(body))

        assert call(task) == 3
        assert inspect.iscoroutinefunction(task.__wrapped__.__wrapped__)

    def test_one_that_runs_it_itself_is_left_to_that(self, app):
        def synchronous(function):
            @functools.wraps(function)
            def wrapper(*args):
                return ["run", asyncio.run(function(*args))]

            return wrapper

        @app.task(shared=False)
        @synchronous
        async def send(x):
            return x

        assert send.delay(1).get() == ["run", 1]

    def test_a_workers_tracer_gets_its_result(self, app):
        @app.task(shared=False)
        @ordinary_decorator
        async def send(x):
            return x

        tracer = trace.build_tracer(send.name, app.tasks[send.name], app=app)
        request = {"id": "7", "args": (), "kwargs": {}, "is_eager": False}

        assert tracer("7", (1,), {}, request)[0] == 1

    def test_autoretry(self, app):
        runs = []

        @app.task(shared=False, autoretry_for=(OSError,), max_retries=2, default_retry_delay=0)
        @ordinary_decorator
        async def send():
            runs.append(1)
            await asyncio.sleep(0)
            raise ConnectionError("451")

        with pytest.raises(ConnectionError):
            send.delay().get()
        assert len(runs) == 3

    def test_pydantic(self, app):
        @app.task(shared=False, pydantic=True)
        @ordinary_decorator
        async def send(order: Order) -> Order:
            return Order(number=order.number + 1)

        assert send.delay({"number": 1}).get() == {"number": 2}

    def test_its_kind_is_not_to_be_told_from_its_name(self, app):
        @app.task(shared=False, name="proj.decorated")
        @ordinary_decorator
        async def send():
            pass

        install(app)  # again
        app.register_task(app.tasks["proj.decorated"])
        assert "proj.decorated" not in async_names(app)

    @pytest.mark.parametrize(
        "decorator", [lambda function: function, lambda f: ordinary_decorator(f)]
    )
    def test_an_asynchronous_generator_is_refused(self, app, decorator):
        @app.task(shared=False, name="proj.pages")
        @decorator
        async def pages():
            yield 1

        with pytest.raises(TypeError, match=r"proj\.pages is an asynchronous generator.* a list"):
            pages.delay().get()


class TestUnderDjango:
    """asgiref is loaded: what is declared synchronous in there runs in the calling thread."""

    @pytest.fixture(autouse=True)
    def asgiref(self):
        return pytest.importorskip("asgiref.sync")

    def test_synchronous_parts_run_in_the_thread_of_the_call(self, app, asgiref):
        @app.task(bind=True, shared=False)
        async def send(self):
            in_sync = await asgiref.sync_to_async(threading.get_ident)()
            return [in_sync == caller, self.request.id]

        caller = threading.get_ident()
        assert send.apply(task_id="7").get() == [True, "7"]

    def test_the_request_is_seen_by_children(self, app):
        @app.task(bind=True, shared=False)
        async def send(self):
            async def child():
                await asyncio.sleep(0)
                return self.request.id

            return await asyncio.create_task(child())

        assert send.apply(task_id="7").get() == "7"

    def test_the_loop_of_the_caller_does_not_see_the_request(self, app, asgiref):
        begun, seen = threading.Event(), threading.Event()

        @app.task(bind=True, shared=False)
        async def send(self):
            begun.set()
            assert await asyncio.to_thread(seen.wait, 30)
            return self.request.id

        async def view():
            called = asyncio.ensure_future(asgiref.sync_to_async(send.apply)(task_id="7"))
            assert await asyncio.to_thread(begun.wait, 30)
            visible = _state.get_current_task()
            seen.set()
            return [visible, (await called).get()]

        assert asyncio.run(view()) == [None, "7"]

    def test_an_exception_in_the_waiting_thread_ends_the_coroutine(self, app):
        """As a worker's soft time limit, which a signal raises."""
        struck, ended = threading.Event(), threading.Event()

        def strike(*args):
            if not struck.is_set():
                struck.set()
                raise SoftTimeLimitExceeded

        @app.task(shared=False)
        async def send():
            try:
                while True:  # a signal just before the thread waits does not wake it
                    signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
                    await asyncio.sleep(0.01)
            finally:
                ended.set()

        before = signal.signal(signal.SIGUSR1, strike)
        try:
            with pytest.raises(SoftTimeLimitExceeded):
                send()
        finally:
            ended.wait(30)
            signal.signal(signal.SIGUSR1, before)
        assert ended.is_set()


class TestDeclared:
    def test_its_signature_is_the_coroutine_functions(self, app):
        task = add(app)

        assert str(inspect.signature(task.run)) == "(x, y=0)"
        assert inspect.iscoroutinefunction(task.__wrapped__)
        assert pickle.loads(pickle.dumps(task)) is task
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
            task.delay()

    def test_bound(self, app):
        @app.task(bind=True, shared=False)
        async def name(self, prefix):
            return prefix + self.name

        assert name.delay("a:").get() == f"a:{name.name}"
        assert asyncio.run(name.__wrapped__("a:")) == f"a:{name.name}"

    @pytest.mark.parametrize("bind", [False, True])
    def test_pydantic(self, app, bind):
        async def body(order: Order) -> Order:
            await asyncio.sleep(0)
            return Order(number=order.number + 1)

        async def bound(self, order: Order) -> Order:
            assert self.request.id
            return await body(order)

        declare = app.task(
            name="proj.order", bind=bind, shared=False, pydantic=True, pydantic_strict=True
        )
        task = declare(bound if bind else body)

        assert task.delay({"number": 1}).get() == {"number": 2}
        with pytest.raises(ValueError, match="valid integer"):
            task.delay({"number": "one"}).get()

    def test_a_class(self, app):
        class Send(Task):
            name = "proj.send"

            async def run(self, address):
                await asyncio.sleep(0)
                return [address, self.request.id]

        class SendTwice(Send):
            name = "proj.send_twice"

            async def run(self, address):
                return [await super().run(address), 2]

        app.register_task(Send())
        app.register_task(SendTwice)

        assert app.tasks["proj.send"].apply(("a",), task_id="7").get() == ["a", "7"]
        assert app.tasks["proj.send_twice"].apply(("a",), task_id="7").get() == [["a", "7"], 2]

    def test_a_class_with_a_call_of_its_own(self, app):
        class Doubling(Task):
            def __call__(self, *args, **kwargs):
                return 2 * super().__call__(*args, **kwargs)

        assert add(app, base=Doubling).delay(1, 2).get() == 6

    def test_by_the_decorator_and_as_shared_task(self, app):
        @lambda_task(name="tests.async.ours")
        async def ours():
            return "ours"

        @shared_task(name="tests.async.shared")
        async def shared():
            return "shared"

        assert [ours.delay().get(), shared.delay().get()] == ["ours", "shared"]

    @pytest.mark.parametrize("finalized", [False, True])
    def test_before_the_app_was_installed(self, finalized, only_by_hand):
        app = Celery("proj", set_as_current=False)
        app.conf.task_always_eager = True
        task = add(app) if finalized else app.task(name="proj.add", shared=False)(coroutine)
        install(app)

        assert task.delay(3).get() == 3
        assert is_async(app.tasks["proj.add"])

    def test_after_the_app_was_finalized(self, app):
        app.finalize()

        assert add(app).delay(3).get() == 3

    def test_the_names_of_an_apps_are_known(self, app):
        add(app)

        @app.task(name="proj.ordinary", shared=False)
        def ordinary():
            pass

        assert not is_async(app.tasks["proj.ordinary"])
        assert async_names(app) & {"proj.add", "proj.ordinary"} == {"proj.add"}
        del app.tasks["proj.add"]
        app.register_task(type("Add", (Task,), {"name": "proj.add", "run": lambda self: None}))
        assert "proj.add" not in async_names(app)

    def test_installing_again_changes_nothing(self, app):
        task = add(app)
        run = task.run
        install(app)

        assert task.run is run

    def test_an_app_that_is_not_installed_is_left_alone(self, app, only_by_hand):
        other = Celery("other", set_as_current=False)

        @other.task(shared=False)
        async def send():
            pass

        class Send(Task):
            name = "proj.send"

            async def run(self):
                pass

        app.register_task(Send())
        mine = other.register_task(Send())

        assert inspect.iscoroutinefunction(send.run)
        assert inspect.iscoroutinefunction(mine.run)
        assert type(other._tasks) is type(Celery(set_as_current=False)._tasks)


def ordinary_decorator(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


class Order(BaseModel):
    number: int


async def coroutine(x):
    return x


def test_without_asynchronous_tasks_asyncio_is_not_needed():
    code = """
import sys, json
from lambda_celery import task, install
from celery import Celery
app = Celery("proj", set_as_current=True)
before = "asyncio" in sys.modules

@task
def ordinary(): pass

@task
async def declared(): pass

install(app)
app.finalize()
ordinary()
print(json.dumps([before, "asyncio" in sys.modules]))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    assert json.loads(result.stdout) == [False, False]
