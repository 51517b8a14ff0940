"""What is none of tasks does not touch the task queue of an app whose broker is SQS."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from celery import Celery
from kombu import Queue
from kombu.exceptions import OperationalError

from lambda_celery import ConfigurationError


@pytest.fixture
def app(stack, request) -> Iterator[Celery]:
    """An app that has moved its whole broker; its result back end is the test's parameter."""
    app = Celery(
        "foreign",
        broker_transport="lambda_celery.transport:Transport",
        backend=getattr(request, "param", None),
    )
    app.conf.update(
        broker_url=f"sqs://{uuid.uuid4()}",  # kombu's pools are one for each
        lambda_queue_url=stack.settings.queue_url,
        lambda_endpoint_url=stack.settings.endpoint_url,
        lambda_region=stack.settings.region,
        control_exchange="foreign",
    )
    app.set_current()
    yield app
    app.close()


@pytest.fixture
def count(stack) -> Callable[[], int]:
    """How many messages the task queue has; it must be there."""
    sqs = boto3.client("sqs", endpoint_url=stack.settings.endpoint_url)

    def count() -> int:
        answer = sqs.get_queue_attributes(
            QueueUrl=stack.settings.queue_url, AttributeNames=["ApproximateNumberOfMessages"]
        )
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])

    return count


def ping(app: Celery) -> Any:
    return app.control.inspect().ping()


def simple_queue(app: Celery) -> Any:
    with app.connection_for_write() as connection:
        return connection.SimpleQueue("orders").get(timeout=0.01)


def simple_queue_put(app: Celery) -> Any:
    with app.connection_for_write() as connection:
        return connection.SimpleQueue("orders").put({"order": 1})


def one_by_one(app: Celery) -> Any:
    with app.connection_for_write() as connection:
        return Queue("orders")(connection.default_channel).get()


def events(app: Celery) -> Any:
    with app.connection_for_read() as connection:
        return app.events.Receiver(connection).capture(limit=1, timeout=0.01)


def purge(app: Celery) -> Any:
    with app.connection_for_write() as connection:
        return connection.default_channel.queue_purge("orders")


def size(app: Celery) -> Any:
    with app.connection_for_write() as connection:
        return Queue("orders")(connection.default_channel).queue_declare(passive=True)


@pytest.mark.parametrize(
    "use",
    [ping, simple_queue, simple_queue_put, one_by_one, events, purge, size],
)
def test_a_queue_of_no_task_is_refused_with_a_sentence(app, count, use):
    app.send_task("proj.send")
    before = count()
    with pytest.raises(ConfigurationError, match=r"No task uses|is to be made and"):
        use(app)
    assert count() == before == 1


@pytest.mark.parametrize("app", ["rpc://"], indirect=True)
def test_a_result_does_not_go_to_the_task_queue_nor_is_waited_for_there(app, count):
    with pytest.raises(ConfigurationError, match="rpc:// results need queues of their own"):
        app.send_task("proj.send")
    running = SimpleNamespace(reply_to="1f0c", correlation_id="1", id="1")
    with pytest.raises(ConfigurationError, match="rpc:// results need queues of their own"):
        app.backend.store_result("1", "sent", "SUCCESS", request=running)
    assert count() == 0


def test_a_command_to_all_workers_is_refused_with_a_sentence(app, count):
    with pytest.raises(OperationalError, match="Remote control does not reach workers by SQS"):
        app.control.shutdown()
    assert count() == 0


def test_a_queue_is_never_deleted(app, count, caplog):
    app.send_task("proj.send")
    with app.connection_for_write() as connection, caplog.at_level(logging.WARNING):
        channel = connection.default_channel
        queue = app.amqp.queues["celery"](channel)
        queue.declare()
        queue.delete()
        channel.after_reply_message_received("celery")
    assert count() == 1
    assert "is not deleted" in caplog.text


def test_a_queue_of_tasks_is_consumed_measured_and_emptied(app, count):
    app.send_task("proj.send", queue="mail")
    with app.connection_for_read() as connection:
        queue = Queue("mail")(connection.default_channel)
        assert queue.queue_declare(passive=True).message_count == 1
        message = queue.get()
        assert message.headers["task"] == "proj.send"
        message.requeue()
    with app.connection_for_write() as connection:
        app.control.purge(connection)
    assert count() == 0


def test_a_task_of_the_older_protocol_is_sent(app, count):
    app.conf.task_protocol = 1
    app.send_task("proj.send", queue="mail")
    assert count() == 1
