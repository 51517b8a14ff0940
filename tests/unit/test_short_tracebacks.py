"""What a user meets in his own code: a sentence, and not eighty lines of botocore."""

from __future__ import annotations

import socket
import traceback

import pytest
from celery import Celery

from lambda_celery import PublishError, batch, delay_many, install


@pytest.fixture
def publish(monkeypatch):
    """Publish to a port at which nobody listens."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{probe.getsockname()[1]}"

    def call(send, **settings):
        app = Celery("short", set_as_current=False)
        install(app)
        app.conf.update(
            lambda_tasks=["*"],
            lambda_queue_url=f"{endpoint}/000000000000/mail",
            lambda_endpoint_url=endpoint,
            lambda_region="eu-west-1",
            **settings,
        )
        with pytest.raises(PublishError) as caught:
            send(app)
        return "".join(traceback.format_exception(caught.value))

    return call


def by_delay(app):
    app.send_task("mail")


def by_a_batch(app):
    with batch():
        app.send_task("mail")


def by_delay_many(app):
    @app.task(name="mail", shared=False)
    def mail():
        """Is sent, and never run."""

    delay_many(mail, [()])


DOORS = pytest.mark.parametrize("send", [by_delay, by_a_batch, by_delay_many])


@DOORS
def test_the_cause_is_in_the_sentence_and_not_in_the_traceback(publish, send):
    shown = publish(send)
    assert "Could not connect to the endpoint URL" in shown.splitlines()[-1]
    assert "urllib3" not in shown
    assert "botocore" not in shown


@DOORS
def test_it_is_in_the_traceback_where_that_is_asked_for(publish, send):
    assert "urllib3" in publish(send, lambda_debug=True)
