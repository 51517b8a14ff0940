"""A wrong deployment is loud: nothing circles without an alarm, and nothing waits for SQS."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError

from lambda_celery import ConfigurationError, aws
from lambda_celery.conf import QueueSettings, Settings
from lambda_celery.exceptions import MessagesReturnedError
from lambda_celery.schedules import scheduler
from lambda_runtime.messages.source_queues import SourceQueue


@pytest.fixture
def ran() -> list[Any]:
    return []


def declare(runtime: Any, ran: list[Any], **options: Any) -> Any:
    @runtime.task(name="proj.send", **options)
    def send(n: Any = None) -> None:
        ran.append(n)

    return send


def received(message: dict[str, Any], times: int) -> dict[str, Any]:
    attributes = {**message["Attributes"], "ApproximateReceiveCount": str(times)}
    return {**message, "Attributes": attributes}


class TestNothingCanRun:
    @pytest.mark.parametrize(
        ("service", "operation", "code", "sentence"),
        [
            ("dynamodb", "PutItem", "AccessDeniedException", "allow dynamodb:PutItem"),
            ("dynamodb", "PutItem", "ResourceNotFoundException", "lambda_idempotency_table"),
            ("dynamodb", "GetItem", "UnrecognizedClientException", "does not accept"),
            ("dynamodb", "PutItem", "KMSAccessDeniedException", "kms:Decrypt"),
        ],
    )
    def test_the_handler_raises_the_sentence_and_sends_nothing_on(
        self, runtime, faults, ran, service, operation, code, sentence
    ):
        send = declare(runtime, ran)
        send.delay(1)
        send.delay(2)
        messages = runtime.receive(2)
        faults.fail(runtime.settings, service, operation, code)

        with pytest.raises(ConfigurationError, match=sentence):
            runtime.hand_over(messages)

        assert ran == []
        assert runtime.stack.depth() == 2

    def test_what_passes_is_waited_for(self, runtime, faults, ran):
        declare(runtime, ran).delay()
        faults.fail(runtime.settings, "dynamodb", "PutItem", "ThrottlingException")

        assert runtime.deliver().all_returned

    def test_at_the_last_receive_it_is_parked_with_the_sentence(self, make_runtime, faults, ran):
        runtime = make_runtime(lambda_max_receive_count=3)
        declare(runtime, ran).delay()
        (message,) = runtime.receive()
        mend = faults.fail(runtime.settings, "dynamodb", "GetItem", "AccessDeniedException")

        assert runtime.hand_over([received(message, 3)]).all_deleted

        (parked,) = runtime.stack.dead_letters()
        assert "allow dynamodb:GetItem" in json.dumps(parked["MessageAttributes"])
        assert runtime.stack.depth() == 0
        mend()
        runtime.send_copy(parked)  # a redrive
        assert runtime.deliver().all_deleted
        assert ran == [None]

    def test_one_of_several_reasons_does_not_stop_the_others(self, make_runtime, faults, ran):
        runtime = make_runtime(lambda_payload_threshold_bytes=2000)
        send = declare(runtime, ran)
        send.delay("small")
        send.delay("x" * 5000)
        faults.fail(runtime.settings, "s3", "GetObject", "AccessDenied", status=403)

        answer = runtime.deliver(2)

        assert ran == ["small"]
        assert len(answer.failed) == 1

    def test_what_cannot_be_sent_on_counts_too(self, runtime, faults, ran):
        due = datetime.now(UTC) + timedelta(hours=1)
        send = declare(runtime, ran)
        sent = faults.watch(runtime.settings, "sqs", "SendMessage")
        send.apply_async(eta=due)
        runtime.sqs.send_message(**{**sent[0], "DelaySeconds": 0})
        (message,) = runtime.receive()
        faults.fail(runtime.settings, "sqs", "SendMessage", "AccessDenied", status=403)

        with pytest.raises(ConfigurationError, match="allow sqs:SendMessage"):
            runtime.hand_over([message])

    def test_the_followers_in_a_message_group_count_with_the_first(
        self, make_runtime, make_stack, faults, ran
    ):
        stack = make_stack(suffix=".fifo")
        runtime = make_runtime(lambda_queue_url=stack.queue_url)
        send = declare(runtime, ran)
        for n in range(3):
            send.apply_async((n,), MessageGroupId="a")
        messages = runtime.receive(3)
        faults.fail(runtime.settings, "dynamodb", "PutItem", "AccessDeniedException")

        with pytest.raises(ConfigurationError, match="allow dynamodb:PutItem"):
            runtime.hand_over(messages)


def refusal(code: str, message: str = "refused") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "SendMessage")


@pytest.mark.parametrize(
    ("exc", "sentence"),
    [
        (refusal("KMS.AccessDeniedException"), "kms:Decrypt and kms:GenerateDataKey on that key"),
        (refusal("KmsDisabled"), "see that the key is enabled"),
        (refusal("KmsInvalidState"), "see that the key is enabled"),
        (
            refusal(
                "AccessDeniedException",
                "User: arn is not authorized to perform: kms:GenerateDataKey on this resource",
            ),
            "allow kms:GenerateDataKey on that key",
        ),
    ],
)
def test_a_key_of_kms_is_named_with_its_grant(exc, sentence):
    assert aws.misconfigured(exc)
    told = aws.explain(exc, action="sqs:SendMessage", resource="the queue")
    assert sentence in told
    assert "allow sqs:SendMessage" not in told


def test_kms_that_throttles_passes():
    exc = refusal("KmsThrottled")
    assert not aws.misconfigured(exc)
    assert aws.is_transient(exc)


def test_schedulers_role_is_named_with_its_trust():
    exc = refusal(
        "ValidationException",
        "The execution role you provide must allow AWS EventBridge Scheduler to assume the role.",
    )
    settings = Settings(schedule_role_arn="arn:aws:iam::1:role/schedules")
    assert scheduler.misconfigured(exc)
    assert "allow sts:AssumeRole to scheduler.amazonaws.com" in scheduler.explain(exc, settings)


class TestSQSCannotBeAsked:
    @pytest.mark.parametrize(
        ("code", "status"), [("AccessDenied", 403), ("ThrottlingException", 400), ("Oh", 500)]
    )
    def test_tasks_run_without_it_and_it_is_asked_once_an_invocation(
        self, runtime, faults, ran, caplog, code, status
    ):
        send = declare(runtime, ran)
        for n in range(6):
            send.delay(n)
        runtime.handler  # noqa: B018 - made before the fault
        faults.fail(runtime.settings, "sqs", "GetQueueAttributes", code, status=status)
        asked = faults.watch(runtime.settings, "sqs", "GetQueueAttributes")

        assert runtime.deliver(5).all_deleted
        assert len(asked) == 1
        assert sorted(ran) == [0, 1, 2, 3, 4]
        assert "is taken for unlimited; or set lambda_max_receive_count" in caplog.text
        assert runtime.deliver().all_deleted
        assert len(asked) == 2

    def test_what_failed_comes_back(self, make_runtime, faults):
        runtime = make_runtime(lambda_dead_letter_queue_url=None)

        @runtime.task
        def send():
            raise ValueError("bug")

        send.delay()
        (message,) = runtime.receive()
        faults.fail(runtime.settings, "sqs", "GetQueueAttributes", "ThrottlingException")
        assert runtime.hand_over([received(message, 9)]).all_returned


class TestTwoLimits:
    @pytest.mark.parametrize("given", [2, 10])
    def test_the_smaller_one_holds_and_that_is_said(self, make_runtime, ran, caplog, given):
        runtime = make_runtime(lambda_max_receive_count=given)  # the queue's policy says 5

        @runtime.task
        def send():
            raise ValueError("bug")

        send.delay()
        for _ in range(min(given, 5) - 1):
            assert runtime.deliver().all_returned
        assert runtime.deliver().all_deleted
        assert len(runtime.stack.dead_letters()) == 1
        assert caplog.text.count(f"is {given}, but the redrive policy of") == 1
        assert "says 5: the smaller one holds" in caplog.text


@pytest.mark.parametrize(
    ("arn", "url"),
    [
        ("arn:aws:sqs:eu-west-1:111111111111:mail", "one"),
        ("arn:aws:sqs:eu-west-1:222222222222:mail", "two"),
        ("arn:aws:sqs:us-east-1:111111111111:mail", None),
        ("arn:aws-cn:sqs:cn-north-1:111111111111:mail", None),
    ],
)
def test_queues_of_one_name_in_two_accounts_or_regions_are_two(arn, url):
    urls = {
        "one": "https://sqs.eu-west-1.amazonaws.com/111111111111/mail",
        "two": "https://sqs.eu-west-1.amazonaws.com/222222222222/mail",
    }
    queues = {name: QueueSettings(each, max_receive_count=5) for name, each in urls.items()}
    settings = Settings(queues=queues, region="eu-west-1")
    queue = SourceQueue(arn, settings)

    if url is None:
        _, partition, _, region, account, name = arn.split(":")
        domain = "amazonaws.com.cn" if partition == "aws-cn" else "amazonaws.com"
        assert queue.url == f"https://sqs.{region}.{domain}/{account}/{name}"
        assert queue.settings.max_receive_count is None
    else:
        assert queue.url == urls[url]


class TestNoListOfFailures:
    """The event source mapping has no ReportBatchItemFailures."""

    def test_the_handler_raises_and_what_is_settled_is_gone(self, make_runtime, ran):
        runtime = make_runtime(lambda_report_batch_item_failures=False)

        @runtime.task
        def send(n):
            ran.append(n)
            if n == 1 and ran.count(1) == 1:
                raise ValueError("451")

        for n in range(3):
            send.delay(n)

        with pytest.raises(MessagesReturnedError, match="1 messages of the batch stay"):
            runtime.deliver(3)
        assert runtime.stack.depth() == 1
        runtime.deliver()
        assert sorted(ran) == [0, 1, 1, 2]

    def test_an_answer_without_failures_is_one(self, make_runtime, ran):
        runtime = make_runtime(lambda_report_batch_item_failures=False)
        declare(runtime, ran).delay()
        assert runtime.deliver().all_deleted

    @pytest.mark.parametrize("types", [None, [], ["ReportBatchItemFailures"]])
    def test_that_it_is_missing_is_said_at_the_first_failure(self, runtime, caplog, types):
        asked: list[str] = []

        def answer(request: Any, **_: Any) -> AWSResponse:
            asked.append(request.url)
            mapping = {"UUID": "mapping-1", "FunctionResponseTypes": types}
            body = json.dumps({"EventSourceMappings": [mapping]}).encode()
            return AWSResponse(request.url, 200, {}, Raw(body))

        client = aws.client("lambda", runtime.settings, patient=False)
        event = "before-send.lambda.ListEventSourceMappings"
        client.meta.events.register_first(event, answer)

        @runtime.task
        def send():
            raise ValueError("451")

        for _ in range(2):
            send.delay()
            event_of_one = runtime.event(runtime.receive())
            runtime.handler(event_of_one, Invoked(time.time() + 60))
            for thread in threading.enumerate():
                if thread.name == "lambda-celery-mapping":
                    thread.join()
        client.meta.events.unregister(event, answer)

        (url,) = asked  # once a process
        assert "function%3Amail" in url
        said = "mapping-1 has no ReportBatchItemFailures" in caplog.text
        assert said is (types != ["ReportBatchItemFailures"])


class Raw(io.BytesIO):
    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


class Invoked:
    """A context that names its function."""

    invoked_function_arn = "arn:aws:lambda:eu-west-1:000000000000:function:mail"

    def __init__(self, ends_at: float) -> None:
        self._ends_at = ends_at

    def get_remaining_time_in_millis(self) -> int:
        return int((self._ends_at - time.time()) * 1000)
