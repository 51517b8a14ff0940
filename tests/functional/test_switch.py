"""``lambda_enabled = False``: every task goes to the app's own broker, by whichever door."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator

import boto3
import pytest
from celery import Celery, chord
from celery.contrib.testing.worker import start_worker

import lambda_celery
from lambda_celery import ConfigurationError, PublishError, aws
from lambda_celery.conf import Settings
from lambda_celery.table.revocations import Revocations
from lambda_celery.table.schema import revoked_key


@pytest.fixture
def app(stack) -> Iterator[Celery]:
    """An app whose tasks are those of the three doors, and whose broker is in memory."""
    app = Celery("switch", broker=f"memory://{uuid.uuid4()}", backend="cache+memory://")
    app.conf.update(
        worker_hijack_root_logger=False,
        lambda_enabled=False,
        lambda_queue_url=stack.settings.queue_url,
        lambda_endpoint_url=stack.settings.endpoint_url,
        lambda_region=stack.settings.region,
        lambda_tasks=["named.*"],
    )
    app.set_current()
    lambda_celery.install(app)
    app.task(add, name="switch.add", lambda_celery=True)
    app.task(total, name="switch.total", lambda_celery=True)
    app.task(add, name="named.add")
    yield app
    app.close()


def add(x, y):
    return x + y


def total(numbers):
    return sum(numbers)


@pytest.fixture
def worker(app) -> Iterator[None]:
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    try:
        with start_worker(app, perform_ping_check=False, shutdown_timeout=30):
            yield
    finally:  # the worker has made the process's logging its own
        root.setLevel(before[0])
        root.handlers[:] = before[1]


def test_a_worker_runs_what_the_decorator_has_moved(app, worker, stack):
    add, total = app.tasks["switch.add"], app.tasks["switch.total"]

    assert add.delay(1, 2).get(timeout=60) == 3
    assert chord([add.s(1, 1), add.s(2, 2)])(total.s()).get(timeout=60) == 6
    assert stack.depth() == 0


def test_a_worker_runs_what_the_settings_have_moved(app, worker, stack):
    add = app.tasks["named.add"]

    with lambda_celery.batch():
        result = add.delay(1, 2)
    ids = lambda_celery.delay_many(add, [(3, 4), (5, 6)])

    assert result.get(timeout=60) == 3
    assert [app.AsyncResult(each).get(timeout=60) for each in ids] == [7, 11]
    assert stack.depth() == 0


def test_with_the_transport_it_is_said_that_there_is_no_other_broker(stack):
    app = Celery("switch", broker_transport="lambda_celery.transport:Transport")
    app.conf.update(
        broker_url=f"sqs://{uuid.uuid4()}",
        lambda_enabled=False,
        lambda_queue_url=stack.settings.queue_url,
        lambda_endpoint_url=stack.settings.endpoint_url,
        lambda_region=stack.settings.region,
    )

    with pytest.raises(ConfigurationError, match="set broker_transport, and broker_url"):
        app.send_task("named.add")

    assert stack.depth() == 0
    app.close()


class TestRevoke:
    def test_reaches_what_waits_from_before(self, app, stack):
        app.conf.lambda_idempotency_table = stack.settings.idempotency_table

        app.control.revoke("from-before")

        assert Revocations(stack.settings).include([revoked_key("from-before")])

    def test_needs_no_table(self, app):
        app.control.revoke("any")

    def test_needs_no_aws(self, app, caplog):
        app.conf.lambda_idempotency_table = "missing"
        caplog.set_level("WARNING", "lambda_celery.control")

        app.control.revoke("any")

        assert "Lambda is not" in caplog.text

    def test_needs_both_while_it_is_on(self, app):
        app.conf.update(lambda_enabled=True, lambda_idempotency_table="missing")

        with pytest.raises(PublishError):
            app.control.revoke("any")


def test_credentials_of_boto3s_default_session_are_used(monkeypatch):
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    boto3.setup_default_session(aws_access_key_id="mine", aws_secret_access_key="secret")
    settings = Settings(region="eu-west-1", endpoint_url="http://127.0.0.1:9", fast_requests=False)

    client = aws.client("sqs", settings)

    assert client._request_signer._credentials.access_key == "mine"
