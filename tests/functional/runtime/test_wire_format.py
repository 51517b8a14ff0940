"""Messages of stock Celery and kombu are run by the runtime, in all their forms."""

from __future__ import annotations

import base64
import itertools
import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from celery import Celery
from celery.result import AsyncResult

NAME = "proj.collect"


@pytest.fixture
def collected(runtime):
    calls = []

    @runtime.task(name=NAME, bind=True)
    def collect(self, *args, **kwargs):
        calls.append((list(args), kwargs))

    return calls


@pytest.fixture
def stock(stack):
    """An app of stock Celery, on kombu's own SQS transport."""

    def make(**transport_options):
        host = stack.settings.endpoint_url.removeprefix("http://")
        app = Celery("stock", broker=f"sqs://test:test@{host}", set_as_current=False)
        app.conf.broker_transport_options = {
            "region": stack.settings.region,
            "is_secure": False,
            "predefined_queues": {"celery": {"url": stack.queue_url}},
            **transport_options,
        }
        return app

    return make


@pytest.mark.parametrize(
    ("outer", "inner"), list(itertools.product([True, False], ["base64", "utf-8"]))
)
def test_the_four_encodings_of_a_body(runtime, collected, stock, outer, inner):
    app = stock(sqs_base64_encoding=outer, body_encoding=inner)
    app.send_task(NAME, ("Zoë ✉",), {"n": 1})

    assert runtime.deliver().all_deleted
    assert collected == [(["Zoë ✉"], {"n": 1})]


@pytest.mark.parametrize("compression", ["zlib", "bzip2", "lzma"])
def test_compressed_bodies(runtime, collected, stock, compression):
    stock().send_task(NAME, ("x" * 5000,), compression=compression)
    assert runtime.deliver().all_deleted
    assert collected == [(["x" * 5000], {})]


def test_a_compressed_body_that_is_cut_off_is_unreadable(make_runtime, stock):
    runtime = make_runtime(lambda_max_receive_count=1)
    stock().send_task(NAME, ("x" * 5000,), compression="zlib")
    (message,) = runtime.receive()
    envelope = json.loads(base64.b64decode(message["Body"]))
    envelope["body"] = envelope["body"][:20]
    broken = {**message, "Body": json.dumps(envelope)}
    assert runtime.hand_over([broken]).all_deleted
    (parked,) = runtime.stack.dead_letters()
    assert "decompressed" in parked["MessageAttributes"]["LambdaCeleryReason"]["StringValue"]


def test_an_envelope_of_sns_is_refused_by_its_name(make_runtime, stock):
    runtime = make_runtime(lambda_max_receive_count=1)
    stock().send_task(NAME)
    (message,) = runtime.receive()
    notification = {
        "Type": "Notification",
        "TopicArn": "arn:aws:sns:eu-west-1:000000000000:news",
        "Message": message["Body"],
    }
    wrapped = {**message, "Body": json.dumps(notification)}
    assert runtime.hand_over([wrapped]).all_deleted
    (parked,) = runtime.stack.dead_letters()
    reason = parked["MessageAttributes"]["LambdaCeleryReason"]["StringValue"]
    assert "set RawMessageDelivery on this queue's subscription to arn:aws:sns" in reason


def test_protocol_1(runtime, collected, stock):
    app = stock()
    app.conf.task_protocol = 1
    app.send_task(NAME, ("a",), {"b": 2})
    assert runtime.deliver().all_deleted
    assert collected == [(["a"], {"b": 2})]


def test_protocol_1_with_an_eta_ahead_hops(runtime, collected, stock, faults):
    app = stock()
    app.conf.task_protocol = 1
    app.send_task(NAME, countdown=500)
    sent = faults.watch(runtime.settings, "sqs", "SendMessage")
    assert runtime.deliver().all_deleted
    assert 490 <= sent[0]["DelaySeconds"] <= 500
    assert collected == []


def test_typed_values_of_json(runtime, collected, stock):
    when = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    stock().send_task(NAME, (when, Decimal("1.10")))
    assert runtime.deliver().all_deleted
    assert collected == [([when, Decimal("1.10")], {})]


def test_an_eta_in_another_time_zone(runtime, collected, stock, faults):
    app = stock()
    app.conf.timezone = "Asia/Tokyo"
    app.send_task(NAME, countdown=300)
    sent = faults.watch(runtime.settings, "sqs", "SendMessage")
    assert runtime.deliver().all_deleted
    assert 290 <= sent[0]["DelaySeconds"] <= 300


def test_what_the_request_holds(runtime, stock):
    seen = {}

    @runtime.task(name=NAME, bind=True)
    def collect(self, *args):
        request = self.request
        seen.update(
            id=request.id,
            retries=request.retries,
            headers=request.headers,
            redelivered=request.delivery_info["redelivered"],
            routing_key=request.delivery_info["routing_key"],
            correlation_id=request.properties["correlation_id"],
            hostname=request.hostname,
            eager=request.is_eager,
            directly=request.called_directly,
        )

    result = stock().send_task(NAME, ("a",), headers={"x-tenant": "acme"})
    assert runtime.deliver().all_deleted
    assert seen == {
        "id": result.id,
        "retries": 0,
        "headers": {"x-tenant": "acme"},
        "redelivered": False,
        "routing_key": "celery",
        "correlation_id": result.id,
        "hostname": seen["hostname"],
        "eager": False,
        "directly": False,
    }
    assert seen["hostname"].startswith("lambda@")


def test_a_retry_keeps_headers_id_and_queue_and_adds_none_of_ours(runtime, faults):
    seen = []

    @runtime.task(bind=True, default_retry_delay=0)
    def send(self):
        seen.append((self.request.id, self.request.retries, self.request.headers))
        if len(seen) == 1:
            self.retry()

    result = send.apply_async(queue="mail", headers={"x-tenant": "acme"})
    assert runtime.deliver().all_deleted
    (message,) = runtime.receive()
    assert runtime.hand_over([message]).all_deleted
    assert seen == [
        (result.id, 0, {"x-tenant": "acme"}),
        (result.id, 1, {"x-tenant": "acme"}),
    ]
    assert AsyncResult(result.id, app=runtime.app).state == "SUCCESS"
