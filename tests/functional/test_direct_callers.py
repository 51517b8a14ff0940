"""Who calls the function directly: what is sent, what comes of each answer, and how many."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import tracemalloc
from contextlib import aclosing

import pytest
from celery import Celery, chain, chord, group
from celery.exceptions import (
    Ignore,
    TaskRevokedError,
    TimeLimitExceeded,
    TimeoutError,  # noqa: A004 - Celery's
    WorkerLostError,
)
from celery.signals import before_task_publish

from lambda_celery import ConfigurationError, install
from lambda_celery.aws.invoking import AsyncLambda
from lambda_celery.direct_calls import Answer, encoded
from lambda_celery.exceptions import CallFailedError
from lambda_celery.invoke import agather, ainvoke, calls, gather, invoke, stream
from tests.functional.lambda_stand_in import (
    arguments,
    failed,
    lambda_stand_in,
    refused,
    success,
)


@pytest.fixture
def function(monkeypatch):
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "eu-west-1", "no_proxy": "*",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(calls, "_FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr("lambda_celery.aws.clients._clients", {})  # and by whom they sign
    with lambda_stand_in() as made:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", made.url)
        yield made


@pytest.fixture
def app():
    app = Celery("proj", broker="amqp://guest@127.0.0.1:1//", set_as_current=True)
    app.conf.update(
        lambda_tasks=["*"],
        lambda_queue_url="https://sqs.eu-west-1.amazonaws.com/123456789012/mail",
        lambda_function="mail:live",
    )
    install(app)
    return app


@pytest.fixture
def double(app, function):
    @app.task(name="double", shared=False)
    def double(x):
        return 2 * x

    function.answer = lambda event: success(2 * arguments(event)[0])
    return double


class TestOneCall:
    def test_returns_what_the_task_returns(self, double, function):
        assert invoke(double.s(21)) == 42
        path, headers = function.requests[0]
        assert path == "/2015-03-31/functions/mail:live/invocations"
        assert headers["X-Amz-Invocation-Type"] == "RequestResponse"
        assert "/eu-west-1/lambda/aws4_request" in headers["Authorization"]

    def test_is_a_method_of_tasks_and_can_be_awaited(self, app, function):
        from lambda_celery import task

        @task(name="half", shared=False)
        def half(x):
            return x / 2

        function.answer = lambda event: success(arguments(event)[0] / 2)
        assert half.invoke(3) == 1.5
        assert asyncio.run(half.ainvoke(x := 5)) == x / 2

    def test_raises_what_the_task_raises_with_its_traceback(self, app, double, function):
        def answer(event):
            result = encoded(app.backend.prepare_exception(KeyError("row"), "json"), "json")
            return Answer("FAILURE", result, "File proj.py, line 7, in double").to_fields()

        function.answer = answer
        with pytest.raises(KeyError) as raised:
            invoke(double.s(1))
        assert raised.value.args == ("row",)
        assert "line 7, in double" in str(raised.value.__cause__)

    def test_makes_an_exception_of_the_name_where_the_class_is_not_here(
        self, app, double, function
    ):
        told = {"exc_type": "NoSuchRow", "exc_message": ["7"], "exc_module": "elsewhere"}
        function.answer = lambda event: Answer("FAILURE", encoded(told, "json")).to_fields()
        with pytest.raises(Exception, match="7") as raised:
            invoke(double.s(1))
        assert type(raised.value).__name__ == "NoSuchRow"

    @pytest.mark.parametrize(
        ("answer", "error", "words"),
        [
            (Answer("REVOKED", reason="expired").to_fields(), TaskRevokedError, "expired"),
            (Answer("IGNORED", reason="ignored").to_fields(), Ignore, "ignored"),
            (Answer("REJECTED", reason="is not registered").to_fields(), CallFailedError, "regist"),
            (failed("Runtime.ExitError", "Runtime exited"), WorkerLostError, "exited"),
            (failed("Sandbox.Timedout", "timed out after 3.00 seconds"), TimeLimitExceeded, "3"),
            (failed("ConfigurationError", "Set lambda_x."), CallFailedError, "Set lambda_x"),
            (refused(403, "AccessDeniedException"), CallFailedError, "lambda:InvokeFunction"),
            (refused(404, "ResourceNotFoundException"), CallFailedError, "does not exist"),
            ({"batchItemFailures": []}, Exception, "deploy the version of lambda-celery"),
        ],
    )  # fmt: skip
    def test_raises_what_stands_in_the_way(self, double, function, answer, error, words):
        function.answer = lambda event: answer
        with pytest.raises(error, match=words):
            invoke(double.s(1))
        assert len(function.events) == 1

    @pytest.mark.parametrize(
        "passing",
        [
            lambda: refused(429, "TooManyRequestsException"),
            lambda: refused(500, "ServiceException"),
            lambda: refused(503, "ServiceUnavailable"),
            lambda: None,
            lambda: Answer("STARTED", seconds=600).to_fields(),
            lambda: Answer("PENDING", seconds=0.01).to_fields(),
        ],
        ids=["throttled", "500", "503", "connection-lost", "being-run", "not-run"],
    )
    def test_is_sent_again_under_its_id(self, double, function, passing):
        left = [passing, passing]
        function.answer = lambda event: left.pop()() if left else success("done")
        assert invoke(double.s(1)) == "done"
        assert len(function.events) == 3
        assert len({each["message"]["messageId"] for each in function.events}) == 1
        assert function.events[0]["message"] == function.events[2]["message"]

    def test_calls_the_retry_that_the_task_has_asked_for(self, double, function):
        retry = {"messageId": "r", "body": "the retry", "attributes": {}, "messageAttributes": {}}
        told = [Answer("RETRY", seconds=0.01, message=retry).to_fields(), success("done")]
        function.answer = lambda event: told[len(function.events) - 1]
        assert invoke(double.s(1)) == "done"
        call_id = function.events[0]["message"]["messageId"]
        assert function.events[1]["message"] == {**retry, "messageId": call_id}

    @pytest.mark.parametrize("kind", ["throttled", "silent"])
    def test_is_given_up_in_time(self, double, function, kind):
        async def hang():
            await asyncio.sleep(60)

        function.answer = lambda event: (
            hang() if kind == "silent" else refused(429, "TooManyRequestsException", "too many")
        )
        with pytest.raises(TimeoutError, match=r"has no answer after 0\.3 s"):
            invoke(double.s(1), timeout=0.3)

    def test_nobody_waits_for_an_event(self, app, double, function):
        from aiohttp import web

        function.answer = lambda event: web.Response(status=202)
        result = invoke(double.s(1), invocation_type="Event")
        assert result.id == function.events[0]["message"]["messageId"]
        assert function.events[0]["queue_url"] == app.conf.lambda_queue_url

    def test_runs_here_with_task_always_eager(self, app, double, function):
        app.conf.task_always_eager = True
        assert invoke(double.s(4)) == 8
        assert gather(double.s(x) for x in range(3)) == [0, 2, 4]
        assert function.events == []

    def test_of_several_tasks_is_refused(self, double):
        for each in (chain(double.s(1), double.s()), chord([double.s(1)], double.s()), 7):
            with pytest.raises(TypeError, match="A direct call is of one task"):
                invoke(each)
        with pytest.raises(TypeError, match="given countdown"):
            invoke(double.s(1).set(countdown=3))

    def test_of_a_task_that_does_not_go_to_lambda_is_refused(self, app, double, function):
        app.conf.lambda_tasks = []
        with pytest.raises(ConfigurationError, match="does not go to Lambda") as caught:
            invoke(double.s(1))
        assert "install" not in str(caught.value)

    def test_of_a_plain_app_s_task_says_that_the_app_is_to_be_installed(self):
        app = Celery("plain", set_as_current=False)
        app.conf.lambda_tasks = ["*"]

        @app.task(name="plain", shared=False)
        def plain():
            return 1

        with pytest.raises(ConfigurationError, match=r"call lambda_celery\.install\(app\)"):
            invoke(plain.s())

    def test_of_another_invocation_type_is_refused(self, double, function):
        with pytest.raises(ValueError, match="'event': give RequestResponse or Event"):
            invoke(double.s(1), invocation_type="event")

    def test_needs_a_function(self, app, double):
        app.conf.lambda_function = None
        with pytest.raises(ConfigurationError, match="Set lambda_function"):
            invoke(double.s(1))

    def test_shares_its_connections(self, double, function):
        for x in range(5):
            invoke(double.s(x))
        assert asyncio.run(ainvoke(double.s(1))) == 2
        assert len(function.connections) == 1


class TestMany:
    def test_to_who_calls_without_asyncio_no_event_loop_runs(self, app, double, function):
        """Django's database methods refuse to be called where one does."""
        seen = []

        def look(where):
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                seen.append(where)

        def signatures():
            look("signatures")
            yield double.s(1)

        @app.task(name="looks", shared=False)
        def looks():
            look("eager")

        before_task_publish.connect(receiver := lambda **_: look("signal"))
        try:
            assert gather(signatures(), progress=lambda *_: look("progress")) == [2]
            app.conf.task_always_eager = True
            gather([looks.s()])
        finally:
            before_task_publish.disconnect(receiver)
        assert seen == ["signatures", "signal", "progress", "eager"]

    def test_in_the_order_of_the_signatures(self, double, function):
        async def late_first(event):
            x = arguments(event)[0]
            await asyncio.sleep(0.05 if x == 0 else 0)
            return success(2 * x)

        function.answer = late_first
        assert gather(double.s(x) for x in range(30)) == [2 * x for x in range(30)]
        assert gather(group(double.s(x) for x in range(3))) == [0, 2, 4]

    def test_no_more_at_a_time_than_connections(self, double, function):
        together = asyncio.Barrier(5)

        async def all_together(event):
            await together.wait()
            return success(1)

        function.answer = all_together
        assert gather((double.s(x) for x in range(20)), max_connections=5) == [1] * 20
        assert function.most_at_a_time == 5
        assert len(function.connections) == 5

    def test_exceptions_in_the_place_of_results(self, double, function):
        function.answer = lambda event: (
            failed("Runtime.ExitError", "x") if arguments(event)[0] == 1 else success("fine")
        )
        first, second, third = gather(map(double.s, range(3)), return_exceptions=True)
        assert (first, third) == ("fine", "fine")
        assert isinstance(second, WorkerLostError)
        with pytest.raises(WorkerLostError):
            gather(map(double.s, range(3)))

    def test_progress_is_told(self, double):
        told = []
        gather([double.s(x) for x in range(3)], progress=lambda *each: told.append(each))
        gather((double.s(x) for x in range(1)), progress=lambda *each: told.append(each))
        assert told == [(1, 3), (2, 3), (3, 3), (1, None)]

    def test_signatures_are_taken_as_calls_come_to_an_end(self, double, function):
        taken = []

        def signatures():
            for x in range(1000):
                taken.append(x)
                yield double.s(x)

        async def some():
            async with aclosing(stream(signatures(), max_connections=7)) as answers:
                seen = 0
                async for _ in answers:
                    seen += 1
                    assert len(taken) <= 7 + seen
                    if seen == 20:
                        return

        asyncio.run(some())
        assert len(taken) <= 27

    def test_an_early_end_cancels_the_rest_and_leaves_nothing_behind(self, double, function):
        ended = threading.Event()

        async def hang(event):
            if arguments(event)[0] == 0:
                return success("first")
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()

        function.answer = hang

        async def first():
            async with aclosing(stream(map(double.s, range(5)))) as answers:
                return (await anext(answers)).get()

        async def main():
            before = asyncio.all_tasks()
            assert await first() == "first"
            assert asyncio.all_tasks() == before

        asyncio.run(main())
        assert ended.wait(30)

    def test_in_order_a_slow_one_holds_no_more_than_there_are_connections(self, double, function):
        release = asyncio.Event()
        loops = []

        async def slow_first(event):
            loops.append(asyncio.get_running_loop())
            if arguments(event)[0] == 0:
                await release.wait()
            return success(arguments(event)[0])

        function.answer = slow_first
        seen = []

        async def main():
            answers = stream(map(double.s, range(100)), max_connections=4, ordered=True)
            async with aclosing(answers) as taken:
                waiting = asyncio.ensure_future(anext(taken))
                while len(function.events) < 5:
                    await asyncio.sleep(0.01)
                loops[0].call_soon_threadsafe(release.set)
                seen.append((await waiting).index)
                async for each in taken:
                    seen.append(each.index)

        asyncio.run(main())
        assert seen == list(range(100))

    def test_more_connections_than_files_are_refused(self, double):
        with pytest.raises(ConfigurationError, match="ulimit -n"):
            gather([double.s(1)], max_connections=10_000_000)

    def test_within_a_coroutine_is_awaited(self, double):
        async def main():
            return await agather(double.s(x) for x in range(3))

        assert asyncio.run(main()) == [0, 2, 4]


def test_memory_does_not_grow_with_the_number_of_signatures(double, function):
    function.keeps = False

    async def most(number):
        tracemalloc.start()
        try:
            async with aclosing(
                stream((double.s(x) for x in range(number)), max_connections=10)
            ) as answers:
                async for _ in answers:
                    pass
            gc.collect()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    asyncio.run(most(50))
    small, large = asyncio.run(most(50)), asyncio.run(most(300))
    assert large < small * 2


def test_a_client_signs_with_a_session_token(function, monkeypatch, app):
    from lambda_celery.conf import settings_of

    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")

    async def main():
        client = AsyncLambda(settings_of(app), 1)
        try:
            return await client.invoke("f", json.dumps({}).encode(), "RequestResponse")
        finally:
            await client.close()

    asyncio.run(main())
    assert function.requests[0][1]["X-Amz-Security-Token"] == "token"


def test_a_password_for_the_endpoints_host_is_not_taken_from_netrc(
    double, function, monkeypatch, tmp_path
):
    (tmp_path / ".netrc").write_text("default login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))

    assert gather([double.s(21)]) == [42]
    assert function.requests[0][1]["Authorization"].startswith("AWS4-HMAC-SHA256 ")


def test_goes_by_the_proxy_that_boto3_would_take(double, function, monkeypatch):
    host = "lambda.example.invalid:8443"
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", f"http://{host}")
    monkeypatch.setenv("http_proxy", function.url.replace("//", "//me:secret@"))
    monkeypatch.setenv("no_proxy", "localhost")

    assert gather([double.s(21)]) == [42]
    headers = function.requests[0][1]
    assert headers["Host"] == host
    assert headers["Proxy-Authorization"].startswith("Basic ")


def test_who_signs_is_not_asked_for_again(double, function, monkeypatch, tmp_path):
    told = {"Version": 1, "AccessKeyId": "AKIAPROCESS", "SecretAccessKey": "secret"}
    (tmp_path / "told.json").write_text(json.dumps(told))
    script = tmp_path / "credentials.sh"
    script.write_text(f"echo asked >> {tmp_path}/asked; cat {tmp_path}/told.json\n")
    (tmp_path / "config").write_text(f"[default]\ncredential_process = sh {script}\n")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))

    assert gather([double.s(21)]) == [42]
    asked = (tmp_path / "asked").read_text()
    assert gather([double.s(21)]) == [42]
    assert (tmp_path / "asked").read_text() == asked
    assert all("=AKIAPROCESS/" in headers["Authorization"] for _, headers in function.requests)
