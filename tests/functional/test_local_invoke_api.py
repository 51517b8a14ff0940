"""The Invoke API of a local function, asked by boto3; the handlers run under awslambdaric."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from lambda_celery.local.function import FUNCTION_NAME, LocalFunction
from lambda_celery.local.invoke_api.server import serving
from lambda_celery.local.runtime_api import MAXIMUM_RESPONSE_BYTES, Outcome, Request
from tests.functional.conftest import Stack

HANDLER = """
import os, signal, sys, time

def handler(event, context):
    what = event.get("do", "answer")
    if what == "answer":
        return event
    if what == "pid":
        return os.getpid()
    if what == "raise":
        raise ValueError("no such mail")
    if what == "exit":
        os._exit(event["status"])
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "hang":
        time.sleep(600)
    if what == "large":
        return "x" * event["bytes"]
    if what == "print":
        print("to", "standard output")
        print("to standard error", file=sys.stderr)
    if what == "print much":
        print("x" * 5000)
        print("unended", end="")
    if what == "context":
        sent = context.client_context
        return {
            "arn": context.invoked_function_arn,
            "request_id": context.aws_request_id,
            "client_context": sent and sent.custom,
        }
    if what == "meet":
        open(os.path.join(event["directory"], str(os.getpid())), "w").close()
        while not os.path.exists("go"):
            time.sleep(0.01)
    if what == "note":
        with open("noted", "a") as noted:
            noted.write(context.aws_request_id + "\\n")
        if open("noted").read().count(context.aws_request_id) < event["attempts"]:
            raise ValueError("not yet")
"""

Serve = Callable[..., Any]


def lambda_client(url: str, **options: Any) -> Any:
    session = boto3.session.Session("any", "key", region_name="eu-west-1")
    config = Config(retries={"total_max_attempts": 1}, max_pool_connections=250, **options)
    return session.client("lambda", endpoint_url=url, config=config)


@pytest.fixture
def serve(tmp_path: Path, local_function: Callable[..., LocalFunction]) -> Iterator[Serve]:
    """Serve the handler above, and return a client; its endpoint has all names of the function."""
    (tmp_path / "lambda_module.py").write_text(HANDLER)
    with ExitStack() as stack:

        def serve(
            handler: str = "lambda_module.handler",
            retry_delays_seconds: tuple[float, ...] = (0, 0),
            on_outcome: Callable[[Outcome, float], None] | None = None,
            **options: Any,
        ) -> Any:
            options = {"timeout_seconds": 20, "keeps_log_tail": True} | options
            function = local_function(handler, **options)
            url = stack.enter_context(
                serving(
                    function,
                    names={FUNCTION_NAME, "shop"},
                    retry_delays_seconds=retry_delays_seconds,
                    on_outcome=on_outcome,
                )
            )
            return lambda_client(url)

        yield serve


def invoke(client: Any, event: Any = None, **options: Any) -> Any:
    options = {"FunctionName": FUNCTION_NAME} | options
    if event is not None:
        options["Payload"] = json.dumps(event)
    return client.invoke(**options)


def answer(client: Any, event: Any = None, **options: Any) -> Any:
    return json.load(invoke(client, event, **options)["Payload"])


def refused(client: Any, *arguments: Any, **options: Any) -> tuple[int, str, str, dict[str, Any]]:
    with pytest.raises(ClientError) as caught:
        invoke(client, *arguments, **options)
    said = caught.value.response
    error = said["Error"]
    status = said["ResponseMetadata"]["HTTPStatusCode"]
    return status, error["Code"], error["Message"], said


def test_the_answer_is_the_payload(serve: Serve) -> None:
    outcomes: list[Outcome] = []
    client = serve(on_outcome=lambda outcome, _: outcomes.append(outcome))

    said = invoke(client, {"name": "žluťoučký"})

    assert said["StatusCode"] == 200
    assert said["ExecutedVersion"] == "$LATEST"
    assert "FunctionError" not in said
    assert "LogResult" not in said
    assert json.load(said["Payload"]) == {"name": "žluťoučký"}
    assert answer(client) == {}  # no payload: an empty event
    assert [each.error for each in outcomes] == [None, None]


@pytest.mark.parametrize(
    ("name", "qualifier"),
    [
        (FUNCTION_NAME, None),
        ("shop", "live"),
        ("shop:live", None),
        ("shop:live", "live"),
        ("shop:$LATEST", None),
        ("000000000000:shop", None),
        ("000000000000:function:shop:7", None),
        ("arn:aws:lambda:eu-west-1:000000000000:function:shop", None),
        ("arn:aws:lambda:eu-west-1:000000000000:function:shop:live", None),
    ],
)
def test_every_way_to_name_the_function(serve: Serve, name: str, qualifier: str | None) -> None:
    client = serve()
    options = {"Qualifier": qualifier} if qualifier else {}

    said = invoke(client, {"do": "context"}, FunctionName=name, **options)

    context = json.load(said["Payload"])
    assert context["request_id"] == said["ResponseMetadata"]["RequestId"]
    last = qualifier or name.rpartition(":")[2]
    assert context["arn"].endswith(
        f":{last}" if last in {"live", "7", "$LATEST"} else FUNCTION_NAME
    )


def test_the_client_context_is_passed_on(serve: Serve) -> None:
    sent = base64.b64encode(json.dumps({"custom": {"čas": "12\n"}}).encode()).decode()

    context = answer(serve(), {"do": "context"}, ClientContext=sent)

    assert context["client_context"] == {"čas": "12\n"}


@pytest.mark.parametrize(
    ("event", "error_type", "message"),
    [
        (
            {"do": "exit", "status": 3},
            "Runtime.ExitError",
            "Runtime exited with error: exit status 3",
        ),
        (
            {"do": "exit", "status": 0},
            "Runtime.ExitError",
            "Runtime exited without providing a reason",
        ),
        ({"do": "kill"}, "Runtime.ExitError", "Runtime exited with error: signal: killed"),
        ({"do": "hang"}, "Sandbox.Timedout", "Task timed out after 1.00 seconds"),
    ],
)
def test_the_end_of_a_process_is_a_function_error(
    serve: Serve, event: Any, error_type: str, message: str
) -> None:
    client = serve(timeout_seconds=1)

    said = invoke(client, event)

    assert said["StatusCode"] == 200
    assert said["FunctionError"] == "Unhandled"
    request_id = said["ResponseMetadata"]["RequestId"]
    assert json.load(said["Payload"]) == {
        "errorType": error_type,
        "errorMessage": f"RequestId: {request_id} Error: {message}",
    }
    assert answer(client, {"a": 1}) == {"a": 1}


def test_what_the_handler_raises_is_a_function_error(serve: Serve) -> None:
    said = invoke(serve(), {"do": "raise"})

    assert said["FunctionError"] == "Unhandled"
    error = json.load(said["Payload"])
    assert (error["errorType"], error["errorMessage"]) == ("ValueError", "no such mail")
    assert 'raise ValueError("no such mail")' in "".join(error["stackTrace"])


def test_a_handler_that_cannot_be_loaded_is_a_function_error(serve: Serve) -> None:
    said = invoke(serve("no_module.handler"), {})

    assert said["FunctionError"] == "Unhandled"
    error = json.load(said["Payload"])
    assert error["errorType"] == "Runtime.ImportModuleError"
    assert "No module named 'no_module'" in error["errorMessage"]


def test_the_end_of_the_log(serve: Serve, tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        client = serve(output=log)

        said = invoke(client, {"do": "print"}, LogType="Tail")

        request_id = said["ResponseMetadata"]["RequestId"]
        lines = base64.b64decode(said["LogResult"]).decode().splitlines()
        assert lines[0] == f"START RequestId: {request_id} Version: $LATEST"
        assert lines[1:3] == ["to standard output", "to standard error"]
        assert lines[3] == f"END RequestId: {request_id}"
        assert lines[4].startswith(f"REPORT RequestId: {request_id}\tDuration: ")
        much = invoke(client, {"do": "print much"}, LogType="Tail")
        tail = base64.b64decode(much["LogResult"])
        assert len(tail) == 4096
        assert b"xxx\nunended\nEND" in tail
        # All of it has come where it goes, before the answer did.
        assert (tmp_path / "log").read_text() == (
            "to standard output\nto standard error\n" + "x" * 5000 + "\nunended"
        )
        dying = invoke(client, {"do": "exit", "status": 1}, LogType="Tail")
        assert base64.b64decode(dying["LogResult"]).startswith(b"START")


def test_the_largest_payloads(serve: Serve) -> None:
    client = serve()
    largest = b'"' + b"x" * (6_291_456 - 2) + b'"'
    # The handler asks it for a key, so that it fails, but it has got it.
    assert invoke(client, Payload=largest)["FunctionError"] == "Unhandled"

    status, code, message, _ = refused(client, Payload=largest + b" ")

    assert (status, code) == (413, "RequestTooLargeException")
    assert message == (
        "6291457 byte payload is too large for the RequestResponse invocation type "
        "(limit 6291456 bytes)"
    )
    event = b'{"a":"' + b"x" * (1_048_576 - 8) + b'"}'
    assert invoke(client, Payload=event, InvocationType="Event")["StatusCode"] == 202
    status, code, message, _ = refused(client, Payload=event + b" ", InvocationType="Event")
    assert (status, code) == (413, "RequestTooLargeException")
    assert "1048577 byte payload is too large for the Event invocation type" in message


def test_an_answer_that_is_too_large_is_a_function_error(serve: Serve) -> None:
    said = invoke(serve(), {"do": "large", "bytes": MAXIMUM_RESPONSE_BYTES})

    assert said["FunctionError"] == "Unhandled"
    assert json.load(said["Payload"]) == {
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": "Response payload size exceeded maximum allowed payload size "
        "(6291556 bytes).",
    }


@pytest.mark.parametrize(
    ("options", "status", "code", "sentence"),
    [
        ({"FunctionName": "mail"}, 404, "ResourceNotFoundException", "Function not found: mail"),
        ({"FunctionName": "shop!"}, 400, "ValidationException", "at 'functionName' failed"),
        (
            {"FunctionName": "shop:live", "Qualifier": "test"},
            400,
            "InvalidParameterValueException",
            "does not match the specified qualifier",
        ),
        ({"InvocationType": "Later"}, 400, "ValidationException", "'Later' at 'invocationType'"),
        ({"LogType": "Head"}, 400, "ValidationException", "'Head' at 'logType'"),
        ({"Payload": b"{"}, 400, "InvalidRequestContentException", "Could not parse request body"),
        ({"Payload": b'"\xff"'}, 400, "InvalidRequestContentException", "Could not parse"),
        ({"Payload": b"[" * 10**5}, 400, "InvalidRequestContentException", "Could not parse"),
        ({"ClientContext": "!"}, 400, "InvalidRequestContentException", "Client context must be"),
        ({"ClientContext": "MQ=="}, 400, "InvalidRequestContentException", "Client context must"),
    ],
)
def test_what_aws_would_refuse_is_refused(
    serve: Serve, options: Any, status: int, code: str, sentence: str
) -> None:
    client = serve()

    said = refused(client, **options)

    assert said[:2] == (status, code)
    assert sentence in said[2]


def test_a_dry_run_runs_nothing(serve: Serve) -> None:
    outcomes: list[Outcome] = []
    client = serve(on_outcome=lambda outcome, _: outcomes.append(outcome))

    assert invoke(client, {}, InvocationType="DryRun")["StatusCode"] == 204

    refused(client, {}, InvocationType="DryRun", FunctionName="mail")
    assert outcomes == []


def test_200_calls_at_a_time_of_a_function_that_takes_8(serve: Serve, tmp_path: Path) -> None:
    together = tmp_path / "together"
    together.mkdir()
    client = serve(maximum_concurrency=8, timeout_seconds=60)
    event = {"do": "meet", "directory": str(together)}
    with ThreadPoolExecutor(200) as executor:
        calls = [executor.submit(invoke, client, event) for _ in range(200)]
        # While eight run, all others have their answer.
        ended = as_completed(calls)
        for _ in range(192):
            error = next(ended).exception()
            assert isinstance(error, ClientError)
            said = error.response
            assert said["ResponseMetadata"]["HTTPStatusCode"] == 429
            assert said["Error"] == {
                "Code": "TooManyRequestsException",
                "Message": "Rate Exceeded.",
            }
            assert said["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
            assert said["Type"] == "User"
        assert sum(each.done() for each in calls) == 192

        (tmp_path / "go").touch()

        for each in ended:
            assert each.result()["StatusCode"] == 200
    # Eight processes have met, and are used again.
    processes = {int(each.name) for each in together.iterdir()}
    assert len(processes) == 8
    assert answer(client, {"do": "pid"}) in processes


def test_mapping_and_callers_share_the_places(
    tmp_path: Path,
    serve: Serve,
    local_function: Callable[..., LocalFunction],
    event_source_mapping: Callable[..., Any],
    stack: Stack,
) -> None:
    (tmp_path / "lambda_module.py").write_text(
        """
import os, time

def handler(event, context):
    open("here", "w").close()
    while not os.path.exists("go"):
        time.sleep(0.01)
"""
    )
    function = local_function("lambda_module.handler", maximum_concurrency=1, timeout_seconds=20)
    with serving(function) as url:
        client = lambda_client(url)
        mapping = event_source_mapping(stack, function, maximum_concurrency=1)
        stack.send("one")
        while not (tmp_path / "here").exists():
            threading.Event().wait(0.01)

        assert refused(client, {})[:2] == (429, "TooManyRequestsException")

        (tmp_path / "go").touch()
        mapping.wait_until_idle(60)
        assert invoke(client, {})["StatusCode"] == 200


def wait_for(path: Path, lines: int) -> list[str]:
    while not path.exists() or path.read_text().count("\n") < lines:
        threading.Event().wait(0.01)
    return path.read_text().splitlines()


def test_events_are_queued_and_each_runs_once(serve: Serve, tmp_path: Path) -> None:
    client = serve(maximum_concurrency=1)

    said = [
        invoke(client, {"do": "note", "attempts": 1}, InvocationType="Event") for _ in range(20)
    ]

    assert {each["StatusCode"] for each in said} == {202}
    assert said[0]["Payload"].read() == b""
    ids = [each["ResponseMetadata"]["RequestId"] for each in said]
    assert wait_for(tmp_path / "noted", 20) == ids  # with one place, in their order


def test_an_event_that_fails_is_tried_three_times(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outcomes: list[Outcome] = []
    all_have = threading.Semaphore(0)

    def noted(outcome: Outcome, _: float) -> None:
        outcomes.append(outcome)
        all_have.release()

    client = serve(on_outcome=noted, maximum_concurrency=1)
    second = invoke(client, {"do": "note", "attempts": 2}, InvocationType="Event")
    for _ in range(2):
        assert all_have.acquire(timeout=60)
    never = invoke(client, {"do": "note", "attempts": 9}, InvocationType="Event")
    for _ in range(3):
        assert all_have.acquire(timeout=60)
    last = invoke(client, {"do": "note", "attempts": 1})  # nothing else comes before it

    ids = [each["ResponseMetadata"]["RequestId"] for each in (second, never, last)]
    expected = [ids[0]] * 2 + [ids[1]] * 3 + [ids[2]]
    assert wait_for(tmp_path / "noted", 6) == expected
    failed = [each.error for each in outcomes]
    assert failed == ["ValueError: not yet", None, *["ValueError: not yet"] * 3, None]
    assert f"The event of the call {ids[1]} was dropped: ValueError: not yet" in caplog.text


def test_events_wait_where_calls_are_refused(serve: Serve, tmp_path: Path) -> None:
    together = tmp_path / "together"
    together.mkdir()
    client = serve(maximum_concurrency=1)
    event = {"do": "meet", "directory": str(together)}
    invoke(client, event, InvocationType="Event")
    while not list(together.iterdir()):
        threading.Event().wait(0.01)

    waiting = invoke(client, {"do": "note", "attempts": 1}, InvocationType="Event")
    assert refused(client, {})[0] == 429
    (tmp_path / "go").touch()

    assert wait_for(tmp_path / "noted", 1) == [waiting["ResponseMetadata"]["RequestId"]]


def test_the_end_lets_running_events_finish_and_drops_those_that_wait(
    tmp_path: Path, local_function: Callable[..., LocalFunction], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "lambda_module.py").write_text(HANDLER)
    together = tmp_path / "together"
    together.mkdir()
    function = local_function("lambda_module.handler", maximum_concurrency=1, timeout_seconds=20)
    outcomes: list[Outcome] = []
    with serving(function, on_outcome=lambda outcome, _: outcomes.append(outcome)) as url:
        client = lambda_client(url)
        event = {"do": "meet", "directory": str(together)}
        invoke(client, event, InvocationType="Event")
        while not list(together.iterdir()):
            threading.Event().wait(0.01)
        waiting = invoke(client, {"do": "note", "attempts": 1}, InvocationType="Event")
        dropping = _On("lambda_celery.local.invoke_api.events", (tmp_path / "go").touch)

    dropping.remove()
    assert [each.error for each in outcomes] == [None]
    assert not (tmp_path / "noted").exists()
    request_id = waiting["ResponseMetadata"]["RequestId"]
    assert f"The event of the call {request_id} was dropped: the local function ends" in caplog.text


@pytest.mark.parametrize(
    ("event", "error_type"),
    [({"warmup": True}, None), ({"Records": []}, None), ({"hello": 1}, "ConfigurationError")],
)
def test_the_deployed_handler_is_called(
    serve: Serve, stack: Stack, event: Any, error_type: str | None, tmp_path: Path
) -> None:
    (tmp_path / "proj.py").write_text("from celery import Celery\napp = Celery('proj')\n")
    client = serve(
        "lambda_runtime.handler", environment={**stack.environment, "LAMBDA_CELERY_APP": "proj"}
    )

    said = invoke(client, event, LogType="Tail")

    answered = json.load(said["Payload"])
    if error_type is None:
        assert answered == {"batchItemFailures": []}
    else:
        assert answered["errorType"] == error_type
        assert said["FunctionError"] == "Unhandled"


class _On(logging.Handler):
    """Calls *then* when the logger *name* says something."""

    def __init__(self, name: str, then: Callable[[], None]) -> None:
        super().__init__()
        self._logger = logging.getLogger(name)
        self._then = then
        self._logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self._then()

    def remove(self) -> None:
        self._logger.removeHandler(self)


class _Meeting:
    """A function of which each invocation ends when all have begun."""

    timeout_seconds = 60

    def __init__(self, number: int) -> None:
        self.maximum_concurrency = number
        self._barrier = threading.Barrier(number)

    def run(self, request: Request, *, waits: bool = True) -> Outcome:
        self._barrier.wait(60)
        return Outcome(body=request.event)


def test_hundreds_of_connections_are_open_at_a_time() -> None:
    number = 300

    async def calls(url: str) -> list[Any]:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(url, connector=connector) as session:

            async def call(body: int) -> Any:
                async with session.post(
                    f"/2015-03-31/functions/{FUNCTION_NAME}/invocations",
                    json=body,
                    headers={"Authorization": "AWS4-HMAC-SHA256 any"},
                ) as response:
                    assert response.status == 200
                    return await response.json()

            # Twice, so that the connections are used again.
            await asyncio.gather(*map(call, range(number)))
            return await asyncio.gather(*map(call, range(number)))

    with serving(_Meeting(number)) as url:
        assert asyncio.run(calls(url)) == list(range(number))


def test_other_sites_of_a_browser_are_refused() -> None:
    async def statuses(url: str) -> list[int]:
        path = f"/2015-03-31/functions/{FUNCTION_NAME}/invocations"
        found = []
        signed = {"Authorization": "AWS4-HMAC-SHA256 any"}
        async with aiohttp.ClientSession(url) as session:
            for headers in ({}, {**signed, "Host": "evil.example"}, signed):
                async with session.post(path, data=b"1", headers=headers) as response:
                    found.append(response.status)
        return found

    with serving(_Meeting(1)) as url:
        assert asyncio.run(statuses(url)) == [403, 400, 200]


def test_other_operations_are_told_apart(serve: Serve) -> None:
    client = serve()

    assert client.list_event_source_mappings()["EventSourceMappings"] == []
    with pytest.raises(ClientError, match="has Invoke alone"):
        client.get_function(FunctionName=FUNCTION_NAME)
