"""What the local run tells its runtime processes and the publishers."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from lambda_celery.conf import QueueSettings, Settings
from lambda_celery.exceptions import ConfigurationError
from lambda_celery.local.endpoint import emulated_endpoint, open_endpoint

URL = "http://127.0.0.1:4566"
MAIL = "https://sqs.eu-west-1.amazonaws.com/123456789012/mail"
ELSEWHERE = "https://sqs.eu-west-1.amazonaws.com/999999999999/bulk"
QUEUES = {
    "mail": QueueSettings(MAIL),
    "bulk": QueueSettings(ELSEWHERE, max_receive_count=3),
}


@pytest.fixture(autouse=True)
def _no_aws_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)


def emulated(**settings: Any) -> Any:
    return emulated_endpoint(Settings(**settings), URL, max_receive_count=5)


def test_the_projects_own_queue_url_needs_no_override() -> None:
    endpoint = emulated(queue_url=MAIL, payload_bucket="b")

    assert endpoint.settings.queue_url == f"{URL}/123456789012/mail"
    assert endpoint.environment["LAMBDA_CELERY_QUEUE_URL"] == f"{URL}/123456789012/mail"
    assert endpoint.environment["AWS_REGION"] == "eu-west-1"
    assert endpoint.exports == {
        "AWS_ENDPOINT_URL": URL,
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }


def test_the_environment_is_read_back_as_the_same_settings() -> None:
    from celery import Celery

    endpoint = emulated(
        queues=QUEUES,
        dead_letter_queue_url=MAIL,
    )

    assert Settings.from_app(Celery("a"), endpoint.environment) == endpoint.settings


def test_without_any_queue_there_are_defaults() -> None:
    endpoint = emulated()

    assert endpoint.settings.queue_urls == (f"{URL}/000000000000/celery",)
    assert endpoint.settings.dead_letter_queue_url == f"{URL}/000000000000/celery-dead-letters"
    assert endpoint.exports["LAMBDA_CELERY_QUEUE_URL"] == f"{URL}/000000000000/celery"
    assert endpoint.exports["LAMBDA_CELERY_PAYLOAD_BUCKET"] == endpoint.settings.payload_bucket
    assert endpoint.exports["AWS_DEFAULT_REGION"] == "us-east-1"


def test_a_queue_of_another_account_is_overridden() -> None:
    endpoint = emulated(queues=QUEUES)

    assert json.loads(endpoint.exports["LAMBDA_CELERY_QUEUES"]) == {
        "mail": {"url": f"{URL}/123456789012/mail"},
        "bulk": {"url": f"{URL}/123456789012/bulk", "max_receive_count": 3},
    }


def test_real_credentials_are_kept_from_the_emulator_and_from_the_exports(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAREAL")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "real")

    endpoint = emulated(queue_url=MAIL)

    for variables in (endpoint.environment, endpoint.exports):
        assert variables["AWS_ACCESS_KEY_ID"] == variables["AWS_SECRET_ACCESS_KEY"] == "test"


def test_a_proxy_is_not_asked_for_the_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "example.org")

    assert emulated().environment["no_proxy"] == "example.org,127.0.0.1"


def test_a_configured_endpoint_needs_a_queue() -> None:
    settings = Settings(endpoint_url="http://sqs.example.org:9324")

    with (
        pytest.raises(ConfigurationError, match="lambda_queue_url"),
        open_endpoint(
            settings,
            port=4566,
            function_timeout_seconds=5,
            maximum_batching_window_seconds=0,
            max_receive_count=None,
        ),
    ):
        pass
