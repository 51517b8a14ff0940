"""The handler in this process, against the emulated AWS, one batch at a time."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest
from botocore.awsrequest import AWSResponse
from celery import Celery
from celery._state import _set_task_join_will_block

from lambda_celery import aws, install
from lambda_celery.conf import Settings
from lambda_celery.local.records import record
from lambda_runtime import make_handler
from lambda_runtime.celery_hooks import tracing
from lambda_runtime.deadline import Deadline
from tests.emulated_aws import own_client
from tests.functional.runtime.deployments import deployment  # noqa: F401 - a fixture
from tests.functional.runtime.xray_daemon import daemon  # noqa: F401 - a fixture


@dataclass
class Context:
    """What the Lambda context has to offer."""

    ends_at: float
    aws_request_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self.ends_at - time.time()) * 1000))


@dataclass(frozen=True)
class Answer:
    """What was received and what the handler said to it."""

    messages: list[dict[str, Any]]
    response: dict[str, Any]

    @property
    def failed(self) -> list[str]:
        return [each["itemIdentifier"] for each in self.response["batchItemFailures"]]

    @property
    def all_deleted(self) -> bool:
        return bool(self.messages) and not self.failed

    @property
    def all_returned(self) -> bool:
        return bool(self.messages) and self.failed == [m["MessageId"] for m in self.messages]


class Runtime:
    """A Celery app and its handler on a stack of their own."""

    def __init__(self, stack: Any, app: Celery) -> None:
        self.stack = stack
        self.app = app
        self.settings: Settings = Settings.from_app(app)
        self.sqs = own_client("sqs")
        self._handler: Callable[..., dict[str, Any]] | None = None

    def task(self, *args: Any, **options: Any) -> Any:
        """Declare a task of this app alone."""
        return self.app.task(*args, shared=False, **options)

    @property
    def handler(self) -> Callable[..., dict[str, Any]]:
        if self._handler is None:  # as late as possible: the test declares its tasks first
            self._handler = make_handler(self.app)
        return self._handler

    def restart(self) -> None:
        """Use a new environment from now on."""
        self._handler = None

    def receive(self, count: int = 1, wait_seconds: float = 10) -> list[dict[str, Any]]:
        """Receive *count* messages."""
        messages: list[dict[str, Any]] = []
        end = time.monotonic() + wait_seconds
        while len(messages) < count and time.monotonic() < end:
            answer = self.sqs.receive_message(
                QueueUrl=self.settings.queue_url,
                MaxNumberOfMessages=min(10, count - len(messages)),
                MessageSystemAttributeNames=["All"],
                MessageAttributeNames=["All"],
                WaitTimeSeconds=1,
            )
            messages += answer.get("Messages", [])
        assert len(messages) == count, f"{len(messages)} of {count} messages arrived"
        return messages

    def event(self, messages: list[dict[str, Any]]) -> dict[str, Any]:
        return {"Records": [record(message, self.queue_arn) for message in messages]}

    def deliver(self, count: int = 1, *, seconds: float = 60) -> Answer:
        """Receive *count* messages and hand them over, as Lambda would."""
        return self.hand_over(self.receive(count), seconds=seconds)

    def invoke(self, messages: list[dict[str, Any]], *, seconds: float = 60) -> Answer:
        """Call the handler, and do nothing about its answer."""
        response = self.handler(self.event(messages), Context(time.time() + seconds))
        return Answer(messages, response)

    def hand_over(self, messages: list[dict[str, Any]], *, seconds: float = 60) -> Answer:
        answer = self.invoke(messages, seconds=seconds)
        for message in messages:
            if message["MessageId"] not in answer.failed:
                # The handler may have deleted it: SQS takes that, the emulator does not.
                with suppress(self.sqs.exceptions.ReceiptHandleIsInvalid):
                    self.sqs.delete_message(
                        QueueUrl=self.settings.queue_url, ReceiptHandle=message["ReceiptHandle"]
                    )
        return answer

    @cached_property
    def queue_arn(self) -> str:
        answer = self.sqs.get_queue_attributes(
            QueueUrl=self.settings.queue_url, AttributeNames=["QueueArn"]
        )
        return str(answer["Attributes"]["QueueArn"])

    def send_copy(self, message: Mapping[str, Any]) -> None:
        """Put the same publication on the queue again; SQS gives it a new message id."""
        self.sqs.send_message(
            QueueUrl=self.settings.queue_url,
            MessageBody=message["Body"],
            MessageAttributes=message.get("MessageAttributes") or {},
        )

    def envelope(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Return what stands in *message*, its own body still encoded."""
        return dict(json.loads(base64.b64decode(message["Body"])))

    def arguments(self, message: Mapping[str, Any]) -> str:
        """Return the arguments of the call in *message*, as its header shows them."""
        return str(self.envelope(message)["headers"]["argsrepr"])

    def records(self) -> list[dict[str, Any]]:
        """Return what the idempotency table has of runs, but for those that can run again."""
        items = self.stack.dynamodb.scan(TableName=self.settings.idempotency_table)["Items"]
        of_parked = ("parked#", "failure#")
        items = [item for item in items if not item["id"]["S"].startswith(of_parked)]
        items = [item for item in items if item.get("in_progress_expiration") != {"N": "0"}]
        return [
            {name: next(iter(value.values())) for name, value in item.items()} for item in items
        ]


@pytest.fixture
def make_runtime(stack: Any) -> Iterator[Callable[..., Runtime]]:
    def make(**conf: Any) -> Runtime:
        app = Celery("proj", broker="amqp://guest@127.0.0.1:1//", set_as_current=True)
        settings = replace(stack.settings, retry_backoff_seconds=0.0)
        app.conf.update(
            {
                f"lambda_{name}": getattr(settings, name)
                for name in (
                    "queue_url", "dead_letter_queue_url", "idempotency_table",
                    "payload_bucket", "endpoint_url", "region", "retry_backoff_seconds",
                )
            },
            lambda_tasks=["*"],
            result_backend="cache+memory://",
            worker_hijack_root_logger=False,
            # Nobody listens there; no need to ask again and again.
            broker_transport_options={"max_retries": 1, "interval_start": 0},
        )  # fmt: skip
        app.conf.update(conf)
        install(app)
        return Runtime(stack, app)

    yield make
    # The handler has made a worker's process of this one, in which nobody may wait for a result.
    _set_task_join_will_block(False)


@pytest.fixture
def no_time(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Leave no time for tasks, within the context."""

    @contextmanager
    def without() -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setattr(Deadline, "seconds_for_tasks", lambda self: 0.0)
            yield

    return without


@pytest.fixture
def runtime(make_runtime: Callable[..., Runtime]) -> Runtime:
    return make_runtime()


@pytest.fixture
def web(stack: Any) -> Celery:
    """The app of a web process, which knows nothing of the tasks' code."""
    app = Celery("web", broker="amqp://guest@127.0.0.1:1//", set_as_current=True)
    app.conf.update(
        lambda_tasks=["*"],
        lambda_queue_url=stack.queue_url,
        lambda_endpoint_url=stack.settings.endpoint_url,
        lambda_region=stack.settings.region,
    )
    install(app)
    return app


@pytest.fixture
def publish(request: pytest.FixtureRequest, web: Celery, tmp_path: Path) -> Callable[..., Any]:
    """Send a task by name to a function that is deployed with the test module's ``APP``."""
    (tmp_path / "proj.py").write_text(request.module.APP)
    send_task: Callable[..., Any] = web.send_task
    return send_task


class _Raw(io.BytesIO):
    def stream(self, **kwargs: Any) -> Iterator[bytes]:
        yield self.read()


class Faults:
    """Answers some calls of our clients with an error, below botocore's retries and parsers."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []
        self.calls: dict[str, list[dict[str, Any]]] = {}

    def fail(
        self, settings: Settings, service: str, operation: str, code: str, *, status: int = 400
    ) -> Callable[[], None]:
        """Refuse *operation* from now on; return what ends that."""

        model = aws.client(service, settings).meta.service_model
        # CloudWatch's is another one with an old botocore.
        protocol = getattr(model, "resolved_protocol", model.metadata["protocol"])

        def refuse(request: Any, **kwargs: Any) -> AWSResponse:
            if protocol in ("rest-xml", "query"):
                body = f"<Error><Code>{code}</Code><Message>refused</Message></Error>"
                if protocol == "query":
                    body = f"<ErrorResponse>{body}</ErrorResponse>"
            else:
                body = json.dumps({"__type": f"com.amazonaws#{code}", "message": "refused"})
            return AWSResponse(request.url, status, {}, _Raw(body.encode()))

        return self._register(settings, service, operation, refuse)

    def watch(self, settings: Settings, service: str, operation: str) -> list[dict[str, Any]]:
        """Return the list that the parameters of each call of *operation* are added to."""
        seen: list[dict[str, Any]] = []

        def note(request: Any, **kwargs: Any) -> None:
            parameters = json.loads(request.body or "{}")
            if service == "scheduler":  # its REST protocol has the name in the path
                parameters.setdefault("Name", unquote(request.url.rpartition("/")[2]))
            seen.append(parameters)

        self._register(settings, service, operation, note)
        return seen

    def _register(
        self, settings: Settings, service: str, operation: str, hook: Callable[..., Any]
    ) -> Callable[[], None]:
        event = f"before-send.{service}.{operation}"
        clients = [aws.client(service, settings, fast=fast) for fast in (True, False)]
        clients.append(aws.client(service, settings, patient=False))
        for client in clients:
            client.meta.events.register_first(event, hook)

        def undo() -> None:
            for client in clients:
                client.meta.events.unregister(event, hook)

        self._undo.append(undo)
        return undo

    def close(self) -> None:
        for undo in self._undo:
            undo()


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    # Retries are botocore's own; their waiting is not what is tested.
    for name in ("botocore.endpoint.time", "lambda_celery.aws.fast_requests.time"):
        monkeypatch.setattr(name, SimpleNamespace(sleep=lambda seconds: None))
    made = Faults()
    yield made
    made.close()


@pytest.fixture
def began(monkeypatch):
    """Note on which threads the tracer calls a body."""
    names: list[str] = []
    traced = tracing._traced

    def note(task: Any, run: Any) -> Any:
        names.append(threading.current_thread().name)
        return traced(task, run)

    monkeypatch.setattr(tracing, "_traced", note)
    return names
