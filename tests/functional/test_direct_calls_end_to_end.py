"""Direct calls through the local function: its Invoke API, awslambdaric, and the emulated AWS."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import boto3
import pytest
from aiohttp import web
from botocore.config import Config
from celery import Celery
from celery.exceptions import (
    Ignore,
    SoftTimeLimitExceeded,
    TimeLimitExceeded,
    WorkerLostError,
)

from lambda_celery import install
from lambda_celery.exceptions import CallFailedError
from lambda_celery.invoke import calls, gather, invoke
from lambda_celery.local.function import FUNCTION_NAME, LocalFunction
from lambda_celery.local.invoke_api.server import listen, serving
from lambda_celery.serving import url_of
from tests.functional.lambda_stand_in import LambdaStandIn, lambda_stand_in

TASKS = """
import asyncio, os, signal, threading, time
from pathlib import Path

from celery import Celery, chain
from lambda_celery import task
from lambda_celery.invoke import agather, gather, invoke

app = Celery("proj", broker="amqp://guest@127.0.0.1:1//")
app.conf.update(
    lambda_tasks=["*"],
    lambda_retry_backoff_seconds=0,
    lambda_time_reserve_seconds=1,
    worker_hijack_root_logger=False,
    result_backend=os.environ.get("RESULT_BACKEND"),
    accept_content=["json", "pickle"],
    lambda_processes=int(os.environ.get("PROCESSES", 0)),
    lambda_concurrency=int(os.environ.get("CONCURRENCY", 1)),
)
HERE = Path.cwd()


def note(*words):
    file = os.open(HERE / "noted", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, (" ".join(map(str, words)) + "\\n").encode())
    os.close(file)


def times(*words):
    return (HERE / "noted").read_text().splitlines().count(" ".join(map(str, words)))


def wait_for(name):
    while not (HERE / name).exists():
        time.sleep(0.01)


@app.task
def add(name, x=0, y=0):
    note(name)
    return x + y


@app.task
async def double(name, x):
    await asyncio.sleep(0)
    note(name)
    return 2 * x


@app.task
def die(name, how):
    note(name)
    if times(name) == 1 and how == "exit":
        os._exit(3)
    if times(name) == 1 and how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    return "run again"


@app.task(reject_on_worker_lost=False)
def die_once(name):
    note(name)
    os._exit(3)


@app.task
def hang(name):
    note(name)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # no limit comes through
    threading.Event().wait()


@app.task(time_limit=1)
def limited(name):
    note(name)
    while True:
        time.sleep(0.01)


@app.task
def fail(name, times_failed=10**6):
    note(name)
    if times(name) <= times_failed:
        raise KeyError("no such row")
    return "ran"


@app.task
def wait(name, until):
    note(name)
    wait_for(until)
    return "waited"


@app.task
def big(name, size, sent=None):
    note(name)
    return "x" * size


@app.task(bind=True, max_retries=3)
def flaky(self, name, failures):
    note(name, self.request.retries)
    if self.request.retries < failures:
        raise self.retry(countdown=0.2)
    return self.request.id


@app.task(autoretry_for=(OSError,), retry_backoff=0.1, retry_jitter=False, max_retries=2)
def auto(name, failures):
    note(name)
    if times(name) <= failures:
        raise OSError("down")
    return "up"


@app.task(bind=True)
def replaced(self, name, by):
    note(name)
    if by == "task":
        raise self.replace(add.s(name, 2, 3))
    raise self.replace(chain(add.s(name, 2, 3), add.si(name, 4, 5)))


@task(app=app, idempotency_key=lambda name, size=0: name)
def once(name, size=0):
    note(name)
    wait_for("go-" + name) if size == 0 else None
    return "x" * size


@app.task(rate_limit="1/s")
def rated(name):
    note(name)
    return name


@app.task(bind=True)
def described(self, name):
    note(name)
    return [self.request.id, self.request.delivery_info.get("priority"), self.request.stamps]


@app.task
def stopped(name):
    note(name)
    raise StopIteration("no more")


@app.task
def fan_out(name, children, failures=0):
    note(name)
    return sum(gather((child.s(f"{name}-{n}", n) for n in range(children)), max_connections=2))


@app.task
def child(name, x):
    note(name)
    return x


@app.task
async def fan_out_async(name, children):
    note(name)
    return sum(await agather(child.s(f"{name}-{n}", n) for n in range(children)))


@app.task(soft_time_limit=1)
def impatient(name):
    note(name)
    return gather([wait.s(name + "-child", "never"), wait.s(name + "-other", "never")])

"""


@dataclass
class World:
    """A local function that serves Lambda's API, and the app of who calls it."""

    stack: Any
    function: LocalFunction
    url: str
    directory: Path
    app: Celery

    def s(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Return the signature of one of the function's tasks, which are not here."""
        return self.app.signature(f"lambda_module.{name}", args, kwargs)

    @property
    def noted(self) -> Counter[str]:
        path = self.directory / "noted"
        return Counter(path.read_text().splitlines() if path.exists() else ())

    def client(self) -> Any:
        config = Config(retries={"total_max_attempts": 1}, read_timeout=60)
        return boto3.client("lambda", endpoint_url=self.url, config=config)

    def by_hand(self, event: Any) -> tuple[Any, bool]:
        said = self.client().invoke(FunctionName=FUNCTION_NAME, Payload=json.dumps(event))
        return json.load(said["Payload"]), "FunctionError" in said

    def objects(self) -> set[str]:
        found = self.stack.s3.list_objects_v2(Bucket=self.stack.settings.payload_bucket)
        return {each["Key"] for each in found.get("Contents", [])}


@contextmanager
def world(
    make_stack: Any, directory: Path, /, conf: Any = None, **environment: str
) -> Iterator[World]:
    stack = make_stack(function_timeout_seconds=6, visibility_timeout_seconds=30)
    (directory / "lambda_module.py").write_text(TASKS)
    (directory / "noted").touch()
    app = Celery("proj", broker="amqp://guest@127.0.0.1:1//", set_as_current=False)
    names = ("queue_url", "idempotency_table", "payload_bucket", "endpoint_url", "region")
    app.conf.update(
        {f"lambda_{name}": getattr(stack.settings, name) for name in names},
        lambda_tasks=["*"], lambda_function=FUNCTION_NAME, **(conf or {}),
    )  # fmt: skip
    install(app)
    with ExitStack() as context, pytest.MonkeyPatch.context() as patch:
        listening = listen(0)
        url = url_of(listening)
        function = context.enter_context(
            LocalFunction(
                "lambda_runtime.handler",
                timeout_seconds=6,
                maximum_concurrency=4,
                environment={
                    **stack.environment, "LAMBDA_CELERY_APP": "lambda_module:app",
                    "AWS_ENDPOINT_URL_LAMBDA": url, **environment,
                },
                working_directory=directory,
                writable=[directory],
            )
        )  # fmt: skip
        context.enter_context(serving(function, listening, retry_delays_seconds=(0, 0)))
        patch.setenv("AWS_ENDPOINT_URL_LAMBDA", url)
        patch.setattr(calls, "_LONGEST_LOOK_SECONDS", 0.2)
        yield World(stack, function, url, directory, app)


@pytest.fixture(scope="module")
def direct(make_stack: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(make_stack, tmp_path_factory.mktemp("function")) as made:
        yield made


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return "".join(each if each.isalnum() else "-" for each in request.node.name)


def test_many_more_connections_than_the_function_has_places(direct: World, name: str) -> None:
    signatures = (direct.s("add", f"{name}-{n}", n, 1) for n in range(200))
    assert gather(signatures, max_connections=200) == [n + 1 for n in range(200)]
    assert {direct.noted[f"{name}-{n}"] for n in range(200)} == {1}


def outcome(signature: Any, **options: Any) -> Any:
    """Return what the task returns, or the exception."""
    [ended] = gather([signature], return_exceptions=True, **options)
    return ended


class TestTheEndOfAProcess:
    @pytest.mark.parametrize("how", ["exit", "kill"])
    def test_is_told_and_others_go_on(self, direct: World, name: str, how: str) -> None:
        others = [direct.s("add", f"{name}-{n}", n) for n in range(6)]
        lost, *rest = gather([direct.s("die", name, how), *others], return_exceptions=True)
        assert isinstance(lost, WorkerLostError)
        assert rest == list(range(6))
        assert direct.noted[name] == 1

    def test_by_the_time_out(self, direct: World, name: str) -> None:
        ended = outcome(direct.s("hang", name))
        assert isinstance(ended, TimeLimitExceeded), ended
        assert direct.noted[name] == 1

    def test_by_its_own_limit(self, direct: World, name: str) -> None:
        assert isinstance(outcome(direct.s("limited", name)), TimeLimitExceeded)
        assert direct.noted[name] == 1


async def forwarded(direct: World, event: Any) -> web.Response:
    """Have the function called with *event*, and return what Lambda says."""
    url = f"{direct.url}/2015-03-31/functions/{FUNCTION_NAME}/invocations"
    async with (
        aiohttp.ClientSession(headers={"Authorization": "any"}) as session,
        session.post(url, data=json.dumps(event)) as answer,
    ):
        body = await answer.read()
        kept = {n: v for n, v in answer.headers.items() if n.lower().startswith("x-amz")}
        return web.Response(body=body, status=answer.status, headers=kept)


@contextmanager
def losing(direct: World, monkeypatch: Any, lost: int = 1) -> Iterator[LambdaStandIn]:
    """Lose the first answers of the function on their way."""
    left = [lost]

    async def forward(event: Any) -> Any:
        answer = await forwarded(direct, event)
        if left[0] and answer.status == 200:
            left[0] -= 1
            return None
        return answer

    with lambda_stand_in() as made, monkeypatch.context() as patch:
        made.answer = forward
        patch.setenv("AWS_ENDPOINT_URL_LAMBDA", made.url)
        yield made


class TestALostAnswer:
    @pytest.mark.parametrize(
        ("task", "arguments_", "result"),
        [
            ("add", (2, 3), 5),
            ("double", (4,), 8),
            ("fail", (), KeyError),
            ("big", (700_000,), "x" * 700_000),
            ("big", (7_000_000,), "x" * 7_000_000),
        ],
    )
    def test_is_given_again(self, direct, name, monkeypatch, task, arguments_, result) -> None:
        before = direct.objects()
        with losing(direct, monkeypatch) as lossy:
            ended = outcome(direct.s(task, name, *arguments_))
        assert isinstance(ended, KeyError) if result is KeyError else ended == result
        assert len(lossy.events) == 2
        assert direct.noted[name] == 1
        assert direct.objects() == before

    def test_of_a_retry(self, direct, name, monkeypatch) -> None:
        with losing(direct, monkeypatch, lost=3):
            assert isinstance(outcome(direct.s("flaky", name, 2)), str)
        assert [direct.noted[f"{name} {n}"] for n in range(4)] == [1, 1, 1, 0]

    def test_asked_for_while_the_run_goes_on(self, direct, name, monkeypatch) -> None:
        states = []
        running = []

        async def lose_the_first(event: Any) -> Any:
            if not running:
                running.append(asyncio.ensure_future(forwarded(direct, event)))
                while not direct.noted[name]:
                    await asyncio.sleep(0.01)
                return None
            answer = await forwarded(direct, event)
            if answer.status == 200:
                states.append(json.loads(answer.body)["state"])
                (direct.directory / f"{name}-go").touch()
            return answer

        with lambda_stand_in() as made, monkeypatch.context() as patch:
            made.answer = lose_the_first
            patch.setenv("AWS_ENDPOINT_URL_LAMBDA", made.url)
            assert outcome(direct.s("wait", name, f"{name}-go")) == "waited"
        assert states[0] == "STARTED"
        assert states[-1] == "SUCCESS"
        assert direct.noted[name] == 1


class TestRetries:
    def test_by_the_task(self, direct, name) -> None:
        assert invoke(direct.s("flaky", name, 2)) is not None
        assert [direct.noted[f"{name} {n}"] for n in range(4)] == [1, 1, 1, 0]

    def test_by_autoretry(self, direct, name) -> None:
        assert invoke(direct.s("auto", name, 2)) == "up"
        assert isinstance(outcome(direct.s("auto", name + "b", 9)), OSError)
        assert direct.noted[name + "b"] == 3

    @pytest.mark.parametrize("by", ["task", "chain"])
    def test_replaced(self, direct, name, by) -> None:
        ended = outcome(direct.s("replaced", name, by))
        if by == "task":
            assert ended == 5
        else:
            assert isinstance(ended, Ignore), ended


class TestSizes:
    def test_big_both_ways(self, direct, name) -> None:
        before = direct.objects()
        sent = direct.s("big", name, 7_000_000, sent="y" * 7_000_000)
        assert len(invoke(sent)) == 7_000_000
        assert direct.objects() == before

    def test_one_key_of_several_callers(self, direct, name) -> None:
        sizes = [300_000] * 5
        ended = gather((direct.s("once", name, each) for each in sizes), return_exceptions=True)
        assert [len(each) for each in ended] == sizes
        assert direct.noted[name] == 1

    def test_one_key_small(self, direct, name) -> None:
        (direct.directory / f"go-{name}").touch()
        assert gather([direct.s("once", name) for _ in range(4)]) == [""] * 4
        assert direct.noted[name] == 1


class TestFromATask:
    def test_fans_out(self, direct, name) -> None:
        assert invoke(direct.s("fan_out", name, 6)) == 15
        assert {direct.noted[f"{name}-{n}"] for n in range(6)} == {1}

    def test_fans_out_of_a_coroutine(self, direct, name) -> None:
        assert invoke(direct.s("fan_out_async", name, 6)) == 15

    def test_is_cut_off(self, direct, name) -> None:
        ended = outcome(direct.s("impatient", name))
        assert isinstance(ended, SoftTimeLimitExceeded), ended
        (direct.directory / "never").touch()
        assert invoke(direct.s("fan_out", name, 3)) == 3


class TestRest:
    def test_stop_iteration(self, direct, name) -> None:
        ended = outcome(direct.s("stopped", name))
        # A coroutine cannot raise it, so it is told.
        assert isinstance(ended, CallFailedError), repr(ended)
        assert "StopIteration" in str(ended)

    def test_rate_limit(self, direct, name) -> None:
        assert gather([direct.s("rated", name) for _ in range(3)]) == [name] * 3
        assert direct.noted[name] == 3

    def test_unknown_task(self, direct, name) -> None:
        with pytest.raises(CallFailedError, match="is not registered"):
            invoke(direct.s("nothing", name))

    def test_options(self, direct, name) -> None:
        sent = direct.s("described", name).set(task_id="an id with spaces")
        sent.stamp(colour="blue")
        said = invoke(sent)
        assert said[0] == "an id with spaces"
        said = invoke(direct.s("described", name).set(task_id="x" * 1000))
        assert len(said[0]) == 1000

    def test_expires(self, direct, name) -> None:
        assert invoke(direct.s("add", name, 1).set(expires=60)) == 1

    def test_pickle(self, direct, name) -> None:
        assert invoke(direct.s("add", name, 1).set(serializer="pickle")) == 1

    def test_link(self, direct, name) -> None:
        assert (
            invoke(direct.s("add", name, 1).set(link=direct.s("add", name).set(immutable=True)))
            == 1
        )

    def test_by_hand(self, direct, name) -> None:
        def hand(task="add", **fields):
            return direct.by_hand(
                {"task": f"lambda_module.{task}", "invocation_type": "RequestResponse", **fields}
            )

        assert hand(args=[name, 2, 3]) == (5, False)
        assert hand("fail", args=[name])[1]
        assert len(hand("big", args=[name, 700_000])[0]) == 700_000

    @pytest.mark.parametrize(
        "fields",
        [
            {"args": "no list"},
            {"task": "nothing"},
            {"kwargs": []},
            {"args": None},
            {"eta": "nonsense"},
            {"expires": "nonsense"},
            {"retries": "many"},
            {"id": 7},
        ],
        ids=str,
    )
    def test_garbled_by_hand_is_refused_in_a_sentence(self, direct, name, fields) -> None:
        event = {"task": f"lambda_module.{fields.get('task', 'add')}", "args": [name]}
        told, has_failed = direct.by_hand(
            {**event, "invocation_type": "RequestResponse", **fields, "task": event["task"]}
        )
        assert has_failed
        assert told["errorType"] in ("CallFailedError", "ConfigurationError")
        assert direct.noted[name] == 0

    @pytest.mark.parametrize("task_id", ["a b\n c", "x" * 1000])
    def test_any_id_by_hand(self, direct, name, task_id) -> None:
        event = {"task": "lambda_module.add", "args": [name, 2], "id": task_id}
        assert direct.by_hand({**event, "invocation_type": "RequestResponse"}) == (2, False)
        assert direct.by_hand({**event, "invocation_type": "RequestResponse"}) == (2, False)
        assert direct.noted[name] == 1


@pytest.mark.parametrize(
    "places",
    [{"PROCESSES": "2"}, {"CONCURRENCY": "4"}, {"PROCESSES": "2", "CONCURRENCY": "2"}],
    ids=lambda places: "-".join(places).lower(),
)
def test_in_children_and_on_threads(
    make_stack: Any, tmp_path: Path, places: dict[str, str]
) -> None:
    with world(make_stack, tmp_path, **places) as there:
        assert invoke(there.s("add", "add", 2, 3)) == 5
        assert invoke(there.s("double", "double", 2)) == 4
        assert len(invoke(there.s("big", "big", 700_000))) == 700_000
        assert isinstance(outcome(there.s("fail", "fail")), KeyError)
        assert invoke(there.s("flaky", "flaky", 1))
        assert isinstance(outcome(there.s("die", "die", "kill")), WorkerLostError)
        assert there.noted["die"] == 1
        assert isinstance(outcome(there.s("limited", "limited")), TimeLimitExceeded)
        assert invoke(there.s("add", "after", 1)) == 1
