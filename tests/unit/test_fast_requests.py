"""Requests past most of botocore: the same on the wire, and botocore's wherever it gets rare."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import botocore.client
import botocore.endpoint
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ClientError, ConnectionClosedError, NoCredentialsError

from lambda_celery import aws
from lambda_celery.aws import fast_requests
from lambda_celery.aws.fast_requests import is_watched
from lambda_celery.conf import Settings
from lambda_celery.traced import is_plain

URL = "http://127.0.0.1:9"
QUEUE = f"{URL}/000000000000/mail"
Answer = AWSResponse | Exception


class _Raw(io.BytesIO):
    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


def answer(status: int, body: dict[str, Any] | str) -> AWSResponse:
    text = body if isinstance(body, str) else json.dumps(body)
    return AWSResponse(URL, status, {}, _Raw(text.encode()))


class Wire:
    """What a client sends, each answered by the next of the answers, the last one for ever."""

    def __init__(self, client: Any, operation: str, *answers: Answer) -> None:
        self.sent: list[AWSPreparedRequest] = []
        self._answers = list(answers)
        service = client.meta.service_model.service_id.hyphenize()
        client.meta.events.register_first(f"before-send.{service}.{operation}", self._take)

    def _take(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        self.sent.append(request)
        given = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(given, Exception):
            raise given
        return given


@pytest.fixture
def make_client(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    monkeypatch.setattr("lambda_celery.aws.clients._clients", {})
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "mail")
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "Root=1-2;Lineage=3")
    return lambda service: aws.client(service, Settings(endpoint_url=URL, region="eu-west-1"))


@pytest.fixture
def sqs(make_client):
    return make_client("sqs")


ENTRIES = [{"Id": "0", "MessageBody": "hüllo", "MessageGroupId": "g"}]
RECORD = {"id": {"S": "a"}, "expiration": {"N": "1"}}
CALLS = [
    ("sqs", "SendMessage", "send_message", {"QueueUrl": QUEUE, "MessageBody": "b"}),
    ("sqs", "SendMessageBatch", "send_message_batch", {"QueueUrl": QUEUE, "Entries": ENTRIES}),
    ("dynamodb", "PutItem", "put_item", {"TableName": "t", "Item": RECORD}),
    (
        "dynamodb", "UpdateItem", "update_item",
        {"TableName": "t", "Key": {"id": {"S": "a"}}, "UpdateExpression": "REMOVE x"},
    ),
    ("dynamodb", "GetItem", "get_item", {"TableName": "t", "Key": {"id": {"S": "a"}}}),
    ("dynamodb", "DeleteItem", "delete_item", {"TableName": "t", "Key": {"id": {"S": "a"}}}),
]  # fmt: skip


@pytest.mark.parametrize(("service", "operation", "method", "parameters"), CALLS)
def test_the_request_is_the_one_that_botocore_sends(
    make_client, service, operation, method, parameters
):
    """Botocore's stands second: it makes it where the first is refused."""
    client = make_client(service)
    wire = Wire(client, operation, answer(400, {}), answer(200, {}))
    getattr(client, method)(**parameters)

    ours, botocores = wire.sent
    assert (ours.method, ours.url) == (botocores.method, botocores.url)
    assert json.loads(ours.body) == json.loads(botocores.body)
    for name in (
        "Content-Type", "X-Amz-Target", "X-Amz-Security-Token", "X-Amzn-Trace-Id", "User-Agent",
    ):  # fmt: skip
        assert _text(ours.headers[name]) == _text(botocores.headers[name]), name
    scope = [_text(each.headers["Authorization"]).split(",")[0] for each in wire.sent]
    assert scope[0] == scope[1]


def _text(value: str | bytes) -> str:
    text = value.decode() if isinstance(value, bytes) else value
    return text.split(" cfg/")[0].split(" md/Botocore")[0]


def test_a_success_takes_one_request_and_is_parsed(sqs):
    wire = Wire(sqs, "SendMessage", answer(200, {"MessageId": "1"}))
    sent = sqs.send_message(QueueUrl=QUEUE, MessageBody="b")
    assert sent["MessageId"] == "1"
    assert sent["ResponseMetadata"]["RetryAttempts"] == 0
    assert len(wire.sent) == 1


def test_what_aws_refuses_is_botocore_s_exception(sqs):
    refusal = {"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "no such queue"}
    Wire(sqs, "SendMessage", answer(400, refusal))
    with pytest.raises(sqs.exceptions.QueueDoesNotExist) as raised:
        sqs.send_message(QueueUrl=QUEUE, MessageBody="b")
    assert raised.value.response["ResponseMetadata"]["RetryAttempts"] == 0


@pytest.mark.parametrize(
    ("service", "operation", "method", "attempts"),
    [("sqs", "SendMessage", "send_message", 4), ("dynamodb", "DeleteItem", "delete_item", 3)],
)
@pytest.mark.parametrize("watched", [False, True])
def test_attempts_are_as_many_with_tracing_as_without(
    make_client, monkeypatch, service, operation, method, attempts, watched
):
    if watched:
        monkeypatch.setattr("lambda_celery.aws.clients.is_watched", lambda: True)
    client = make_client(service)
    wire = Wire(client, operation, answer(503, {}))
    parameters = next(call[3] for call in CALLS if call[1] == operation)
    with pytest.raises(ClientError):
        getattr(client, method)(**parameters)
    assert len(wire.sent) == attempts


def test_a_throttled_call_is_not_repeated_at_once(make_client, monkeypatch):
    slept = []
    monkeypatch.setattr("lambda_celery.aws.fast_requests.time.sleep", slept.append)
    client = make_client("dynamodb")
    throttled = {"__type": "com.amazonaws.dynamodb#ProvisionedThroughputExceededException"}
    Wire(client, "PutItem", answer(400, throttled), answer(200, {}))
    client.put_item(TableName="t", Item=RECORD)
    assert len(slept) == 1


def test_one_attempt_is_one_attempt(make_client):
    client = make_client("dynamodb")
    statement = {"Statement": "INSERT", "Parameters": [{"S": "a"}]}
    wire = Wire(client, "BatchExecuteStatement", answer(200, {"Responses": [{}]}), answer(500, {}))
    assert client.once("BatchExecuteStatement", Statements=[statement])["Responses"] == [{}]
    with pytest.raises(ClientError):
        client.once("BatchExecuteStatement", Statements=[statement])
    assert len(wire.sent) == 2
    assert json.loads(wire.sent[0].body) == {"Statements": [statement]}


LOST = ConnectionClosedError(endpoint_url=URL)


@pytest.mark.parametrize("lost", [LOST, answer(500, {}), answer(200, "<html>")])
def test_what_may_have_arrived_counts_as_a_first_attempt(make_client, lost):
    """A conditional write that meets itself has to know."""
    client = make_client("dynamodb")
    failed = {"__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException"}
    Wire(client, "PutItem", lost, answer(400, failed))
    with pytest.raises(client.exceptions.ConditionalCheckFailedException) as raised:
        client.put_item(TableName="t", Item=RECORD)
    assert raised.value.response["ResponseMetadata"]["RetryAttempts"] == 1

    Wire(client, "UpdateItem", lost, answer(200, {}))
    made = client.update_item(TableName="t", Key={"id": {"S": "a"}})
    assert made["ResponseMetadata"]["RetryAttempts"] == 1


@pytest.mark.parametrize("value", [b"text", "text"])
def test_binary_values_are_left_to_botocore(make_client, value):
    sqs, dynamodb = make_client("sqs"), make_client("dynamodb")
    wire = Wire(sqs, "SendMessage", answer(200, {"MessageId": "1"}))
    binary = {"DataType": "Binary", "BinaryValue": value}
    sqs.send_message(QueueUrl=QUEUE, MessageBody="b", MessageAttributes={"x": binary})
    (request,) = wire.sent
    assert json.loads(request.body)["MessageAttributes"]["x"]["BinaryValue"] == "dGV4dA=="

    wire = Wire(dynamodb, "PutItem", answer(200, {}))
    dynamodb.put_item(TableName="t", Item={"x": {"L": [{"B": value}]}, "y": {"BS": [value]}})
    (request,) = wire.sent
    item = {"x": {"L": [{"B": "dGV4dA=="}]}, "y": {"BS": ["dGV4dA=="]}}
    assert json.loads(request.body)["Item"] == item


def test_text_that_looks_like_a_binary_value_is_text(sqs):
    wire = Wire(sqs, "SendMessage", answer(200, {"MessageId": "1"}), LOST)
    sqs.send_message(QueueUrl=QUEUE, MessageBody='{"B": "x", "BinaryValue": "y"}')
    assert len(wire.sent) == 1


def test_answers_with_values_in_them_are_left_to_botocore(make_client):
    client = make_client("dynamodb")
    Wire(client, "UpdateItem", answer(200, {"Attributes": {"x": {"B": "/w=="}}}))
    made = client.update_item(TableName="t", Key={"id": {"S": "a"}}, ReturnValues="ALL_NEW")
    assert made["Attributes"] == {"x": {"B": b"\xff"}}

    Wire(client, "GetItem", answer(200, {"Item": {"x": {"BS": ["/w=="]}}}))
    assert client.get_item(TableName="t", Key={"id": {"S": "a"}})["Item"] == {
        "x": {"BS": [b"\xff"]}
    }


def test_without_credentials_it_is_botocore_that_says_so(make_client, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(NoCredentialsError):
        make_client("sqs").send_message(QueueUrl=QUEUE, MessageBody="b")


def test_tracing_around_botocore_s_calls_misses_none(sqs, monkeypatch):
    Wire(sqs, "SendMessage", answer(200, {"MessageId": "1"}))
    traced = []
    call = botocore.client.BaseClient._make_api_call

    @functools.wraps(call)
    def tracing(self, operation, parameters):
        traced.append(operation)
        return call(self, operation, parameters)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", tracing)
    sqs.send_message(QueueUrl=QUEUE, MessageBody="b")
    assert traced == ["SendMessage"]


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (botocore.client.ClientCreator, "_create_api_method"),
        (botocore.endpoint.Endpoint, "make_request"),
    ],
)
def test_tracing_that_goes_deeper_is_seen(monkeypatch, owner, name):
    assert not is_watched()
    function = getattr(owner, name)
    monkeypatch.setattr(owner, name, functools.wraps(function)(lambda *args: function(*args)))
    assert is_watched()


def test_tracing_by_the_events_of_each_client_misses_none(make_client, monkeypatch):
    created = []
    make = botocore.client.BaseClient.__init__

    @functools.wraps(make)
    def listening(self, *args, **kwargs):
        make(self, *args, **kwargs)
        self.meta.events.register("request-created", lambda **_: created.append(1))

    monkeypatch.setattr(botocore.client.BaseClient, "__init__", listening)
    sqs = make_client("sqs")
    Wire(sqs, "SendMessage", answer(200, {"MessageId": "1"}))
    sqs.send_message(QueueUrl=QUEUE, MessageBody="b")
    assert created == [1]


class _Proxy:
    """As wrapt's: everything of it is the wrapped function's, but for its type."""

    def __init__(self, wrapped: Any) -> None:
        self.__dict__["wrapped"] = wrapped

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["wrapped"], name)

    @property
    def __class__(self) -> Any:
        return type(self.__dict__["wrapped"])


def test_a_proxy_is_not_taken_for_what_it_wraps():
    function = json.JSONDecoder.decode
    method = json.JSONDecoder().decode
    assert is_plain(function, json.decoder)
    assert is_plain(method, json.decoder)
    assert isinstance(_Proxy(function), type(function))
    assert not is_plain(_Proxy(function), json.decoder)
    assert not is_plain(_Proxy(method), json.decoder)
    assert not is_plain(functools.wraps(function)(lambda: None), json.decoder)
    assert not is_plain(len, json.decoder)


def test_a_setting_switches_the_fast_path_off(make_client):
    client = aws.client("sqs", Settings(endpoint_url=URL, region="eu-west-1", fast_requests=False))
    assert not isinstance(client, fast_requests.FastClient)
    assert isinstance(make_client("sqs"), fast_requests.FastClient)


@pytest.mark.parametrize("gone", ["_endpoint", "meta.events", "meta.config", "meta.region_name"])
def test_a_botocore_that_lacks_what_is_used_goes_its_own_way(make_client, gone):
    class Lacking:
        """Another client, without one of its parts."""

        def __init__(self, of, path):
            self._of, self._path = of, path

        def __getattr__(self, name):
            head, _, rest = self._path.partition(".")
            if name != head:
                return getattr(self._of, name)
            if not rest:
                raise AttributeError(name)
            return Lacking(getattr(self._of, name), rest)

    known = make_client("sqs")._client
    assert fast_requests.fast_client(known, None) is not None
    assert fast_requests.fast_client(Lacking(known, gone), None) is None


def test_a_service_of_another_protocol_goes_botocore_s_way(make_client):
    assert fast_requests.fast_client(make_client("s3"), None) is None


def test_what_can_no_longer_be_looked_at_is_taken_for_watched(monkeypatch):
    assert not fast_requests.is_watched()
    monkeypatch.delattr(botocore.client.ClientCreator, "_create_api_method")
    assert fast_requests.is_watched()
