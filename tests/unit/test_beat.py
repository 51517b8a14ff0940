"""Entries of ``beat_schedule`` in EventBridge Scheduler's words; no AWS is asked."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from celery import Celery, signals
from celery.beat import BeatLazyFunc, ScheduleEntry
from celery.schedules import crontab, schedule, solar
from kombu import Exchange, Queue

from lambda_celery import ConfigurationError, PublishError, install
from lambda_celery.beat.expressions import schedule_expression, time_zone_name
from lambda_celery.beat.occurrences import is_for_sqs, occurrence_message
from lambda_celery.beat.sync import schedule_name
from lambda_celery.envelope import read_envelope, read_message
from lambda_celery.schedules.scheduler import SCHEDULED_TIME

QUEUES = "https://sqs.eu-west-1.amazonaws.com/123456789012"


@pytest.fixture
def app():
    app = Celery("proj", broker="amqp://guest@127.0.0.1:1//", set_as_current=False)
    app.conf.update(
        lambda_tasks=["*"],
        lambda_queue_url=f"{QUEUES}/mail",
        lambda_queues={"reports": f"{QUEUES}/reports"},
    )
    install(app)
    return app


@pytest.fixture
def message_of(app):
    """Build the message for an entry of the task ``proj.send``, and read it again."""

    def build(**entry):
        entry = {"name": "send", "task": "proj.send", "schedule": 60, "app": app} | entry
        built = occurrence_message(app, ScheduleEntry(**entry), "beat-send-0")
        return built, read_message(read_envelope(built.body), ["json"], {})

    return build


@pytest.mark.parametrize(
    ("when", "expression"),
    [
        (crontab(), "cron(* * * * ? *)"),
        (crontab(minute=0, hour=7), "cron(0 7 * * ? *)"),
        (crontab(minute="*/15"), "cron(0,15,30,45 * * * ? *)"),
        (crontab(minute="0", hour="8-17"), "cron(0 8-17 * * ? *)"),
        (crontab(minute=30, hour=6, day_of_week="mon-fri"), "cron(30 6 ? * 2-6 *)"),
        (crontab(minute=0, hour=0, day_of_week="sun"), "cron(0 0 ? * 1 *)"),
        (crontab(minute=0, hour=0, day_of_week="sat,sun"), "cron(0 0 ? * 1,7 *)"),
        (crontab(minute=0, hour=0, day_of_month="1,15"), "cron(0 0 1,15 * ? *)"),
        (crontab(0, 0, day_of_month=1, month_of_year="*/3"), "cron(0 0 1 1,4,7,10 ? *)"),
        (schedule(timedelta(minutes=1)), "rate(1 minute)"),
        (schedule(timedelta(minutes=90)), "rate(90 minutes)"),
        (schedule(7200), "rate(2 hours)"),
        (schedule(timedelta(days=1)), "rate(1 day)"),
    ],
)
def test_a_schedule_has_an_expression(when, expression):
    assert schedule_expression(when) == expression


class OwnCrontab(crontab):
    """A schedule of somebody else's, such as django-celery-beat's."""


@pytest.mark.parametrize(
    ("when", "sentence"),
    [
        (crontab(day_of_month=1, day_of_week=1), "both day_of_month and day_of_week"),
        (crontab(nowfun=datetime.now), "cannot call a nowfun"),
        (schedule(90), r"whole minutes alone, and the interval is 0:01:30"),
        (schedule(0), "whole minutes alone"),
        (schedule(timedelta(hours=1), relative=True), "relative=True"),
        (schedule(60, nowfun=datetime.now), "cannot call a nowfun"),
        (OwnCrontab(), "of the type OwnCrontab has no schedule expression"),
    ],
)
def test_what_has_none_is_refused_with_a_way_out(when, sentence):
    with pytest.raises(ConfigurationError, match=sentence) as refusal:
        schedule_expression(when)
    assert re.search("with beat|turn on|task look", str(refusal.value))


def test_the_sun_is_refused():
    # Given: a solar schedule, which needs a library of its own to be made
    when = solar.__new__(solar)

    with pytest.raises(ConfigurationError, match="does not know the sun: write a crontab"):
        schedule_expression(when)


def test_names_are_readable_short_and_apart():
    names = [schedule_name(each) for each in ("Send: digest!", "Send: digest?", "x" * 200, "é")]

    assert names[0].startswith("beat-Send-digest-")
    assert len(set(names)) == 4
    assert all(re.fullmatch(r"[0-9a-zA-Z-_.]{1,64}", name) for name in names)


@pytest.mark.parametrize(
    ("conf", "name"),
    [
        ({}, "UTC"),
        ({"timezone": "Europe/Berlin"}, "Europe/Berlin"),
        ({"timezone": "Europe/Berlin", "enable_utc": False}, "Europe/Berlin"),
    ],
)
def test_the_time_zone_is_the_apps(conf, name):
    app = Celery("proj", set_as_current=False)
    app.conf.update(conf)

    assert time_zone_name(app) == name


def test_a_time_zone_without_a_name_is_refused():
    app = Celery("proj", set_as_current=False)
    app.conf.timezone = timezone(timedelta(hours=1))

    with pytest.raises(ConfigurationError, match="set timezone"):
        time_zone_name(app)


class TestMessage:
    def test_is_a_celery_message_with_an_id_for_each_occurrence(self, app, message_of):
        built, message = message_of(args=("ann",), kwargs={"n": 1})

        task_id = f"beat-send-0-{SCHEDULED_TIME}"
        assert built.queue_url == f"{QUEUES}/mail"
        assert message.headers["task"] == "proj.send"
        assert message.headers["id"] == message.headers["root_id"] == task_id
        assert message.properties["correlation_id"] == task_id
        assert message.headers["celery_beat_task"] is True
        assert "lambda_schedule" not in message.headers
        args, kwargs, _ = message.payload
        assert (args, kwargs) == (["ann"], {"n": 1})

    def test_is_the_same_each_time_it_is_built(self, message_of):
        assert message_of(args=(1,))[0] == message_of(args=(1,))[0]

    def test_keeps_arguments_that_look_like_context_attributes(self, message_of):
        built, _ = message_of(kwargs={"text": SCHEDULED_TIME})

        replaced = read_message(
            read_envelope(built.body.replace(SCHEDULED_TIME, "now")), ["json"], {}
        )
        assert replaced.payload[1] == {"text": SCHEDULED_TIME}

    def test_honours_the_options_of_the_entry(self, app, message_of):
        app.conf.lambda_priority_queues = {"reports": {6: "urgent"}}
        app.conf.lambda_queues |= {"urgent": f"{QUEUES}/urgent"}

        built, message = message_of(
            options={
                "queue": "reports",
                "priority": 9,
                "headers": {"tenant": "acme"},
                "compression": "zlib",
                "time_limit": 20,
                "soft_time_limit": 10,
                "shadow": "report",
                "MessageGroupId": "acme",
                "ignore_result": True,
                "retry": True,
            }
        )

        assert built.queue_url == f"{QUEUES}/urgent"
        assert built.message_group_id == "acme"
        assert message.headers["tenant"] == "acme"
        assert message.headers["compression"] == "application/x-gzip"
        assert message.headers["timelimit"] == [20, 10]
        assert message.headers["shadow"] == "report"
        assert message.headers["ignore_result"] is True
        assert not {"time_limit", "shadow", "retry", "headers"} & set(message.properties)

    def test_honours_the_options_of_the_task_and_the_routes(self, app, message_of):
        @app.task(name="proj.send", expires=60, shared=False)
        def send():
            """Its own expiry counts from the occurrence, too."""

        app.conf.task_routes = {"proj.send": {"queue": "reports"}}

        built, message = message_of()

        assert built.queue_url == f"{QUEUES}/reports"
        assert message.headers["lambda_schedule"]["expires_seconds"] == 60

    def test_follows_an_exchange_and_a_routing_key(self, app, message_of):
        app.conf.task_queues = [
            Queue("celery"),
            Queue("reports", Exchange("office", "topic"), routing_key="report.#"),
        ]

        built, _ = message_of(options={"exchange": "office", "routing_key": "report.#"})

        assert built.queue_url == f"{QUEUES}/reports"

    def test_counts_expiry_and_countdown_from_the_occurrence(self, message_of):
        _, message = message_of(options={"expires": 3600, "countdown": 90})

        assert message.headers["lambda_schedule"] == {
            "time": SCHEDULED_TIME,
            "expires_seconds": 3600,
            "countdown_seconds": 90,
        }
        assert message.headers["expires"] is None
        assert message.headers["eta"] is None

    def test_keeps_a_date(self, message_of):
        _, message = message_of(options={"expires": datetime(2030, 1, 1, tzinfo=UTC)})

        assert message.headers["expires"] == "2030-01-01T00:00:00+00:00"
        assert "lambda_schedule" not in message.headers

    def test_is_shown_to_before_task_publish_and_not_announced_as_published(self, message_of):
        announced = []

        @signals.before_task_publish.connect
        def stamp(headers=None, **kwargs):
            headers["stamped"] = True

        @signals.after_task_publish.connect
        def note(**kwargs):
            announced.append(kwargs)

        try:
            _, message = message_of()
        finally:
            signals.before_task_publish.disconnect(stamp)
            signals.after_task_publish.disconnect(note)

        assert message.headers["stamped"] is True
        assert announced == []

    def test_goes_to_the_queue_that_the_whole_broker_has_for_it(self):
        app = Celery("moved", set_as_current=False)
        app.conf.update(
            broker_transport="lambda_celery.transport:Transport",
            broker_transport_options={
                "predefined_queues": {"celery": {"url": f"{QUEUES}/moved"}},
                "region": "eu-west-1",
            },
        )
        entry = ScheduleEntry("send", "proj.send", schedule=60, app=app)

        assert is_for_sqs(app, entry)
        built = occurrence_message(app, entry, "beat-send-0")
        assert built.queue_url == f"{QUEUES}/moved"
        assert json.loads(built.body)["headers"]["task"] == "proj.send"

        @app.task(name="proj.send", shared=False, lambda_celery=False)
        def send():
            """It says that it stays where it is."""

        assert not is_for_sqs(app, entry)

    @pytest.mark.parametrize(
        ("entry", "sentence"),
        [
            ({"args": (BeatLazyFunc(datetime.now),)}, "BeatLazyFunc"),
            ({"args": (object(),)}, "cannot be built"),
            ({"args": ("x" * 300_000,)}, "EventBridge Scheduler takes 262144"),
            ({"options": {"task_id": "always-the-same"}}, "has no task_id"),
            ({"options": {"DelaySeconds": 10}}, "has no DelaySeconds"),
            ({"options": {"expires": timedelta(hours=1)}}, "cannot be built"),
        ],
    )
    def test_what_it_cannot_hold_is_refused(self, message_of, entry, sentence):
        with pytest.raises(ConfigurationError, match=sentence):
            message_of(**entry)

    def test_a_priority_without_a_queue_for_it_is_refused(self, message_of):
        with pytest.raises(PublishError, match="SQS has no priorities"):
            message_of(options={"priority": 3})
