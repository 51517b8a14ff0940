"""The Runtime API server, asked by hand."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import pytest

from lambda_celery.local.runtime_api import MAXIMUM_RESPONSE_BYTES, Outcome, Request, RuntimeApi

ARN = "arn:aws:lambda:eu-west-1:000000000000:function:f"


@pytest.fixture
def api() -> Iterator[RuntimeApi]:
    api = RuntimeApi(ARN)
    yield api
    api.close()


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


class Runtime:
    """Speaks to the server as a runtime process does, over one connection."""

    def __init__(self, api: RuntimeApi) -> None:
        self.connection = http.client.HTTPConnection(api.address, timeout=60)

    def request(self, method: str, path: str, body: bytes = b"") -> tuple[int, Any, bytes]:
        self.connection.request(method, f"/2018-06-01/runtime/{path}", body)
        response = self.connection.getresponse()
        return response.status, response.headers, response.read()

    def next(self) -> tuple[str, Any, bytes]:
        status, headers, body = self.request("GET", "invocation/next")
        assert status == 200
        return headers["Lambda-Runtime-Aws-Request-Id"], headers, body


def start(
    api: RuntimeApi, executor: ThreadPoolExecutor, event: bytes = b"{}", timeout: float = 60
) -> Future[Outcome]:
    return executor.submit(api.invoke, Request(event), timeout)


def test_an_event_and_its_answer(api: RuntimeApi, executor: ThreadPoolExecutor) -> None:
    runtime = Runtime(api)
    outcome = start(api, executor, b'{"a":1}', timeout=30)

    request_id, headers, event = runtime.next()
    status, _, _ = runtime.request("POST", f"invocation/{request_id}/response", b"[1]")

    assert status == 202
    assert event == b'{"a":1}'
    assert headers["Lambda-Runtime-Invoked-Function-Arn"] == ARN
    assert headers["Lambda-Runtime-Trace-Id"].startswith("Root=1-")
    remaining = int(headers["Lambda-Runtime-Deadline-Ms"]) / 1000 - time.time()
    assert remaining <= 30
    assert outcome.result() == Outcome(body=b"[1]")
    assert api.wait_until_ready(0) is None


def test_an_error_is_described(api: RuntimeApi, executor: ThreadPoolExecutor) -> None:
    runtime = Runtime(api)
    for body, error in [
        (b'{"errorType": "KeyError", "errorMessage": "\'x\'"}', "KeyError: 'x'"),
        (b'{"errorType": "KeyError", "errorMessage": ""}', "KeyError"),
        (b"{}", "Runtime.Unknown"),
        (b"no JSON", "Runtime.Unknown: the runtime reported an error without a description"),
    ]:
        outcome = start(api, executor)
        request_id, _, _ = runtime.next()
        assert runtime.request("POST", f"invocation/{request_id}/error", body)[0] == 202
        assert outcome.result().error == error
        assert outcome.result().report == (None if body == b"no JSON" else body)


def test_an_answer_that_is_too_large_gets_413(
    api: RuntimeApi, executor: ThreadPoolExecutor
) -> None:
    runtime = Runtime(api)
    outcome = start(api, executor)
    request_id, _, _ = runtime.next()

    status, _, body = runtime.request(
        "POST", f"invocation/{request_id}/response", b"x" * (MAXIMUM_RESPONSE_BYTES + 1)
    )

    assert status == 413
    assert json.loads(body)["errorType"] == "RequestEntityTooLarge"
    error = outcome.result().error
    assert error is not None
    assert error.startswith("Function.ResponseSizeTooLarge")


def test_only_the_current_invocation_can_be_answered(
    api: RuntimeApi, executor: ThreadPoolExecutor
) -> None:
    runtime = Runtime(api)
    assert runtime.request("POST", "invocation/unknown/response", b"1")[0] == 400
    outcome = start(api, executor)
    request_id, _, _ = runtime.next()

    assert runtime.request("POST", "invocation/unknown/response", b"1")[0] == 400
    assert runtime.request("GET", "invocation/next")[0] == 403
    assert not outcome.done()
    assert runtime.request("POST", f"invocation/{request_id}/response", b"2")[0] == 202
    assert outcome.result() == Outcome(body=b"2")
    assert runtime.request("POST", f"invocation/{request_id}/response", b"3")[0] == 400


def test_as_many_events_as_it_takes_are_given_out_at_a_time(executor: ThreadPoolExecutor) -> None:
    api = RuntimeApi(ARN, max_concurrency=2)
    first, second = Runtime(api), Runtime(api)
    outcomes = [start(api, executor, event) for event in (b"1", b"2")]
    taken = [(each, *each.next()) for each in (first, second)]

    assert Runtime(api).request("GET", "invocation/next")[0] == 403
    for runtime, request_id, _, event in reversed(taken):
        status, _, _ = runtime.request("POST", f"invocation/{request_id}/response", event * 2)
        assert status == 202

    assert [each.result() for each in outcomes] == [Outcome(body=b"11"), Outcome(body=b"22")]
    api.close()


def test_an_answer_after_the_time_out_is_refused(
    api: RuntimeApi, executor: ThreadPoolExecutor
) -> None:
    runtime = Runtime(api)
    outcome = start(api, executor, timeout=0.1)
    request_id, _, _ = runtime.next()
    assert outcome.result().timed_out

    assert runtime.request("POST", f"invocation/{request_id}/response", b"1")[0] == 400


def test_the_time_out_counts_from_when_the_event_is_taken(
    api: RuntimeApi, executor: ThreadPoolExecutor
) -> None:
    outcome = start(api, executor, timeout=0.2)
    assert not wait([outcome], timeout=0.5).done  # nobody has taken it: no time-out yet

    Runtime(api).next()

    assert outcome.result() == Outcome(error="timed out after 0.2 s", timed_out=True)


def test_an_exit_ends_the_invocation(api: RuntimeApi, executor: ThreadPoolExecutor) -> None:
    outcome = start(api, executor)
    Runtime(api).next()

    api.process_exited("status 1")

    assert outcome.result() == Outcome(error="process exited with status 1", exit="status 1")


def test_an_event_that_nobody_took_is_known_not_to_have_run(
    api: RuntimeApi, executor: ThreadPoolExecutor
) -> None:
    parked = Runtime(api)
    parked.connection.request("GET", "/2018-06-01/runtime/invocation/next")
    assert api.wait_until_ready(60) is None
    parked.connection.close()  # as of a process that was killed

    outcome = start(api, executor)
    api.process_exited("signal SIGKILL")

    assert outcome.result() == Outcome(
        error="process exited with signal SIGKILL", exit="signal SIGKILL", taken=False
    )


def test_an_init_error_says_why(api: RuntimeApi) -> None:
    body = b'{"errorType": "RuntimeError", "errorMessage": "set the queue"}'

    assert Runtime(api).request("POST", "init/error", body)[0] == 202

    assert api.wait_until_ready(60) == Outcome(error="RuntimeError: set the queue", report=body)


def test_an_exit_or_silence_before_the_first_event_is_no_readiness() -> None:
    silent = RuntimeApi(ARN)
    assert silent.wait_until_ready(0.01) == Outcome(
        error="the handler's module was not loaded after 0.01 s"
    )
    silent.process_exited("status 2")
    assert silent.wait_until_ready(60) == Outcome(
        error="process exited with status 2 before it asked for an event", exit="status 2"
    )
    silent.close()


def test_other_paths(api: RuntimeApi) -> None:
    runtime = Runtime(api)
    assert runtime.request("GET", "restore/next")[0] == 200
    assert runtime.request("POST", "restore/error", b"{}")[0] == 202
    assert runtime.request("POST", "exit/error", b"{}")[0] == 202
    assert runtime.request("GET", "unknown")[0] == 404
    assert runtime.request("POST", "unknown", b"{}")[0] == 404
