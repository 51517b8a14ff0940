"""Which failures are meant, and which arguments a person may give them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from celery import Celery

from lambda_celery.exceptions import FailedTaskError
from lambda_celery.failures import Failure, Selection
from lambda_celery.failures.selection import parse_age
from lambda_celery.failures.signature import check_arguments, read, written

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
FAILURE = Failure(
    id="failure#1",
    task="shop.send",
    task_id="ann",
    queue="arn:aws:sqs:eu-west-1:123456789012:mail",
    dead_letter_queue="",
    reason="failed",
    exception="ValueError",
    failed_at=NOW - timedelta(hours=2),
    attempts=3,
    size=100,
)


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("30s", timedelta(seconds=30)),
        ("15m", timedelta(minutes=15)),
        ("2h", timedelta(hours=2)),
        (" 3 d ", timedelta(days=3)),
        ("1w", timedelta(weeks=1)),
    ],
)
def test_ages(text, age):
    assert parse_age(text) == age


@pytest.mark.parametrize("text", ["", "2", "h", "-1h", "1.5h", "2 hours", "9999999d"])
def test_no_ages(text):
    with pytest.raises(FailedTaskError, match="is no age: write it as 30s, 15m, 2h, 3d or 1w"):
        parse_age(text)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ids": frozenset({"ann", "bob"})},
        {"ids": frozenset({"failure#1"})},
        {"task": "shop.*"},
        {"exception": "*Error"},
        {"queue": "mail"},
        {"queue": "arn:aws:sqs:*:mail"},
        {"older_than": timedelta(hours=2), "newer_than": timedelta(hours=2)},
    ],
)
def test_it_is_meant(options):
    assert Selection(**options, now=NOW).matches(FAILURE)


@pytest.mark.parametrize(
    "options",
    [
        {"ids": frozenset({"bob"})},
        {"task": "shop"},
        {"exception": "failed"},
        {"queue": "*:other"},
        {"older_than": timedelta(hours=3)},
        {"newer_than": timedelta(hours=1)},
        {"task": "shop.*", "exception": "KeyError"},
    ],
)
def test_it_is_not_meant(options):
    assert not Selection(**options, now=NOW).matches(FAILURE)


def test_without_an_exception_its_reason_counts():
    lost = replace(FAILURE, exception="", reason="the process was lost")
    assert Selection(exception="the process*").matches(lost)


def test_what_was_sent_back_is_meant_by_its_id_or_on_demand():
    sent_back = replace(FAILURE, retried_at=NOW)
    assert not Selection().matches(sent_back)
    assert Selection(with_retried=True).matches(sent_back)
    assert Selection(frozenset({"ann"})).matches(sent_back)


@pytest.fixture
def app():
    app = Celery("shop", set_as_current=False)

    @app.task(name="send", shared=False)
    def send(to, *, copies=1):
        pass

    @app.task(name="bound", bind=True, shared=False)
    def bound(self, to):
        pass

    @app.task(name="untyped", typing=False, shared=False)
    def untyped():
        pass

    return app


@pytest.mark.parametrize(
    ("name", "args", "kwargs"),
    [
        ("send", ["ann"], {"copies": 2}),
        ("bound", ["ann"], {}),
        ("untyped", ["ann"], {}),
        ("of.another.process", ["ann"], {"copies": 2}),
    ],
)
def test_arguments_of_the_task(app, name, args, kwargs):
    check_arguments(app, name, args, kwargs)


@pytest.mark.parametrize(
    ("name", "args", "kwargs"),
    [("send", [], {}), ("send", ["ann", 2], {}), ("bound", ["ann", "bob"], {})],
)
def test_no_arguments_of_the_task(app, name, args, kwargs):
    with pytest.raises(FailedTaskError, match=f"These are no arguments of {name}"):
        check_arguments(app, name, args, kwargs)


def test_what_is_edited_is_read_as_it_was_written():
    arguments = ([1, "ann", None], {"day": date(2026, 11, 26)})
    assert read(written(*arguments)) == arguments


@pytest.mark.parametrize("text", ["[]", '{"args": {}, "kwargs": {}}', '{"args": []}'])
def test_what_is_edited_has_both(text):
    with pytest.raises(FailedTaskError, match="a list and an object"):
        read(text)


def test_what_json_has_no_form_for_is_not_edited():
    with pytest.raises(FailedTaskError, match="cannot be written as JSON"):
        written([object()], {})
