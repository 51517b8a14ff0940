"""What is known of the queue that a message came from."""

from __future__ import annotations

import pytest

from lambda_celery import aws
from lambda_celery.conf import Settings
from lambda_runtime.messages.source_queues import SourceQueues


def test_a_refusal_that_is_remembered_does_not_grow_with_the_batch(monkeypatch):
    """Each time an exception is raised, its traceback gets longer, and keeps all those frames."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    settings = Settings(endpoint_url="http://127.0.0.1:9", region="eu-west-1")
    queue = SourceQueues(settings).get("arn:aws:sqs:eu-west-1:000000000000:mail")
    lengths = []
    for _ in range(20):
        with pytest.raises(aws.AWS_ERRORS) as raised:
            queue._attributes("http://127.0.0.1:9/000000000000/mail", "RedrivePolicy")
        lengths.append(len(raised.traceback))
    assert lengths[-1] == lengths[1]
