"""A task's own idempotency key means the same, however a call is written."""

from __future__ import annotations

import contextlib
import functools
import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from uuid import UUID

import pytest

import lambda_celery
from lambda_celery import ConfigurationError
from lambda_celery.table.canonical import canonical


@pytest.fixture
def ran():
    return []


def injecting(function):
    """Pass a connection on, which no caller knows of."""

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function("connection", *args, **kwargs)

    return wrapper


def injecting_by_name(function):
    @functools.wraps(function)
    def wrapper(order, note=""):
        return function("connection", order, note)

    return wrapper


@contextlib.contextmanager
def transaction():
    yield


def call(runtime, task, *calls):
    """Publish the calls, each a pair of args and kwargs, and run them."""
    for args, kwargs in calls:
        task.apply_async(args, kwargs)
    for _ in calls:
        assert runtime.deliver().all_deleted


class TestBehindADecorator:
    def test_that_hides_the_names_a_named_argument_is_refused_at_the_declaration(self):
        with pytest.raises(ConfigurationError, match=r"wants 'order', but a decorator"):

            @lambda_celery.task(idempotency_key=lambda order: order)
            @injecting
            def confirm(connection, order):
                """It is never run."""

    def test_and_at_the_start(self, runtime):
        @runtime.task(idempotency_key=lambda order: order)
        @injecting
        def confirm(connection, order):
            """It is never run."""

        with pytest.raises(ConfigurationError, match="as that does"):
            runtime.handler  # noqa: B018

    def test_that_hides_the_names_a_key_of_any_arguments_gets_what_the_call_gives(
        self, runtime, ran
    ):
        @runtime.task(idempotency_key=lambda *args, **kwargs: [args, kwargs])
        @injecting
        def confirm(connection, order, note=""):
            ran.append((connection, order, note))

        call(runtime, confirm, ((1,), {}), ((1,), {}), ((1,), {"note": "b"}), ((2,), {}))

        assert ran == [("connection", 1, ""), ("connection", 1, "b"), ("connection", 2, "")]

    def test_that_names_its_arguments_they_are_bound_as_it_says(self, runtime, ran):
        @runtime.task(idempotency_key=lambda order: order)
        @injecting_by_name
        def confirm(connection, order, note):
            ran.append((connection, order, note))

        call(runtime, confirm, ((1,), {}), ((), {"order": 1}), ((1, "again"), {}))

        assert ran == [("connection", 1, "")]

    @pytest.mark.parametrize("bind", [False, True])
    def test_that_changes_no_argument_the_names_are_the_functions(self, runtime, ran, bind):
        if bind:

            @runtime.task(bind=True, idempotency_key=lambda order: order, autoretry_for=(OSError,))
            @transaction()
            def confirm(self, order, note=""):
                ran.append(order)
        else:

            @runtime.task(idempotency_key=lambda order: order, autoretry_for=(OSError,))
            @transaction()
            def confirm(order, note=""):
                ran.append(order)

        call(runtime, confirm, ((1,), {}), ((), {"order": 1}), ((1, "again"), {}))

        assert ran == [1]

    def test_of_a_coroutine_function(self, runtime, ran):
        @runtime.task(idempotency_key=lambda order: order, autoretry_for=(OSError,))
        async def confirm(order):
            ran.append(order)

        call(runtime, confirm, ((1,), {}), ((), {"order": 1}))

        assert ran == [1]

    def test_that_instruments_the_task_later_nothing_changes(self, runtime, ran):
        @runtime.task(idempotency_key=lambda order: order)
        def confirm(order):
            ran.append(order)

        assert runtime.handler
        task = runtime.app.tasks[confirm.name]
        plain = task.run
        task.run = functools.wraps(plain)(lambda *args, **kwargs: plain(*args, **kwargs))

        call(runtime, confirm, ((1,), {}), ((), {"order": 1}))

        assert ran == [1]


@pytest.mark.parametrize("bind", [False, True])
@pytest.mark.parametrize("is_async", [False, True])
def test_with_pydantic_the_key_gets_models_as_the_body_does(runtime, ran, bind, is_async):
    pydantic = pytest.importorskip("pydantic")

    class Order(pydantic.BaseModel):
        number: int
        note: str = ""

    def key(order: Order):
        assert isinstance(order, Order)
        return order.number

    def confirm(order: Order):
        ran.append(order.number)

    def bound(self, order: Order):
        ran.append(order.number)

    async def coroutine(order: Order):
        ran.append(order.number)

    async def bound_coroutine(self, order: Order):
        ran.append(order.number)

    bodies = {
        (False, False): confirm, (True, False): bound,
        (False, True): coroutine, (True, True): bound_coroutine,
    }  # fmt: skip
    body = bodies[bind, is_async]
    # The file's annotations are texts, and this class is none of the module's.
    body.__annotations__["order"] = Order
    task = runtime.task(name="confirm", pydantic=True, bind=bind, idempotency_key=key)(body)
    call(
        runtime, task,
        (({"number": 1},), {}), ((), {"order": {"number": 1, "note": "again"}}),
    )  # fmt: skip

    assert ran == [1]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": 1, "b": [1, 2.5]}, {"a": 1.0, "b": (1.0, 2.5)}),
        ({"x", "y", "z"}, {"z", "y", "x"}),
        ({"a": frozenset({1, 2})}, {"a": {2, 1}}),
        (1, 1.0),
        (Decimal("1.10"), Decimal("1.1")),
        (Decimal("0.5"), 0.5),
        (UUID(int=7), str(UUID(int=7))),
        (
            datetime(2026, 1, 1, 12, tzinfo=UTC),
            datetime(2026, 1, 1, 14, tzinfo=timezone(timedelta(hours=2))),
        ),
        (("a", b"b"), ["a", b"b"]),
    ],
)
def test_equal_keys_are_one(first, second):
    assert canonical(first) == canonical(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"a": 1}, {"a": "1"}),
        ([1, 2], [2, 1]),
        ({"a": True}, {"a": 1}),
        (Decimal("1.00000000000000000001"), Decimal("1.00000000000000000002")),
        (0.1, 0.2),
        (["ab"], ["a", "b"]),
        ({"a": None}, {}),
    ],
)
def test_other_keys_are_others(first, second):
    assert canonical(first) != canonical(second)


@pytest.mark.parametrize("key", ["order-7", 7])
def test_the_text_of_a_simple_key_is_what_it_was(key):
    """Records that were written before are found."""
    assert canonical(key) == str(key)


def test_an_enums_member_is_its_value():
    assert canonical(Enum("Colour", "RED GREEN").RED) == "1"


def test_what_is_no_data_is_refused_with_a_reason(make_runtime, ran):
    runtime = make_runtime(lambda_max_receive_count=1)

    @runtime.task(idempotency_key=lambda order: object())
    def confirm(order):
        ran.append(order)

    confirm.delay(1)
    assert runtime.deliver().all_deleted
    (parked,) = runtime.stack.dead_letters()
    assert "which is no data" in json.dumps(parked["MessageAttributes"])
    assert ran == []


def test_equal_mappings_run_once(runtime, ran):
    @runtime.task(idempotency_key=lambda order: {"order": order, "kind": {"mail", "sms"}})
    def confirm(order):
        ran.append(order)

    call(runtime, confirm, (({"a": 1, "b": 2},), {}), (({"b": 2.0, "a": 1},), {}))

    assert len(ran) == 1
