"""The settings, from Celery's configuration and the environment."""

from __future__ import annotations

import pytest
from celery import Celery

from lambda_celery import ConfigurationError
from lambda_celery.conf import QueueSettings, Settings, region_of_queue

QUEUE = "https://sqs.eu-west-1.amazonaws.com/123456789012/mail"


def settings_from(**conf):
    return Settings.from_app(app_with(**conf), {})


def app_with(**conf):
    app = Celery("proj", set_as_current=False)
    app.conf.update(conf)
    return app


def test_they_are_read_from_the_apps_configuration():
    settings = Settings.from_app(app_with(lambda_queue_url=QUEUE, lambda_tasks=["a.*"]), {})
    assert settings.queue_url == QUEUE
    assert settings.tasks == ("a.*",)


def test_django_spells_them_with_its_namespace():
    class DjangoSettings:
        CELERY_LAMBDA_QUEUE_URL = QUEUE
        CELERY_LAMBDA_MAX_RECEIVE_COUNT = 7

    app = Celery("proj", set_as_current=False)
    app.config_from_object(DjangoSettings, namespace="CELERY")
    settings = Settings.from_app(app, {})
    assert (settings.queue_url, settings.max_receive_count) == (QUEUE, 7)


def test_the_environment_wins_and_is_converted():
    settings = Settings.from_app(
        app_with(lambda_queue_url=QUEUE, lambda_retry_jitter=True),
        {
            "LAMBDA_CELERY_QUEUE_URL": QUEUE + "-2",
            "LAMBDA_CELERY_QUEUES": '{"bulk": "http://127.0.0.1:4566/000000000000/bulk"}',
            "LAMBDA_CELERY_TASKS": "a.*, b.send",
            "LAMBDA_CELERY_MAX_RECEIVE_COUNT": "5",
            "LAMBDA_CELERY_RETRY_JITTER": "no",
            "LAMBDA_CELERY_TIME_RESERVE_SECONDS": "0.5",
            "LAMBDA_CELERY_METRICS_NAMESPACE": " Shop/Tasks ",  # as the alarms' is read
        },
    )
    assert settings.queue_url == QUEUE + "-2"
    assert settings.queues == {"bulk": QueueSettings("http://127.0.0.1:4566/000000000000/bulk")}
    assert settings.tasks == ("a.*", "b.send")
    assert settings.max_receive_count == 5
    assert settings.retry_jitter is False
    assert settings.time_reserve_seconds == 0.5
    assert settings.metrics_namespace == "Shop/Tasks"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("queue_url", 5), ("queue_url", "  "), ("queue_url", "mail"), ("queues", ["a"]),
        ("queues", "{"), ("queues", {"bulk": "mail"}), ("endpoint_url", "localhost:4566"),
        ("max_receive_count", 0), ("max_receive_count", "many"), ("max_receive_count", True),
        ("retry_backoff_seconds", -1), ("retry_backoff_seconds", float("nan")),
        ("retry_jitter", "perhaps"), ("tasks", 5), ("idempotency_ttl_seconds", 1),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_with_its_name(name, value):
    with pytest.raises(ConfigurationError) as raised:
        Settings.from_app(app_with(**{f"lambda_{name}": value}), {})
    assert f"lambda_{name}" in str(raised.value)
    assert f"LAMBDA_CELERY_{name.upper()}" in str(raised.value)


def test_a_misspelt_name_is_pointed_out(caplog):
    class DjangoSettings:
        CELERY_LAMBDA_IDEMPOTENCE_TABLE = "mail"

    app = Celery("proj", set_as_current=False)
    app.config_from_object(DjangoSettings, namespace="CELERY")
    Settings.from_app(app, {"LAMBDA_CELERY_QUEUEURL": "x", "LAMBDA_CELERY_APP": "proj"})
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "CELERY_LAMBDA_IDEMPOTENCE_TABLE is not a setting" in said[0]
    assert "CELERY_LAMBDA_IDEMPOTENCY_TABLE" in said[0]
    assert "LAMBDA_CELERY_QUEUEURL is not a setting" in said[1]
    assert "LAMBDA_CELERY_QUEUE_URL" in said[1]


def test_a_region_that_is_not_the_queues_is_refused():
    with pytest.raises(ConfigurationError, match="is in eu-west-1"):
        Settings.from_app(app_with(lambda_queue_url=QUEUE, lambda_region="us-east-1"), {})


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://sqs-fips.us-gov-west-1.amazonaws.com/123456789012/mail", "us-gov-west-1"),
        ("https://vpce-0ab.sqs.eu-west-1.vpce.amazonaws.com/123456789012/mail", "eu-west-1"),
        ("https://eu-west-1.queue.amazonaws.com/123456789012/mail", "eu-west-1"),
        ("https://sqs.eu-west-1.api.aws/123456789012/mail", "eu-west-1"),
        (QUEUE, "eu-west-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/mail", "cn-north-1"),
        ("http://127.0.0.1:4566/000000000000/mail", None),
        ("http://localhost/x", None),
    ],
)
def test_the_region_of_a_queue(url, region):
    assert region_of_queue(url) == region


def test_queues_in_two_regions_are_refused():
    other = QUEUE.replace("eu-west-1", "us-east-1")
    with pytest.raises(ConfigurationError, match="must be the same"):
        Settings.from_app(app_with(lambda_queue_url=QUEUE, lambda_queues={"bulk": other}), {})


def test_the_region_comes_from_the_queue_where_none_is_set():
    assert Settings(queue_url=QUEUE).aws_region == "eu-west-1"
    assert Settings(queues={"bulk": QueueSettings(QUEUE)}).aws_region == "eu-west-1"
    assert Settings().aws_region is None


def test_a_queue_is_found_by_its_celery_name_or_the_default():
    settings = Settings(queue_url="default", queues={"bulk": QueueSettings("special")})
    assert (settings.url_of("bulk"), settings.url_of("mail")) == ("special", "default")
    assert settings.queue_urls == ("special", "default")


def test_a_queue_that_is_nowhere_is_refused_with_its_name():
    with pytest.raises(ConfigurationError, match=r"'mail'.*lambda_queues"):
        Settings(queues={"bulk": QueueSettings("special")}).url_of("mail")
    with pytest.raises(ConfigurationError, match="lambda_queue_url"):
        Settings().url_of("mail")


def test_a_queue_can_have_settings_of_its_own():
    settings = settings_from(
        lambda_max_receive_count=5,
        lambda_queues={
            "bulk": {"url": QUEUE + "-2", "max_receive_count": 3, "retry_backoff_seconds": 60},
            "mail": "https://sqs.eu-west-1.amazonaws.com/123456789012/mail",
        },
    )
    assert settings.url_of("bulk") == QUEUE + "-2"
    assert settings.of_queue(QUEUE + "-2").max_receive_count == 3
    assert settings.of_queue(QUEUE + "-2").retry_backoff_seconds == 60
    assert settings.of_queue(settings.url_of("mail")) == settings


def test_a_priority_has_a_queue_or_is_misspelt():
    settings = settings_from(lambda_priority_queues='{"mail": {"6": "urgent"}}')
    assert settings.priority_queues == {"mail": {6: "urgent"}}
    with pytest.raises(ConfigurationError, match="lowest priority"):
        settings_from(lambda_priority_queues={"mail": "urgent"})
