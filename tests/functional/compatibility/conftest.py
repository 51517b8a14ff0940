"""One project on two peers: our runtime, and a stock Celery worker with kombu's SQS transport.

Both are started once and shared by all tests. Each has queues and a publishing app of its
own; Redis is the result back end of both.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import redis
from celery import Celery
from celery.result import AsyncResult

from lambda_celery.envelope import read_envelope, read_message
from lambda_celery.failures.record import REASON_ATTRIBUTE
from lambda_celery.local.event_source_mapping import EventSourceMapping, EventSourceMappingConfig
from lambda_celery.local.function import LocalFunction
from lambda_celery.local.process import ChildProcess
from tests.emulated_aws import own_client

DIRECTORY = Path(__file__).parent
WAIT_SECONDS = 120
FUNCTION_TIMEOUT_SECONDS = 20


@dataclass
class Peer:
    """Something that runs the project's tasks, as a web process sees it: an app to publish with."""

    name: str
    config: Mapping[str, Any]
    trace_url: str

    @cached_property
    def app(self) -> Celery:
        """The publishing app; made when it is first asked for."""
        return load_project(f"proj_{self.name}", self.config, self.trace_url).app

    def __getattr__(self, name: str) -> Any:
        """Return the project's task *name*."""
        return self.app.tasks[f"proj.{name}"]

    def configured(self, **changes: Any) -> Peer:
        """Return another web process of the same peer, with other settings."""
        return Peer(self.name, {**self.config, **changes}, self.trace_url)

    def moved_to(self, stack: Any, **changes: Any) -> Peer:
        """Return a peer with a queue of its own, to be started, and with other settings."""
        if self.name == "lambda":
            queue = {"lambda_queue_url": stack.queue_url, "lambda_queues": {}}
        else:
            options = dict(self.config["broker_transport_options"])
            options["predefined_queues"] = {"celery": {"url": stack.queue_url}}
            queue = {"broker_transport_options": options}
        return self.configured(**queue, **changes)

    def result(self, task_id: str) -> AsyncResult:
        return AsyncResult(task_id, app=self.app)

    def environment(self) -> dict[str, str]:
        """Return the variables of a process that runs the tasks."""
        return {
            "PROJ_CONFIG": json.dumps(self.config),
            "PROJ_TRACE_URL": self.trace_url,
            "PROJ_RUNS_TASKS": "yes",
        }


def load_project(name: str, config: Mapping[str, Any], trace_url: str) -> ModuleType:
    """Execute the project's module once more, with an app of its own."""
    spec = importlib.util.spec_from_file_location(name, DIRECTORY / "proj.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROJ_CONFIG", json.dumps(config))
        patch.setenv("PROJ_TRACE_URL", trace_url)
        # Dataclasses and pydantic look their module up while it is executed.
        patch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
    return module


class Trace:
    """What the tasks of one test leave in Redis."""

    def __init__(self, client: redis.Redis, key: str) -> None:
        self._redis = client
        self.key = key

    def of(self, key: str) -> Trace:
        """Return the trace under another key, such as a task's id."""
        return Trace(self._redis, key)

    def take(self, count: int) -> list[Any]:
        """Wait for *count* notes and return them in their order."""
        return [self.next() for _ in range(count)]

    def next(self) -> Any:
        """Wait for the next note and return it."""
        found = self._redis.blpop([f"trace:{self.key}"], timeout=WAIT_SECONDS)
        assert found, f"nothing was noted under {self.key} for {WAIT_SECONDS} s"
        return json.loads(found[1])

    def rest(self) -> list[Any]:
        """Return what has been noted and not been taken."""
        return [json.loads(each) for each in self._redis.lrange(f"trace:{self.key}", 0, -1)]

    def go(self) -> None:
        """Let a task go on that waits for it."""
        self._redis.rpush(f"go:{self.key}", 1)


Running = Callable[[Peer, Any], AbstractContextManager[None]]


@pytest.fixture
def trace(trace_url: str) -> Iterator[Trace]:
    with redis.Redis.from_url(trace_url, decode_responses=True, socket_timeout=None) as client:
        yield Trace(client, uuid.uuid4().hex)


@pytest.fixture(scope="session")
def trace_url(redis_url: str) -> Iterator[str]:
    yield redis_url
    # A result that is let go takes its subscription back: as long as there is a server for that.
    gc.collect()


@pytest.fixture(scope="session")
def common_config(redis_url: str) -> dict[str, Any]:
    return {
        "result_backend": redis_url,
        "result_extended": True,
        "task_serializer": "json",
        "accept_content": ["json", "yaml", "msgpack", "application/x-shouting"],
        "task_annotations": {
            "proj.configured_task": {"rate_of_interest": 5, "ignore_result": False}
        },
        "worker_hijack_root_logger": False,
        "broker_connection_retry_on_startup": True,
        "worker_enable_remote_control": False,
    }


@pytest.fixture(scope="session")
def lambda_stack(make_stack: Callable[..., Any]) -> Any:
    return make_stack(function_timeout_seconds=FUNCTION_TIMEOUT_SECONDS)


@pytest.fixture(scope="session")
def other_stack(make_stack: Callable[..., Any]) -> Any:
    """The second queue of our runtime."""
    return make_stack(function_timeout_seconds=FUNCTION_TIMEOUT_SECONDS)


@pytest.fixture(scope="session")
def shared_stack(make_stack: Callable[..., Any]) -> Any:
    """The queue that both peers can be put on."""
    return make_stack(function_timeout_seconds=FUNCTION_TIMEOUT_SECONDS)


@pytest.fixture(scope="session")
def lambda_config(
    common_config: dict[str, Any],
    redis_url: str,
    lambda_stack: Any,
    other_stack: Any,
    shared_stack: Any,
) -> dict[str, Any]:
    settings = lambda_stack.settings
    return {
        **common_config,
        "broker_url": redis_url.removesuffix("/0") + "/1",
        "lambda_tasks": ["proj.*"],
        "lambda_queue_url": lambda_stack.queue_url,
        "lambda_queues": {"other": other_stack.queue_url, "both": shared_stack.queue_url},
        "lambda_idempotency_table": settings.idempotency_table,
        "lambda_payload_bucket": settings.payload_bucket,
        "lambda_endpoint_url": settings.endpoint_url,
        "lambda_region": settings.region,
        "lambda_retry_backoff_seconds": 0,
        "lambda_time_reserve_seconds": 1,
    }


@pytest.fixture(scope="session")
def worker_config(
    common_config: dict[str, Any], make_stack: Callable[..., Any], shared_stack: Any
) -> dict[str, Any]:
    stacks = {"celery": make_stack(), "other": make_stack(), "both": shared_stack}
    settings = shared_stack.settings
    host = settings.endpoint_url.removeprefix("http://")
    return {
        **common_config,
        "broker_url": f"sqs://test:test@{host}",
        "broker_transport_options": {
            "region": settings.region,
            "is_secure": False,
            "wait_time_seconds": 1,
            "predefined_queues": {name: {"url": each.queue_url} for name, each in stacks.items()},
        },
    }


@contextmanager
def worker(peer: Peer, log: Path, *arguments: str) -> Iterator[None]:
    """Run ``celery worker`` on the project."""
    command = [
        sys.executable, "-m", "celery", "-A", "proj", "worker", "--loglevel=INFO",
        "--without-gossip", "--without-mingle", "--without-heartbeat", *arguments,
    ]  # fmt: skip
    environment = {
        **os.environ, **peer.environment(),
        "C_FORCE_ROOT": "1",  # root may read pickle here
    }  # fmt: skip
    with log.open("wb") as output:
        process = ChildProcess(
            command, environment=environment, working_directory=DIRECTORY, output=output
        )
        try:
            yield
        finally:
            process.terminate(10)


def deployment(peer: Peer, *writable: Path) -> LocalFunction:
    """Return the function with the project, as a context manager."""
    return LocalFunction(
        timeout_seconds=FUNCTION_TIMEOUT_SECONDS,
        maximum_concurrency=2,
        environment={**peer.environment(), "LAMBDA_CELERY_APP": "proj:app"},
        working_directory=DIRECTORY,
        writable=writable,
    )


def feed(stack: Any, function: LocalFunction) -> EventSourceMapping:
    """Return an event source mapping from the queue of *stack*, to be started."""
    config = EventSourceMappingConfig(batch_size=4, maximum_concurrency=2)
    return EventSourceMapping(stack.queue_url, function, config, own_client("sqs"))


@pytest.fixture(scope="session")
def deployed_lambda(
    lambda_config: dict[str, Any], trace_url: str, lambda_stack: Any, other_stack: Any
) -> Iterator[tuple[Peer, LocalFunction]]:
    peer = Peer("lambda", lambda_config, trace_url)
    with (
        deployment(peer) as function,
        feed(lambda_stack, function),
        feed(other_stack, function),
    ):
        yield peer, function


@pytest.fixture(scope="session")
def function(deployed_lambda: tuple[Peer, LocalFunction]) -> LocalFunction:
    return deployed_lambda[1]


@pytest.fixture(scope="session")
def stock_worker(
    worker_config: dict[str, Any], trace_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Peer]:
    """A stock worker; with processes, since only those enforce hard time limits."""
    peer = Peer("worker", worker_config, trace_url)
    log = tmp_path_factory.mktemp("worker") / "log"
    with worker(peer, log, "--concurrency=2", "--queues=celery,other,both"):
        yield peer


@pytest.fixture(scope="session")
def redis_worker(
    deployed_lambda: tuple[Peer, LocalFunction], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """A worker for the tasks that stay on the broker of the app whose others are on Lambda."""
    log = tmp_path_factory.mktemp("redis-worker") / "log"
    with worker(deployed_lambda[0], log, "--pool=solo"):
        yield


@pytest.fixture
def running(tmp_path: Path) -> Running:
    """Run the tasks of a peer that was moved to a stack of its own, as a context manager.

    They may write to ``tmp_path``.
    """

    @contextmanager
    def run(peer: Peer, stack: Any) -> Iterator[None]:
        if peer.name == "worker":
            with worker(peer, tmp_path / "worker.log", "--pool=solo"):
                yield
        else:
            with deployment(peer, tmp_path) as function, feed(stack, function):
                yield

    return run


@pytest.fixture
def running_worker(tmp_path: Path) -> Callable[[Peer], AbstractContextManager[None]]:
    """Run a worker with the configuration of either peer, as a context manager."""
    return lambda peer: worker(peer, tmp_path / "other-worker.log", "--pool=solo")


@pytest.fixture
def shared_mapping(function: LocalFunction, shared_stack: Any) -> Iterator[EventSourceMapping]:
    """Feed our runtime from the shared queue as well, until the test ends."""
    with feed(shared_stack, function) as mapping:
        yield mapping


@pytest.fixture(params=["lambda", "worker"])
def peer(request: pytest.FixtureRequest) -> Peer:
    """Each peer in its turn."""
    return request.getfixturevalue(f"{request.param}_peer")


@pytest.fixture
def lambda_peer(deployed_lambda: tuple[Peer, LocalFunction]) -> Peer:
    peer = deployed_lambda[0]
    peer.app.set_current()
    return peer


@pytest.fixture
def worker_peer(stock_worker: Peer) -> Peer:
    stock_worker.app.set_current()
    return stock_worker


@pytest.fixture
def dead_letter(lambda_stack: Any, lambda_config: dict[str, Any]) -> Callable[[str], str]:
    """Wait for the dead letter of a task id on our runtime's queue; return why it is there."""

    def wait(task_id: str) -> str:
        for _ in range(WAIT_SECONDS):
            answer = lambda_stack.sqs.receive_message(
                QueueUrl=lambda_stack.dead_letter_queue_url,
                MaxNumberOfMessages=10,
                WaitTimeSeconds=1,
                MessageAttributeNames=["All"],
            )
            for message in answer.get("Messages") or []:
                headers = read_message(
                    read_envelope(message["Body"]), lambda_config["accept_content"], {}
                ).headers
                if headers["id"] == task_id:
                    return message["MessageAttributes"][REASON_ATTRIBUTE]["StringValue"]
        raise AssertionError(f"the task {task_id} was not parked in {WAIT_SECONDS} s")

    return wait
