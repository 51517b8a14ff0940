"""Asking of the event source mapping, beside the work."""

from __future__ import annotations

import time
from types import SimpleNamespace

from lambda_celery import aws
from lambda_celery.conf import Settings
from lambda_runtime.mapping_check import MappingCheck

QUEUE_ARN = "arn:aws:sqs:eu-west-1:000000000000:mail"


def test_a_process_that_forks_can_wait_for_the_answer(monkeypatch):
    answered = []

    def list_event_source_mappings(**_):
        time.sleep(0.2)
        answered.append(True)
        return {}

    client = SimpleNamespace(list_event_source_mappings=list_event_source_mappings)
    monkeypatch.setattr(aws, "client", lambda *_, **__: client)
    check = MappingCheck(Settings())
    check.wait()  # for nothing
    check.after_failure(SimpleNamespace(invoked_function_arn="arn"), QUEUE_ARN)
    check.wait()
    assert answered == [True]
