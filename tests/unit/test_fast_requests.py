"""Requests past most of botocore: the same on the wire, and botocore's wherever it gets rare."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import botocore.client
import botocore.endpoint
import botocore.httpsession
import pytest
from botocore.exceptions import ClientError, NoCredentialsError
from botocore.stub import Stubber

from lambda_celery import aws
from lambda_celery.aws import fast_requests
from lambda_celery.aws.connections import Patience
from lambda_celery.aws.fast_requests import is_watched
from lambda_celery.conf import Settings
from lambda_celery.traced import is_plain
from lambda_runtime.table.group_commit import GroupCommit, Result, Statement, Written
from tests.unit.wire import LOST, Wire, answer

PATIENCE = Patience(connect_seconds=2, read_seconds=5, maximum_idle=2)
#: Where nobody is asked.
NOWHERE = "http://127.0.0.1:9"
QUEUE = f"{NOWHERE}/000000000000/mail"


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire().serving() as wire:
        yield wire


@pytest.fixture
def make_client(monkeypatch: pytest.MonkeyPatch, wire: Wire) -> Callable[[str], Any]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    monkeypatch.setattr("lambda_celery.aws.clients._clients", {})
    for name in ("botocore.endpoint.time", "lambda_celery.aws.fast_requests.time"):
        monkeypatch.setattr(name, SimpleNamespace(sleep=lambda _: None))
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "mail")
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "Root=1-2;Lineage=3")
    return lambda service: aws.client(service, Settings(endpoint_url=wire.url, region="eu-west-1"))


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
    make_client, service, operation, method, parameters, wire
):
    """Botocore's stands second: it makes it where the first is refused."""
    client = make_client(service)
    wire.answers(answer(400, {}), answer(200, {}))
    getattr(client, method)(**parameters)

    ours, botocores = wire.sent
    assert (ours.method, ours.path) == (botocores.method, botocores.path)
    assert json.loads(ours.body) == json.loads(botocores.body)
    for name in (
        "Content-Type", "X-Amz-Target", "X-Amz-Security-Token", "X-Amzn-Trace-Id", "User-Agent",
    ):  # fmt: skip
        assert _text(ours.headers[name]) == _text(botocores.headers[name]), name
    scope = [each.headers["Authorization"].split(",")[0] for each in wire.sent]
    assert scope[0] == scope[1]


def _text(value: str) -> str:
    return value.split(" cfg/")[0].split(" md/Botocore")[0]


def test_a_success_takes_one_request_and_is_parsed(sqs, wire):
    wire.answers(answer(200, {"MessageId": "1"}))
    sent = sqs.send_message(QueueUrl=QUEUE, MessageBody="b")
    assert sent["MessageId"] == "1"
    assert sent["ResponseMetadata"]["RetryAttempts"] == 0
    assert len(wire.sent) == 1


def test_what_aws_refuses_is_botocore_s_exception(sqs, wire):
    refusal = {"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "no such queue"}
    wire.answers(answer(400, refusal))
    with pytest.raises(sqs.exceptions.QueueDoesNotExist) as raised:
        sqs.send_message(QueueUrl=QUEUE, MessageBody="b")
    assert raised.value.response["ResponseMetadata"]["RetryAttempts"] == 0


@pytest.mark.parametrize(
    ("service", "operation", "method", "attempts"),
    [("sqs", "SendMessage", "send_message", 4), ("dynamodb", "DeleteItem", "delete_item", 3)],
)
@pytest.mark.parametrize("watched", [False, True])
def test_attempts_are_as_many_with_tracing_as_without(
    make_client, monkeypatch, service, operation, method, attempts, watched, wire
):
    if watched:
        monkeypatch.setattr("lambda_celery.aws.clients.is_watched", lambda: True)
    client = make_client(service)
    wire.answers(answer(503, {}))
    parameters = next(call[3] for call in CALLS if call[1] == operation)
    with pytest.raises(ClientError):
        getattr(client, method)(**parameters)
    assert len(wire.sent) == attempts


def test_a_throttled_call_is_not_repeated_at_once(make_client, monkeypatch, wire):
    slept = []
    monkeypatch.setattr("lambda_celery.aws.fast_requests.time.sleep", slept.append)
    client = make_client("dynamodb")
    throttled = {"__type": "com.amazonaws.dynamodb#ProvisionedThroughputExceededException"}
    wire.answers(answer(400, throttled), answer(200, {}))
    client.put_item(TableName="t", Item=RECORD)
    assert len(slept) == 1


def test_one_attempt_is_one_attempt(make_client, wire):
    client = make_client("dynamodb")
    statement = {"Statement": "INSERT", "Parameters": [{"S": "a"}]}
    wire.answers(answer(200, {"Responses": [{}]}), answer(500, {}))
    commit = GroupCommit(client)
    assert commit.write(Statement("a", "INSERT", [{"S": "a"}])).written is Written.YES
    assert commit.write(Statement("a", "INSERT", [{"S": "a"}])).written is Written.PERHAPS
    assert len(wire.sent) == 2
    assert json.loads(wire.sent[0].body) == {"Statements": [statement]}


@pytest.mark.parametrize("watched", [False, True], ids=["ours", "botocore's"])
@pytest.mark.parametrize("item", [RECORD, None], ids=["told", "not told"])
def test_a_statement_is_told_what_stood_in_its_way(make_client, monkeypatch, wire, watched, item):
    if watched:
        monkeypatch.setattr("lambda_celery.aws.clients.is_watched", lambda: True)
    error = {"Code": "DuplicateItem", "Message": "Duplicate primary key exists in table"}
    error |= {"Item": item} if item else {}
    wire.answers(answer(200, {"Responses": [{"Error": error, "TableName": "t"}]}))
    statement = Statement("a", "INSERT", [{"S": "a"}], wants_item=True)
    assert GroupCommit(make_client("dynamodb")).write(statement) == Result(Written.NO, item)
    (request,) = wire.sent
    (asked,) = json.loads(request.body)["Statements"]
    assert asked["ReturnValuesOnConditionCheckFailure"] == "ALL_OLD"


@pytest.mark.parametrize("lost", [LOST, answer(500, {}), answer(200, "<html>")])
def test_what_may_have_arrived_counts_as_a_first_attempt(make_client, lost, wire):
    """A conditional write that meets itself has to know."""
    client = make_client("dynamodb")
    failed = {"__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException"}
    wire.answers(lost, answer(400, failed))
    with pytest.raises(client.exceptions.ConditionalCheckFailedException) as raised:
        client.put_item(TableName="t", Item=RECORD)
    assert raised.value.response["ResponseMetadata"]["RetryAttempts"] == 1

    wire.answers(lost, answer(200, {}))
    made = client.update_item(TableName="t", Key={"id": {"S": "a"}})
    assert made["ResponseMetadata"]["RetryAttempts"] == 1


@pytest.mark.parametrize("value", [b"text", "text"])
def test_binary_values_are_left_to_botocore(make_client, value, wire):
    sqs, dynamodb = make_client("sqs"), make_client("dynamodb")
    wire.answers(answer(200, {"MessageId": "1"}))
    binary = {"DataType": "Binary", "BinaryValue": value}
    sqs.send_message(QueueUrl=QUEUE, MessageBody="b", MessageAttributes={"x": binary})
    (request,) = wire.sent
    assert json.loads(request.body)["MessageAttributes"]["x"]["BinaryValue"] == "dGV4dA=="

    wire.answers(answer(200, {}))
    dynamodb.put_item(TableName="t", Item={"x": {"L": [{"B": value}]}, "y": {"BS": [value]}})
    (request,) = wire.sent
    item = {"x": {"L": [{"B": "dGV4dA=="}]}, "y": {"BS": ["dGV4dA=="]}}
    assert json.loads(request.body)["Item"] == item


def test_text_that_looks_like_a_binary_value_is_text(sqs, wire):
    wire.answers(answer(200, {"MessageId": "1"}), LOST)
    sqs.send_message(QueueUrl=QUEUE, MessageBody='{"B": "x", "BinaryValue": "y"}')
    assert len(wire.sent) == 1


def test_answers_with_values_in_them_are_left_to_botocore(make_client, wire):
    client = make_client("dynamodb")
    wire.answers(answer(200, {"Attributes": {"x": {"B": "/w=="}}}))
    made = client.update_item(TableName="t", Key={"id": {"S": "a"}}, ReturnValues="ALL_NEW")
    assert made["Attributes"] == {"x": {"B": b"\xff"}}

    wire.answers(answer(200, {"Item": {"x": {"BS": ["/w=="]}}}))
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


def test_tracing_around_botocore_s_calls_misses_none(sqs, monkeypatch, wire):
    wire.answers(answer(200, {"MessageId": "1"}))
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


def test_tracing_by_the_events_of_each_client_misses_none(make_client, monkeypatch, wire):
    created = []
    make = botocore.client.BaseClient.__init__

    @functools.wraps(make)
    def listening(self, *args, **kwargs):
        make(self, *args, **kwargs)
        self.meta.events.register("request-created", lambda **_: created.append(1))

    monkeypatch.setattr(botocore.client.BaseClient, "__init__", listening)
    sqs = make_client("sqs")
    wire.answers(answer(200, {"MessageId": "1"}))
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
    client = aws.client(
        "sqs", Settings(endpoint_url=NOWHERE, region="eu-west-1", fast_requests=False)
    )
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
    assert fast_requests.fast_client(known, None, PATIENCE) is not None
    assert fast_requests.fast_client(Lacking(known, gone), None, PATIENCE) is None


def test_a_service_of_another_protocol_goes_botocore_s_way(make_client):
    assert fast_requests.fast_client(make_client("s3"), None, PATIENCE) is None


def test_what_can_no_longer_be_looked_at_is_taken_for_watched(monkeypatch):
    assert not fast_requests.is_watched()
    monkeypatch.delattr(botocore.client.ClientCreator, "_create_api_method")
    assert fast_requests.is_watched()


def test_a_refusal_by_condition_is_understood_at_once(make_client, wire):
    client = make_client("dynamodb")
    stored = {"id": {"S": "a"}, "status": {"S": "COMPLETED"}}
    refusal = {
        "__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException",
        "Message": "The conditional request failed", "Item": stored,
    }  # fmt: skip
    wire.answers(answer(400, refusal))
    with pytest.raises(client.exceptions.ConditionalCheckFailedException) as raised:
        client.put_item(TableName="t", Item=RECORD)
    assert raised.value.response["Item"] == stored
    assert raised.value.response["Error"]["Message"] == "The conditional request failed"
    assert raised.value.response["ResponseMetadata"]["RetryAttempts"] == 0
    assert len(wire.sent) == 1


@pytest.mark.parametrize("event", ["before-send", "before-sign", "before-send.sqs.SendMessage"])
def test_who_listens_to_requests_hears_of_all(sqs, wire, event):
    wire.answers(answer(200, {"MessageId": "1"}))
    sqs.send_message(QueueUrl=QUEUE, MessageBody="b")
    heard = []
    sqs.meta.events.register(event, lambda **_: heard.append(1))
    sqs.send_message(QueueUrl=QUEUE, MessageBody="b")
    assert heard == [1]
    assert len(wire.sent) == 2


def test_botocore_s_stubs_are_asked(sqs, wire):
    wire.answers(answer(500, {}))
    with Stubber(sqs._client) as stubber:
        stubber.add_response("send_message", {"MessageId": "stubbed"})
        assert sqs.send_message(QueueUrl=QUEUE, MessageBody="b")["MessageId"] == "stubbed"
    assert wire.sent == []


def test_who_takes_the_place_of_botocore_s_http_is_asked(sqs, wire, monkeypatch):
    def refuse(self, request):
        raise botocore.exceptions.HTTPClientError(error="no network in tests")

    monkeypatch.setattr(botocore.httpsession.URLLib3Session, "send", refuse)
    with pytest.raises(botocore.exceptions.HTTPClientError):
        sqs.send_message(QueueUrl=QUEUE, MessageBody="b")
    assert wire.sent == []


@pytest.mark.parametrize(
    "variables",
    [{"HTTPS_PROXY": "http://127.0.0.1:3128"}, {"AWS_CA_BUNDLE": "/nonexistent"}],
    ids=["proxy", "certificates"],
)
def test_a_way_of_the_user_s_own_is_botocore_s(make_client, monkeypatch, variables):
    for name in ("NO_PROXY", "no_proxy", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    client = aws.client("sqs", Settings(region="eu-west-1"))
    assert not isinstance(client, fast_requests.FastClient)


def test_certificates_that_the_user_names_are_used(make_client, monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_CA_BUNDLE", botocore.httpsession.get_cert_path(True))
    assert isinstance(aws.client("sqs", Settings(region="eu-west-1")), fast_requests.FastClient)
