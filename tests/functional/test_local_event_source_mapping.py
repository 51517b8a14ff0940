"""The event source mapping over an emulated SQS and real awslambdaric processes."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import queue
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from lambda_celery.exceptions import ConfigurationError
from lambda_celery.local.event_source_mapping import BatchReport, EventSourceMapping
from lambda_celery.local.function import MAXIMUM_EVENT_BYTES, InvocationResult, LocalFunction

MakeFunction = Callable[..., LocalFunction]
Start = Callable[..., EventSourceMapping]

#: Each message says what its handler has to do; the last one that says something wins.
HANDLER = """
import json, os, time

def handler(event, context):
    failures, answer, given = [], None, False
    for record in event["Records"]:
        message = json.loads(record["body"])
        if message.get("fail"):
            failures.append({"itemIdentifier": record["messageId"]})
        if "answer" in message:
            answer, given = message["answer"], True
        if message.get("raise"):
            raise RuntimeError("no")
        if message.get("exit"):
            os._exit(1)
        if message.get("hang"):
            time.sleep(600)
    return answer if given else {"batchItemFailures": failures}
"""


class Reports:
    """Collects what ``on_batch`` is called with."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[BatchReport] = queue.SimpleQueue()

    def __call__(self, report: BatchReport) -> None:
        self._queue.put(report)

    def next(self) -> BatchReport:
        return self._queue.get(timeout=60)

    def all(self) -> list[BatchReport]:
        return [self._queue.get() for _ in range(self._queue.qsize())]


class StubFunction:
    """A function without processes, for tests of what is polled rather than of what runs."""

    timeout_seconds = 5

    def __init__(self, answer: Callable[[Mapping[str, Any]], Any] = lambda event: None) -> None:
        self._answer = answer

    def invoke(self, event: Mapping[str, Any]) -> InvocationResult:
        return InvocationResult(self._answer(event), None, 0.0)


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
def function(tmp_path: Path, local_function: MakeFunction) -> LocalFunction:
    (tmp_path / "lambda_module.py").write_text(HANDLER)
    return local_function("lambda_module.handler")


def bodies(report: BatchReport) -> list[str]:
    return [record["body"] for record in report.event["Records"]]


def test_messages_that_are_done_are_deleted(
    stack: Any, function: LocalFunction, event_source_mapping: Start, reports: Reports
) -> None:
    ids = stack.send(*["{}"] * 25)

    mapping = event_source_mapping(stack, function, on_batch=reports)
    mapping.wait_until_idle(60)

    seen = Counter(each for report in reports.all() for each in report.message_ids)
    assert seen == Counter(ids)  # every one, and none of them twice
    assert stack.depth() == 0


def test_the_event_is_what_lambda_sends(
    stack: Any, event_source_mapping: Start, reports: Reports
) -> None:
    body = "žluťoučký"
    answer = stack.sqs.send_message(
        QueueUrl=stack.queue_url,
        MessageBody=body,
        MessageGroupId="fair",
        MessageAttributes={
            "size": {"DataType": "Number", "StringValue": "7"},
            "blob": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
        },
    )

    event_source_mapping(stack, StubFunction(), on_batch=reports)

    [record] = reports.next().event["Records"]
    assert record.pop("receiptHandle")
    attributes = record.pop("attributes")
    assert attributes["ApproximateReceiveCount"] == "1"
    assert attributes["MessageGroupId"] == "fair"
    assert {"SenderId", "SentTimestamp", "ApproximateFirstReceiveTimestamp"} <= attributes.keys()
    lists: dict[str, list[str]] = {"stringListValues": [], "binaryListValues": []}
    assert record == {
        "messageId": answer["MessageId"],
        "body": body,
        "md5OfBody": hashlib.md5(body.encode()).hexdigest(),
        "md5OfMessageAttributes": answer["MD5OfMessageAttributes"],
        "messageAttributes": {
            "size": {"stringValue": "7", "dataType": "Number", **lists},
            "blob": {
                "binaryValue": base64.b64encode(b"\x00\xff").decode(),
                "dataType": "Binary",
                **lists,
            },
        },
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:eu-west-1:000000000000:{stack.queue_url.split('/')[-1]}",
        "awsRegion": "eu-west-1",
    }


def test_failed_messages_stay_and_the_others_are_deleted(
    stack: Any, function: LocalFunction, event_source_mapping: Start, reports: Reports
) -> None:
    ids = stack.send("{}", '{"fail": true}', "{}", '{"fail": true}')

    mapping = event_source_mapping(stack, function, on_batch=reports)
    report = reports.next()
    mapping.stop()

    assert report.error is None
    assert report.failed_message_ids == {ids[1], ids[3]}
    assert stack.depth() == 2
    assert stack.messages() == []  # hidden, until their visibility time-out ends


@pytest.mark.parametrize("answer", [None, {}, {"batchItemFailures": []}, {"other": 1}])
def test_an_empty_answer_is_a_success(
    stack: Any,
    function: LocalFunction,
    event_source_mapping: Start,
    reports: Reports,
    answer: Any,
) -> None:
    stack.send(json.dumps({"answer": answer}), "{}")

    mapping = event_source_mapping(stack, function, on_batch=reports)
    mapping.wait_until_idle(60)

    assert [each.error for each in reports.all()] == [None]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("done", "no JSON object"),
        ([], "no JSON object"),
        ({"batchItemFailures": {}}, "no list"),
        ({"batchItemFailures": "all"}, "no list"),
        ({"batchItemFailures": [{"id": "x"}]}, "no itemIdentifier"),
        ({"batchItemFailures": ["x"]}, "no itemIdentifier"),
        ({"batchItemFailures": [{"itemIdentifier": ""}]}, "itemIdentifier is ''"),
        ({"batchItemFailures": [{"itemIdentifier": None}]}, "itemIdentifier is None"),
        ({"batchItemFailures": [{"itemIdentifier": "x"}]}, "not in the batch"),
    ],
)
def test_a_malformed_answer_fails_the_whole_batch(
    stack: Any,
    function: LocalFunction,
    event_source_mapping: Start,
    reports: Reports,
    answer: Any,
    reason: str,
) -> None:
    stack.send(json.dumps({"answer": answer}), "{}", "{}")

    mapping = event_source_mapping(stack, function, on_batch=reports)
    report = reports.next()
    mapping.stop()

    assert report.error is not None
    assert reason in report.error
    assert report.failed_message_ids == set(report.message_ids)
    assert stack.depth() == 3


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("raise", "RuntimeError: no"),
        ("exit", "process exited with status 1"),
        ("hang", "timed out after 1 s"),
    ],
)
def test_a_failed_invocation_fails_the_whole_batch(
    stack: Any,
    tmp_path: Path,
    local_function: MakeFunction,
    event_source_mapping: Start,
    reports: Reports,
    what: str,
    error: str,
) -> None:
    (tmp_path / "lambda_module.py").write_text(HANDLER)
    function = local_function("lambda_module.handler", timeout_seconds=1)
    stack.send("{}", json.dumps({what: True}), "{}")

    mapping = event_source_mapping(stack, function, on_batch=reports)
    report = reports.next()
    assert report.error == error
    assert stack.depth() == 3

    # The mapping goes on with the next batch, in a process that is alive.
    stack.send("{}")
    assert reports.next().error is None
    mapping.stop()
    assert stack.depth() == 3


def test_without_report_batch_item_failures_any_answer_deletes(
    stack: Any, function: LocalFunction, event_source_mapping: Start
) -> None:
    stack.send('{"fail": true}', '{"answer": "done"}')

    mapping = event_source_mapping(stack, function, report_batch_item_failures=False)

    mapping.wait_until_idle(60)


def test_a_failed_message_comes_back_with_its_visibility_and_ends_as_a_dead_letter(
    make_stack: Callable[..., Any], event_source_mapping: Start, reports: Reports
) -> None:
    stack = make_stack(max_receive_count=3)

    def fail_at_once(event: Mapping[str, Any]) -> Any:
        # As the runtime does: the handler itself says when a message comes back.
        for record in event["Records"]:
            stack.sqs.change_message_visibility(
                QueueUrl=stack.queue_url,
                ReceiptHandle=record["receiptHandle"],
                VisibilityTimeout=0,
            )
        return {
            "batchItemFailures": [
                {"itemIdentifier": record["messageId"]} for record in event["Records"]
            ]
        }

    [message_id] = stack.send("poison")

    # One at a time, so that the reports come in the order of the receives.
    mapping = event_source_mapping(
        stack, StubFunction(fail_at_once), maximum_concurrency=1, on_batch=reports
    )
    mapping.wait_until_idle(60)

    counts = [
        record["attributes"]["ApproximateReceiveCount"]
        for report in reports.all()
        for record in report.event["Records"]
    ]
    assert counts == ["1", "2", "3"]
    [dead_letter] = stack.dead_letters()
    assert dead_letter["Body"] == "poison"
    assert dead_letter["MessageId"] == message_id


def test_a_superseded_receipt_handle_is_no_disaster(
    make_stack: Callable[..., Any], event_source_mapping: Start, caplog: pytest.LogCaptureFixture
) -> None:
    stack = make_stack()
    once = iter([True])

    def receive_again(event: Mapping[str, Any]) -> Any:
        if next(once, False):
            [record] = event["Records"]
            stack.sqs.change_message_visibility(
                QueueUrl=stack.queue_url,
                ReceiptHandle=record["receiptHandle"],
                VisibilityTimeout=0,
            )
            answer = stack.sqs.receive_message(
                QueueUrl=stack.queue_url, WaitTimeSeconds=5, VisibilityTimeout=1
            )
            assert len(answer["Messages"]) == 1

    [message_id] = stack.send("{}")
    caplog.set_level(logging.DEBUG, "lambda_celery.local")

    # With one place only, the mapping itself does not receive it in between.
    mapping = event_source_mapping(stack, StubFunction(receive_again), maximum_concurrency=1)
    mapping.wait_until_idle(60)

    assert f"The message {message_id} was deleted by the function, or received" in caplog.text
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


def test_batches_in_flight_are_bounded(
    stack: Any, event_source_mapping: Start, reports: Reports
) -> None:
    lock = threading.Lock()
    all_there = threading.Barrier(3, timeout=60)
    running = 0
    highest = 0

    def answer(event: Mapping[str, Any]) -> None:
        nonlocal running, highest
        with lock:
            running += 1
            highest = max(highest, running)
        all_there.wait()  # passes only when three are here at once
        with lock:
            running -= 1

    stack.send(*["{}"] * 12)

    mapping = event_source_mapping(
        stack, StubFunction(answer), batch_size=1, maximum_concurrency=3, on_batch=reports
    )
    mapping.wait_until_idle(60)

    assert highest == 3
    assert len(reports.all()) == 12


@pytest.mark.parametrize("batch_size", [1, 4, 10])
def test_a_batch_has_at_most_batch_size_messages(
    stack: Any, event_source_mapping: Start, reports: Reports, batch_size: int
) -> None:
    stack.send(*["{}"] * 20)

    mapping = event_source_mapping(
        stack, StubFunction(), batch_size=batch_size, maximum_concurrency=1, on_batch=reports
    )
    mapping.wait_until_idle(60)

    sizes = [len(each.message_ids) for each in reports.all()]
    assert sum(sizes) == 20
    assert max(sizes) == batch_size


def test_the_window_gathers_what_comes_in_it(
    stack: Any, event_source_mapping: Start, reports: Reports
) -> None:
    stack.send(*map(str, range(35)))

    event_source_mapping(
        stack,
        StubFunction(),
        batch_size=30,
        maximum_batching_window_seconds=5,
        on_batch=reports,
    )

    # The first is full long before its window ends; the second ends with its window.
    assert len(reports.next().message_ids) == 30
    assert len(reports.next().message_ids) == 5


def test_an_event_has_at_most_6_mb(
    stack: Any, event_source_mapping: Start, reports: Reports
) -> None:
    body = "x" * 900_000
    for _ in range(8):  # six of them are below 6 MiB, seven above
        stack.send(body)

    mapping = event_source_mapping(
        stack,
        StubFunction(),
        batch_size=100,
        maximum_batching_window_seconds=300,
        on_batch=reports,
    )
    first = reports.next()
    mapping.stop()  # which ends the next batch's window, but does not drop what is in it

    size = len(json.dumps(first.event, ensure_ascii=False, separators=(",", ":")).encode())
    assert len(first.message_ids) == 6
    assert size <= MAXIMUM_EVENT_BYTES < size + len(body)
    rest = reports.next()
    assert set(rest.message_ids).isdisjoint(first.message_ids)
    assert stack.depth() == 8 - len(first.message_ids) - len(rest.message_ids)


def test_a_fifo_queue_keeps_the_order_of_each_group(
    make_stack: Callable[..., Any], event_source_mapping: Start, reports: Reports
) -> None:
    stack = make_stack(".fifo")
    for number in range(24):
        stack.sqs.send_message(
            QueueUrl=stack.queue_url,
            MessageBody=str(number),
            MessageGroupId=str(number % 2),
            MessageDeduplicationId=str(number),
        )
    lock = threading.Lock()
    seen: dict[str, list[int]] = {"0": [], "1": []}
    busy: Counter[str] = Counter()

    def answer(event: Mapping[str, Any]) -> None:
        groups = {each["attributes"]["MessageGroupId"] for each in event["Records"]}
        with lock:
            busy.update(groups)
            assert all(busy[group] == 1 for group in groups), "two batches of a group at a time"
            for each in event["Records"]:
                seen[each["attributes"]["MessageGroupId"]].append(int(each["body"]))
        with lock:
            busy.subtract(groups)

    mapping = event_source_mapping(
        stack, StubFunction(answer), batch_size=3, maximum_concurrency=4, on_batch=reports
    )
    mapping.wait_until_idle(60)

    assert seen == {"0": list(range(0, 24, 2)), "1": list(range(1, 24, 2))}


def test_stop_lets_the_batch_in_flight_finish(
    stack: Any, event_source_mapping: Start, reports: Reports
) -> None:
    started, finish = threading.Event(), threading.Event()

    def answer(event: Mapping[str, Any]) -> None:
        started.set()
        assert finish.wait(60)

    stack.send("{}")
    # With one place only, nothing is received while the batch is in flight.
    mapping = event_source_mapping(
        stack, StubFunction(answer), maximum_concurrency=1, on_batch=reports
    )
    assert started.wait(60)
    stopping = threading.Thread(target=mapping.stop)
    stopping.start()

    while not mapping.is_stopping:
        threading.Event().wait(0.01)
    stack.send("late")
    assert stopping.is_alive()
    finish.set()
    stopping.join(60)

    assert not stopping.is_alive()
    assert len(reports.all()) == 1
    assert stack.depth() == 1  # the late one


def test_wait_until_idle_counts_what_is_hidden(stack: Any, event_source_mapping: Start) -> None:
    def fail(event: Mapping[str, Any]) -> Any:
        return {"batchItemFailures": [{"itemIdentifier": event["Records"][0]["messageId"]}]}

    stack.send("{}")
    mapping = event_source_mapping(stack, StubFunction(fail))

    with pytest.raises(TimeoutError, match="was not idle after 2 s"):
        mapping.wait_until_idle(2)


def test_an_exception_in_the_callback_does_not_end_the_mapping(
    stack: Any, event_source_mapping: Start
) -> None:
    calls = []

    def callback(report: BatchReport) -> None:
        calls.append(report)
        raise RuntimeError("broken callback")

    mapping = event_source_mapping(stack, StubFunction(), on_batch=callback)
    stack.send("{}")
    mapping.wait_until_idle(60)
    stack.send("{}")
    mapping.wait_until_idle(60)

    assert len(calls) == 2


def test_polling_goes_on_after_an_aws_error(
    stack: Any, event_source_mapping: Start, reports: Reports, caplog: pytest.LogCaptureFixture
) -> None:
    event_source_mapping(stack, StubFunction(), on_batch=reports)
    stack.sqs.delete_queue(QueueUrl=stack.queue_url)
    failed = threading.Event()
    while "sqs:ReceiveMessage" not in caplog.text and "does not exist" not in caplog.text:
        failed.wait(0.05)

    stack.sqs.create_queue(QueueName=stack.queue_url.rpartition("/")[2])
    [message_id] = stack.send("{}")

    assert reports.next().message_ids == (message_id,)


def test_what_aws_refuses_is_refused_at_the_start(
    make_stack: Callable[..., Any], event_source_mapping: Start
) -> None:
    fifo = make_stack(".fifo")
    with pytest.raises(ConfigurationError, match="FIFO queue: set 10 or less"):
        event_source_mapping(fifo, StubFunction(), batch_size=11, maximum_batching_window_seconds=1)
    with pytest.raises(ConfigurationError, match="it takes no window"):
        event_source_mapping(fifo, StubFunction(), maximum_batching_window_seconds=1)
    short = make_stack(visibility_timeout_seconds=4)
    with pytest.raises(ConfigurationError, match=r"visibility time-out of .* is 4 s"):
        event_source_mapping(short, StubFunction())


def test_a_queue_that_is_not_there_is_named(stack: Any, event_source_mapping: Start) -> None:
    stack.sqs.delete_queue(QueueUrl=stack.queue_url)

    with pytest.raises(ConfigurationError, match=stack.queue_url):
        event_source_mapping(stack, StubFunction())
