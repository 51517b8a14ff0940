"""What the hooks rely on in Celery's private parts. A new release that changes it fails here."""

from __future__ import annotations

import os
import threading
import weakref
from weakref import ReferenceType

import pytest
from celery import Celery, Task, _state, current_app
from celery.app import trace
from celery.app.amqp import AMQP
from celery.app.registry import TaskRegistry
from celery.backends.dynamodb import DynamoDBBackend
from celery.fixups.django import DjangoFixup
from celery.loaders.base import BaseLoader
from celery.utils.threads import LocalStack
from celery.worker.request import Request
from greenlet import greenlet

from lambda_celery import ConfigurationError
from lambda_celery.celery_hooks import apps, declared, in_tests, thread_state, wrappers
from lambda_runtime.celery_hooks import tracing
from lambda_runtime.celery_hooks.broker_pool import renew_broker_connections
from lambda_runtime.celery_hooks.restored import close_result_connections, renew_ids
from lambda_runtime.python_hooks import run_after_forkers


@pytest.fixture
def app():
    return Celery("contract", broker="memory://", backend="cache+memory://", set_as_current=False)


def nothing():
    """A task's body."""


def test_a_callback_for_every_app_is_called_before_the_apps_tasks_are_made():
    """celery_hooks/apps.py: on_every_app sees tasks before they are bound."""
    seen = []

    def note(app):
        seen.append((app.main, sorted(app._tasks)))

    _state.connect_on_app_finalize(note)
    try:
        app = Celery("every", set_as_current=False)
        app.task(nothing, name="late", shared=False)
        app.finalize()
    finally:
        _state._on_app_finalizers.discard(note)
    assert ("every", []) in [(main, [n for n in names if n == "late"]) for main, names in seen]


def test_living_apps_are_listed(app):
    """celery_hooks/apps.py: on_every_app reaches the apps that there are."""
    assert isinstance(_state._get_active_apps(), weakref.WeakSet | list | set)
    assert any(each is app for each in _state._get_active_apps())


def test_tasks_are_found_without_finalizing_the_app():
    """celery_hooks/apps.py: find_task."""
    app = Celery("lazy", autofinalize=False, set_as_current=False)
    assert isinstance(app._tasks, TaskRegistry)
    assert apps.find_task(app, "nothing") is None
    assert not app.finalized


def test_every_task_message_leaves_by_one_cached_function(app):
    """celery_hooks/amqp.py overrides it on the instance's class."""
    assert "send_task_message" in vars(AMQP)
    assert callable(app.amqp.send_task_message)
    assert "send_task_message" in vars(app.amqp)


def test_a_task_comes_into_the_registry_before_it_is_bound(app):
    """celery_hooks/declared.py notes then what it is declared with."""
    bound = []

    class Registry(TaskRegistry):
        def __setitem__(self, name, task):
            bound.append((name, bool(vars(type(task)).get("__bound__"))))
            super().__setitem__(name, task)

    app._tasks.__class__ = Registry
    app.task(nothing, name="mail", shared=False)
    app.finalize()
    app.register_task(type("Order", (app.Task,), {"name": "order"})())
    assert ("mail", False) in bound
    assert ("order", False) in bound
    assert vars(type(app.tasks["mail"]))["__bound__"] is True


def test_a_decorated_tasks_class_says_so(app):
    """celery_hooks/declared.py: is_decorated, is_pydantic."""

    @app.task(shared=False)
    def mail():
        pass

    task = app.tasks[mail.name]
    assert declared.is_decorated(task)
    assert not declared.is_pydantic(task)
    assert not declared.is_decorated(type("Order", (Task,), {"name": "order"})())


def test_the_function_of_a_pydantic_task_can_be_had_and_exchanged(app):
    """celery_hooks/wrappers.py copies Celery's closure around it."""
    pytest.importorskip("pydantic")

    @app.task(shared=False, pydantic=True)
    def mail(address: str) -> str:
        return address

    task = app.tasks[mail.name]
    assert declared.is_pydantic(task)
    assert task._decorated_fun("ann") == "ann"
    run = wrappers.with_validation(task, task.run, lambda address: f"exchanged {address}")
    assert run("ann") == "exchanged ann"


def test_a_pydantic_wrapper_of_another_shape_is_refused_in_a_sentence(app):
    task = app.task(nothing, name="mail", shared=False)
    with pytest.raises(ConfigurationError, match="leave pydantic out"):
        wrappers.with_validation(task, lambda: None, nothing)


def test_with_autoretry_the_tasks_own_function_is_kept(app):
    """celery_hooks/async_tasks.py replaces that one."""

    @app.task(shared=False, autoretry_for=(ValueError,))
    def mail():
        return "run"

    task = app.tasks[mail.name]
    assert task._orig_run() == "run"
    task._orig_run = lambda: "replaced"
    assert task.run() == "replaced"


def test_what_celery_keeps_for_a_thread_can_be_carried_to_another(app):
    """celery_hooks/thread_state.py: CeleryState."""
    assert isinstance(_state._task_stack, LocalStack)
    task = app.task(nothing, name="mail", shared=False)
    found = []
    task.push_request(id="7")
    _state._task_stack.push(task)
    try:
        state = thread_state.CeleryState()
        thread = threading.Thread(
            target=state.call, args=(lambda: found.append(_state.get_current_task().request.id),)
        )
        thread.start()
        thread.join(30)
    finally:
        _state._task_stack.pop()
        task.pop_request()
    assert found == ["7"]
    assert thread_state.current_task() is None
    assert thread_state.worker_task() is None
    assert hasattr(_state._tls, "current_app")


def test_the_tracer_calls_the_given_class_for_a_task_that_raised(app):
    """running/execution.py: AttemptInfo. And it calls __call__ where that is a task's own."""
    calls = []

    class Info(trace.TraceInfo):
        def handle_error_state(self, task, req, eager=False, call_errbacks=True):
            calls.append((self.state, repr(self.retval), call_errbacks))

    class Base(Task):
        def __call__(self, *args, **kwargs):
            calls.append("called")
            return super().__call__(*args, **kwargs)

    @app.task(shared=False, base=Base)
    def mail():
        raise ValueError("bug")

    tracer = trace.build_tracer(
        mail.name, app.tasks[mail.name], app.loader, "host", app=app, Info=Info
    )
    tracer("7", (), {}, {})
    assert calls == ["called", ("FAILURE", "ValueError('bug')", True)]


def test_a_back_end_stores_a_success_and_fails_a_chord_by_these_methods(app):
    """celery_hooks/tracing.py wraps them on the back end's class."""
    assert callable(type(app.backend).mark_as_done)
    assert callable(type(app.backend).chord_error_from_stack)


def test_a_request_tells_whether_its_success_is_stored():
    """celery_hooks/tracing.py: success_is_stored."""
    assert callable(Request._success_was_stored)


def test_the_apps_pool_can_be_emptied_and_used_again(app):
    """celery_hooks/broker_pool.py."""
    assert app._pool is None
    renew_broker_connections(app)
    assert app._pool is None
    with app.pool.acquire(block=True) as before:
        before.ensure_connection()
    renew_broker_connections(app)
    assert not before.connected
    with app.pool.acquire(block=True) as after:
        after.ensure_connection()


def test_a_forked_child_closes_the_connections_in_its_parents_pool_and_makes_its_own(app):
    """python_hooks.py: run_after_forkers; kombu and Celery register with multiprocessing."""
    with app.pool.acquire(block=True) as connection:
        connection.ensure_connection()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            run_after_forkers()
            was_closed = not connection.connected
            with app.pool.acquire(block=False) as own:
                own.ensure_connection()
            code = int(not was_closed or own is connection)
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert connection.connected


def test_the_django_fixup_is_among_the_apps_fixups(app, monkeypatch):
    """celery_hooks/bootstrap.py installs what a worker's signal would."""
    assert isinstance(app._fixups, list)
    assert hasattr(DjangoFixup, "worker_fixup")


def test_whether_waiting_for_a_result_is_refused_is_a_switch():
    """celery_hooks/bootstrap.py throws it."""
    before = _state.task_join_will_block()
    _state._set_task_join_will_block(True)
    try:
        assert _state.task_join_will_block() is True
    finally:
        _state._set_task_join_will_block(before)


@pytest.mark.parametrize(
    "name",
    ["_get_client", "_has_ttl", "_delete_group", "_apply_chord_incr", "_item_to_dict",
     "_key_field", "_value_field", "_ttl_field", "_chord_result_expires"],
)  # fmt: skip
def test_the_dynamodb_back_end_is_made_of_what_ours_overrides_or_uses(name):
    """celery_hooks/dynamodb_results.py."""
    assert hasattr(DynamoDBBackend, name), (
        f"Celery's DynamoDBBackend has no {name} any longer: see celery_hooks/dynamodb_results.py."
    )


def test_celery_keeps_its_stacks_for_each_greenlet_where_that_is_installed():
    """lambda_celery/celery_hooks/thread_state.py: else asynchronous tasks wait on threads."""
    assert thread_state.has_stacks_for_greenlets()
    stack = LocalStack()
    stack.push("of this one")
    seen = []
    greenlet(lambda: seen.append(stack.top)).switch()
    assert seen == [None]


def test_a_signals_receivers_can_be_looked_at():
    """lambda_runtime/celery_hooks/tracing.py: whether somebody's may take time."""

    def receive(**_):
        """Somebody's."""

    for signal in tracing._SIGNALS_OF_A_RUN:
        signal.connect(receive, weak=False)
        try:
            assert receive in [found for _, found in signal.receivers]
        finally:
            signal.disconnect(receive)
        signal.connect(receive)
        try:
            references = [found for _, found in signal.receivers]
            assert receive in [each() for each in references if isinstance(each, ReferenceType)]
        finally:
            signal.disconnect(receive)


@pytest.mark.parametrize("name", tracing._LOADER_HOOKS)
def test_what_a_loader_has_for_a_task_is_its_own_to_change(name):
    """lambda_runtime/celery_hooks/tracing.py: one that has changed it may take time."""
    assert callable(getattr(BaseLoader, name))


def test_the_ids_of_an_app_follow_from_one_of_kombus():
    """celery_hooks/restored.py: two copies of a process would have the same."""
    app = Celery("restored", set_as_current=False)
    before = app.oid, app.thread_oid
    assert before == (app.oid, app.thread_oid)
    renew_ids(app)

    assert not {app.oid, app.thread_oid} & set(before)


def test_a_result_back_end_that_was_not_used_stays_so():
    """celery_hooks/restored.py: asking for it, or for its client, would make them."""
    app = Celery("restored", backend="redis://127.0.0.1:1", set_as_current=False)
    close_result_connections(app)
    assert app._backend is None
    backend = app.backend
    close_result_connections(app)
    assert "client" not in vars(backend)


def test_the_connections_of_redis_are_ended(monkeypatch):
    """celery_hooks/restored.py: where Redis's back end keeps them."""
    app = Celery("restored", backend="redis://127.0.0.1:1", set_as_current=False)
    ended = []
    monkeypatch.setattr(app.backend.client.connection_pool, "disconnect", lambda: ended.append(1))
    close_result_connections(app)
    assert ended == [1]


def test_a_body_is_looked_up_when_it_is_called():
    """celery_hooks/in_tests.py: what takes its place runs, beneath ``autoretry_for``."""
    app = Celery("bodies", broker="memory://", set_as_current=False)
    plain = app.task(nothing, name="plain", shared=False)
    retrying = app.task(nothing, name="retrying", shared=False, autoretry_for=(ValueError,))
    assert not hasattr(plain, "_orig_run")
    assert callable(retrying._orig_run)

    for task in (plain, retrying):
        task()
        before = dict(vars(task))
        with in_tests.body_replaced(task, lambda body: lambda: "replaced"):
            assert task() == "replaced"
            assert tracing.make_tracer(app, task, "here", trace.TraceInfo)
        assert task() is None
        assert vars(task) == before


@pytest.fixture
def unprotected(app):
    """Have direct calls of tasks as they are where no worker was started."""
    was_protected = hasattr(Task, "_stackprotected")
    trace.reset_worker_optimizations(app)
    yield
    if was_protected:
        trace._install_stack_protection()


def test_what_a_worker_does_to_the_process_is_taken_back(monkeypatch, unprotected):
    """celery_hooks/in_tests.py: process_given_back."""
    monkeypatch.setattr(_state, "default_app", _state.default_app)
    before = Celery("before", broker="memory://")
    app = Celery("worker", broker="memory://", set_as_current=False)
    call, default = Task.__call__, _state.default_app
    with in_tests.process_given_back(app):
        trace.setup_worker_optimizations(app)
        assert Task.__call__ is not call
        assert current_app == _state.default_app == app
    assert Task.__call__ is call
    assert (current_app, _state.default_app) == (before, default)
    assert not app.use_fast_trace_task

    with in_tests.process_given_back(app):
        made = Celery("made", broker="memory://")
    assert current_app == made


def test_whether_results_may_be_waited_for_is_of_the_process():
    """celery_hooks/in_tests.py: as_in_worker."""
    before = _state.task_join_will_block()
    with in_tests.as_in_worker():
        assert _state.task_join_will_block()
    assert _state.task_join_will_block() is before
