"""What a sender can write: it is answered for, with a reason, and harms no neighbour."""

from __future__ import annotations

import bz2
import json
import lzma
import time
import zlib
from base64 import b64encode
from typing import Any

import pytest

from lambda_celery.exceptions import ConfigurationError
from lambda_celery.failures.record import REASON_ATTRIBUTE
from lambda_celery.payloads import locate
from lambda_celery.table.schema import payload_key
from lambda_runtime.messages.delivery import SENT_ON_ATTRIBUTE
from tests.functional.runtime.conftest import Context

POINTER = "software.amazon.payloadoffloading.PayloadS3Pointer"


def envelope(body: str = "[[], {}, {}]", properties: Any = None, **headers: Any) -> str:
    """Return the body of a message for the task ``celery.accumulate``, which every app has."""
    return json.dumps(
        {
            "body": body,
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "properties": properties or {},
            "headers": {"task": "celery.accumulate", "id": "1", **headers},
        }
    )


def send(runtime: Any, body: str) -> None:
    runtime.sqs.send_message(
        QueueUrl=runtime.settings.queue_url, MessageBody=body, MessageGroupId="a"
    )


def compressed(data: bytes, compression: str) -> str:
    body = b64encode(data).decode()
    return envelope(body, {"body_encoding": "base64"}, compression=compression)


BOMB = b"[" + b" " * 2_000_000 + b"[], {}, {}]"
WRONG_HEADERS = [
    {"timelimit": ["a", "b"]},
    {"timelimit": [1]},
    {"timelimit": [float("inf"), None]},
    {"timelimit": [-1, None]},
    {"timelimit": [1e300, None]},
    {"stamps": 5},
    {"stamped_headers": 5},
    {"stamped_headers": [["a"]], "stamps": {}},
    {"stamped_headers": ["a"], "stamps": {"a": "\ud800"}},
    {"stamped_headers": ["a"], "stamps": {"a": [str(n) for n in range(101)]}},
    {"id": "\ud800"},
    {"id": ["1"]},
    {"id": "x" * 100_000},
    {"shadow": "x" * 100_000},
    {"task": ["celery.accumulate"]},
    {"retries": "x"},
    {"retries": -1},
    {"retries": True},
    {"retries": 10**7},
    {"retries": 10**4000},
    {"eta": 5},
    {"eta": []},
    {"eta": "9999-12-31T23:59:59"},
    {"expires": {}},
    {"expires": "soon"},
    {"lambda_schedule": 5},
    {"replaced_task_nesting": "\ud800"},
    {"compression": ["zlib"]},
    {"compression": "made-up"},
]
WRONG_BODIES = {
    "nested": "[" * 20_000,
    "nested envelope": '{"properties": ' + "[" * 20_000 + "]" * 20_000 + "}",
    "nested arguments": envelope("[" * 20_000),
    "many digits": '{"properties": ' + "1" * 5000 + "}",
    "callbacks": envelope('[[], {}, {"callbacks": 5}]'),
    "chain": envelope('[[], {}, {"chain": ["x"]}]'),
    "chord": envelope('[[], {}, {"chord": [1]}]'),
    "zlib": compressed(zlib.compress(BOMB), "application/x-gzip"),
    "bzip2": compressed(bz2.compress(BOMB), "application/x-bz2"),
    "lzma": compressed(lzma.compress(BOMB), "application/x-lzma"),
    "zlib, cut off": compressed(zlib.compress(b"[[], {}, {}]")[:-4], "zlib"),
    "pointer of lists": json.dumps([POINTER, {"s3BucketName": ["a"], "s3Key": []}]),
    "pointer, nested": f'["{POINTER}", ' + "[" * 20_000,
    "pointer, half a character": json.dumps(
        [POINTER, {"s3BucketName": "payloads", "s3Key": "\ud800"}]
    ),
    "pointer elsewhere": json.dumps([POINTER, {"s3BucketName": "elsewhere", "s3Key": "a"}]),
}
BODIES = [*(envelope(**each) for each in WRONG_HEADERS), *WRONG_BODIES.values()]
IDS = [*(str(each)[:60] for each in WRONG_HEADERS), *WRONG_BODIES]


@pytest.mark.parametrize("suffix", ["", ".fifo"])
def test_what_is_wrong_is_returned_with_a_reason_and_parked_at_the_last_attempt(
    make_runtime, make_stack, caplog, suffix
):
    stack = make_stack(suffix=suffix)
    runtime = make_runtime(
        lambda_queue_url=stack.queue_url,
        lambda_dead_letter_queue_url=stack.dead_letter_queue_url,
        lambda_max_receive_count=2,
        lambda_maximum_body_bytes=1_000_000,
    )
    records = [record(body, n, stack.queue_url) for n, body in enumerate(BODIES)]

    answer = runtime.handler({"Records": records}, Context(time.time() + 60))
    assert sorted(answer["batchItemFailures"], key=str) == sorted(
        ({"itemIdentifier": each["messageId"]} for each in records), key=str
    )
    assert "internal error" not in caplog.text
    assert max(len(each.getMessage()) for each in caplog.records) < 2500

    for each in records:
        each["attributes"]["ApproximateReceiveCount"] = "2"
    answer = runtime.handler({"Records": records}, Context(time.time() + 60))
    assert answer == {"batchItemFailures": []}
    assert "internal error" not in caplog.text
    assert stack.depth(stack.dead_letter_queue_url) == len(records)


def record(body: Any, n: int, queue_url: str, **attributes: Any) -> dict[str, Any]:
    name = queue_url.rpartition("/")[2]
    return {
        "messageId": f"message-{n}",
        "receiptHandle": "handle",
        "body": body,
        "attributes": {"ApproximateReceiveCount": "1", "MessageGroupId": str(n)},
        "messageAttributes": attributes,
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:eu-west-1:000000000000:{name}",
    }


@pytest.mark.parametrize("digits", ["1" * 5000, "x", "-1", "²", None, 7, []])
def test_counts_that_are_none_are_ignored(runtime, digits):
    url = runtime.settings.queue_url
    attribute = {"dataType": "Number", "stringValue": digits}
    good = record(envelope("[[1], {}, {}]"), 1, url, **{SENT_ON_ATTRIBUTE: attribute})
    good["attributes"] |= {"ApproximateReceiveCount": digits, "SentTimestamp": digits}
    answer = runtime.handler({"Records": [good]}, Context(time.time() + 60))
    assert answer == {"batchItemFailures": []}


def test_records_without_their_fields_leave_the_others_alone(runtime):
    good = record(envelope(), 1, runtime.settings.queue_url)
    events = [good, {"messageId": "2"}, {**good, "messageId": "3", "body": {"a": 1}}, {}, 5]
    answer = runtime.handler({"Records": events}, Context(time.time() + 60))
    assert answer["batchItemFailures"] == [{"itemIdentifier": "2"}, {"itemIdentifier": "3"}]


def test_an_internal_error_is_parked_at_the_last_attempt(make_runtime, monkeypatch):
    runtime = make_runtime(lambda_max_receive_count=2)

    def stumble(*args: Any) -> None:
        raise RuntimeError("stumbled")

    monkeypatch.setattr("lambda_runtime.decision.read_request", stumble)
    send(runtime, envelope())
    assert runtime.deliver().all_returned
    assert runtime.deliver().all_deleted
    (parked,) = runtime.stack.dead_letters()
    assert parked["MessageAttributes"][REASON_ATTRIBUTE]["StringValue"] == "an internal error"


def test_a_key_of_its_own_that_cannot_be_written_is_unreadable(make_runtime):
    runtime = make_runtime(lambda_max_receive_count=1)

    @runtime.task(idempotency_key=lambda name: name)
    def confirm(name):
        raise AssertionError("not reached")

    confirm.delay("\ud800")
    assert runtime.deliver().all_deleted
    (parked,) = runtime.stack.dead_letters()
    reason = parked["MessageAttributes"][REASON_ATTRIBUTE]["StringValue"]
    assert "idempotency_key" in reason


def test_a_high_retry_number_is_no_loop(make_runtime, faults):
    runtime = make_runtime(lambda_max_receive_count=1)

    @runtime.task(idempotency_key=lambda n: str(n))
    def fail(n):
        raise ValueError(n)

    deletes = faults.watch(runtime.settings, "dynamodb", "DeleteItem")
    fail.apply_async((1,), retries=50_000)
    assert runtime.deliver().all_deleted
    assert len(deletes) < 5


def test_an_s3_body_over_the_limit_is_not_read(make_runtime):
    runtime = make_runtime(lambda_max_receive_count=1, lambda_maximum_body_bytes=1_500_000)

    @runtime.task
    def attach(attachment):
        raise AssertionError("not reached")

    attach.delay("x" * 2_000_000)
    assert runtime.deliver().all_deleted
    (parked,) = runtime.stack.dead_letters()
    reason = parked["MessageAttributes"][REASON_ATTRIBUTE]["StringValue"]
    assert "1500000 bytes" in reason


def test_another_bucket_is_read_where_a_setting_names_it(make_runtime, stack):
    bucket = f"{stack.settings.payload_bucket}-more"
    stack.s3.create_bucket(
        Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    stack.s3.put_object(Bucket=bucket, Key="a", Body=envelope())
    runtime = make_runtime(lambda_extra_payload_buckets=[bucket])
    send(runtime, json.dumps([POINTER, {"s3BucketName": bucket, "s3Key": "a"}]))
    assert runtime.deliver().all_deleted
    assert stack.s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1


def test_one_object_has_one_key_however_its_pointer_is_spelt():
    spelt = (
        f'["{POINTER}",{{"s3BucketName":"a","s3Key":"b"}}]',
        f'["{POINTER}", {{"s3Key": "\\u0062", "s3BucketName": "a"}}]',
    )
    assert len({payload_key(*locate(each)) for each in spelt}) == 1


def test_an_eta_beyond_the_limit_is_refused_when_it_is_published(runtime):
    @runtime.task
    def later():
        """It is never sent."""

    with pytest.raises(Exception, match="lambda_maximum_delay_seconds"):
        later.apply_async(countdown=400 * 86_400)


class TestEvents:
    @pytest.mark.parametrize("event", [{}, {"key1": "value1"}, None, "ping", {"Records": None}])
    def test_of_nothing_known_get_a_sentence(self, runtime, event):
        with pytest.raises(ConfigurationError, match="no records of SQS messages"):
            runtime.handler(event, Context(time.time() + 60))

    def test_of_another_service_get_a_sentence(self, runtime):
        with pytest.raises(ConfigurationError, match="no messageId"):
            runtime.handler({"Records": [{"eventSource": "aws:s3"}]}, Context(time.time() + 60))

    @pytest.mark.parametrize("event", [{"source": "aws.events"}, {"warmup": True}])
    def test_that_keep_warm_are_answered(self, runtime, event):
        assert runtime.handler(event, None) == {"batchItemFailures": []}

    @pytest.mark.parametrize("context", [None, {}])
    def test_of_pipes_are_served_whatever_the_context(self, runtime, context, caplog):
        good = record(envelope(), 1, runtime.settings.queue_url)
        assert runtime.handler([good], context) == {"batchItemFailures": []}
        assert "30 s are assumed" in caplog.text
