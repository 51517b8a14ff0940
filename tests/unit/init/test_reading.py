"""What is read of an app: queues, time-outs, which tasks may move."""

from __future__ import annotations

import pytest
from celery import Celery
from kombu import Queue
from kombu.common import Broadcast

from lambda_celery.exceptions import ConfigurationError
from lambda_celery.init.errors import InitError
from lambda_celery.init.reading import is_fifo, read


def make_app(**conf) -> Celery:
    app = Celery("proj", broker="memory://", set_as_current=False)
    app.conf.update(conf)
    return app


def with_task(app, name, **options):
    @app.task(name=name, shared=False, **options)
    def body():
        pass


def route(name, args, kwargs, options, task=None, **kw):
    return {"queue": f"of-{name.rpartition('.')[2]}"}


def broken_route(name, args, kwargs, options, task=None, **kw):
    return {"queue": args[0]}


@pytest.mark.parametrize(
    ("conf", "queues"),
    [
        ({}, ("celery",)),
        ({"task_default_queue": "usual"}, ("usual",)),
        ({"task_routes": {"mail.*": "mail", "a": {"queue": "b"}}}, ("celery", "b", "mail")),
        ({"task_routes": ([("mail.*", {"queue": "mail"})], {"x": "y"})}, ("celery", "mail", "y")),
        ({"task_routes": {"mail.*": {"queue": Queue("mail")}}}, ("celery", "mail")),
        ({"task_routes": {"mail.*": {"routing_key": "x"}}}, ("celery",)),
        ({"task_queues": [Queue("mail"), Queue("orders.fifo")]}, ("celery", "mail", "orders.fifo")),
        ({"task_queues": {"mail": {}}}, ("celery", "mail")),
        ({"task_routes": route}, ("celery", "of-send")),
        ({"task_routes": f"{__name__}.no"}, None),
    ],
)  # fmt: skip
def test_queues_are_those_of_routes_and_settings(conf, queues):
    app = make_app(**conf)
    with_task(app, "mail.send")

    facts = read(app)

    if queues is None:  # a router that cannot be imported
        assert facts.queues == ("celery",)
        assert "does not say where mail.send goes" in facts.notes[0]
    else:
        assert facts.queues == queues
        assert facts.notes == ()


@pytest.mark.filterwarnings("ignore::celery.exceptions.CDeprecationWarning")
def test_a_tasks_own_queue_counts_and_a_broadcast_does_not():
    app = make_app(task_queues=[Broadcast("all")])
    with_task(app, "mail.send", queue="mail")
    with_task(app, "mail.stay", queue="old", lambda_celery=False)

    facts = read(app)

    assert facts.queues == ("celery", "mail")
    assert "broadcasts" in facts.notes[0]


def test_a_router_that_wants_arguments_is_told_of():
    app = make_app(task_routes=broken_route)
    with_task(app, "mail.send")

    facts = read(app)

    assert facts.queues == ("celery",)
    assert "does not say where mail.send goes: IndexError" in facts.notes[0]


def test_fifo_queues_are_told_by_their_names():
    assert is_fifo("orders.fifo")
    assert not is_fifo("fifo")


@pytest.mark.parametrize(
    ("conf", "options", "timeout"),
    [
        ({}, [{}], 60),
        ({}, [{"time_limit": 10}], 60),
        ({}, [{"time_limit": 300}, {"soft_time_limit": 100}], 310),
        ({"task_time_limit": 200.5}, [{}], 211),
        ({"task_soft_time_limit": 400}, [{"time_limit": 100}], 410),
        ({"lambda_time_reserve_seconds": 20}, [{"time_limit": 300}], 325),
        ({}, [{"time_limit": 899}], 900),
        ({}, [{"time_limit": 3600}, {"time_limit": 120}], 130),
        ({}, [{"time_limit": 300, "lambda_celery": False}], 60),
    ],
)
def test_the_timeout_is_the_longest_limit_and_what_it_needs_besides(conf, options, timeout):
    app = make_app(**conf)
    for number, each in enumerate(options):
        with_task(app, f"mail.task{number}", **each)

    assert read(app).timeout == timeout


def test_tasks_that_take_too_long_stay():
    app = make_app()
    for name, limit in [("mail.send", None), ("report.daily", 60), ("report.yearly", 3600)]:
        with_task(app, name, time_limit=limit)
    with_task(app, "mail.sub.send")
    with_task(app, "bare")
    with_task(app, "shop.order")
    with_task(app, "shop.slow.order", soft_time_limit=1000)

    facts = read(app)

    assert facts.tasks == ("bare", "mail.*", "mail.sub.*", "report.daily", "shop.order")
    assert [each.split(" may take")[0] for each in facts.notes] == [
        "report.yearly",
        "shop.slow.order",
    ]


def test_what_cannot_be_read_is_a_sentence():
    with pytest.raises(InitError, match="cannot be imported: ModuleNotFoundError"):
        read(make_app(include=["nothing_of_that_name"]))
    app = make_app(lambda_time_reserve_seconds="long")
    with_task(app, "mail.send", time_limit=100)
    with pytest.raises(ConfigurationError, match="lambda_time_reserve_seconds"):
        read(app)
