"""The key of a publication, which is in tables already."""

from __future__ import annotations

import base64

import pytest
from celery import Celery
from kombu.utils.json import dumps

from lambda_celery.conf import Settings
from lambda_runtime.messages.delivery import Delivery
from lambda_runtime.messages.publication import publication_of
from lambda_runtime.messages.request import read_request


@pytest.mark.parametrize(
    ("headers", "digest"),
    [
        ({}, "ec0c20964551d053231da7a86ab96b7f697f1a0f033624d2fff854e7c2dbd8c8"),
        (
            {"lambda_publication": "mark", "retries": 2},
            "1dd0cb5b3846452b856196744e8bf2b8121d0232ef117526458c4aee7f14f52a",
        ),
        (
            {"lambda_publication": "a-1", "replaced_task_nesting": 1},
            "e5df8571884b78b312a8680f44ba4bbe160c009faa39455275d6ca71c27bff71",
        ),
    ],
)
def test_a_new_version_makes_the_keys_of_the_one_before(headers, digest):
    """Else what has run before a deploy would run once more after it."""
    app = Celery("proj", set_as_current=False)

    @app.task(name="proj.send", shared=False)
    def send(*args, **kwargs):
        """Take any arguments."""

    arguments = [["ann@example.org", "é", 1.5, None], {"b": 2, "a": {"n": [True]}}, {}]
    body = dumps(
        {
            "body": base64.b64encode(dumps(arguments).encode()).decode(),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {"task": "proj.send", "id": "1b9d6bcd", **headers},
            "properties": {"body_encoding": "base64"},
        }
    )
    delivery = Delivery.from_record({"messageId": "m", "body": body})
    request = read_request(app, Settings(), delivery, body, "host")
    assert publication_of(request).key == f"proj.send#{digest}"
