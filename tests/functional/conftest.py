"""Resources of its own in the emulated AWS for every test."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lambda_celery.aws import client
from lambda_celery.conf import Settings
from lambda_celery.local.event_source_mapping import (
    BatchReport,
    EventSourceMapping,
    EventSourceMappingConfig,
)
from lambda_celery.local.function import LocalFunction
from lambda_celery.local.provision import provision
from tests.emulated_aws import REGION, aws_environment, own_client
from tests.functional.postgres_server import postgres_url  # noqa: F401 - a fixture
from tests.functional.redis_server import redis_url  # noqa: F401 - a fixture

ACCOUNT_ID = "000000000000"


@dataclass(frozen=True)
class Stack:
    """Queue, dead-letter queue, table and bucket that no other test uses."""

    settings: Settings

    @property
    def sqs(self) -> Any:
        return client("sqs", self.settings)

    @property
    def dynamodb(self) -> Any:
        return client("dynamodb", self.settings)

    @property
    def s3(self) -> Any:
        return client("s3", self.settings)

    @property
    def queue_url(self) -> str:
        assert self.settings.queue_url is not None
        return self.settings.queue_url

    @property
    def dead_letter_queue_url(self) -> str:
        assert self.settings.dead_letter_queue_url is not None
        return self.settings.dead_letter_queue_url

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which a child process uses this stack."""
        assert self.settings.endpoint_url is not None
        names = (
            "endpoint_url",
            "region",
            "queue_url",
            "dead_letter_queue_url",
            "idempotency_table",
            "payload_bucket",
        )
        return aws_environment(self.settings.endpoint_url) | {
            f"LAMBDA_CELERY_{name.upper()}": str(getattr(self.settings, name)) for name in names
        }

    def send(self, *bodies: str, **options: Any) -> list[str]:
        """Send messages in batches of up to ten and return their message ids."""
        ids = []
        remaining = iter(enumerate(bodies))
        while chunk := list(itertools.islice(remaining, 10)):
            answer = self.sqs.send_message_batch(
                QueueUrl=self.queue_url,
                Entries=[{"Id": str(n), "MessageBody": body, **options} for n, body in chunk],
            )
            assert not answer.get("Failed")
            ids += [each["MessageId"] for each in answer["Successful"]]
        return ids

    def messages(self) -> list[dict[str, Any]]:
        """Receive what is visible on the queue now; it stays there, hidden."""
        return self._receive(self.queue_url)

    def dead_letters(self) -> list[dict[str, Any]]:
        """Receive what is visible on the dead-letter queue now; it stays there, hidden."""
        return self._receive(self.dead_letter_queue_url)

    def depth(self, queue_url: str | None = None) -> int:
        """Return how many messages are on the queue; visible, hidden or delayed."""
        counts = (
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        )
        answer = self.sqs.get_queue_attributes(
            QueueUrl=queue_url or self.queue_url, AttributeNames=list(counts)
        )
        return sum(int(answer["Attributes"][name]) for name in counts)

    def _receive(self, queue_url: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            answer = self.sqs.receive_message(
                QueueUrl=queue_url,
                MaxNumberOfMessages=10,
                MessageSystemAttributeNames=["All"],
                MessageAttributeNames=["All"],
            )
            if not answer.get("Messages"):
                return found
            found += answer["Messages"]


MakeStack = Callable[..., Stack]


@pytest.fixture(scope="session")
def make_stack(aws_endpoint: str) -> MakeStack:
    """Make a stack; keyword arguments go to ``provision``, *suffix* to the queues' names."""

    def make(suffix: str = "", **options: Any) -> Stack:
        name = f"test-{uuid.uuid4().hex[:12]}"
        settings = Settings(
            queue_url=f"{aws_endpoint}/{ACCOUNT_ID}/{name}{suffix}",
            dead_letter_queue_url=f"{aws_endpoint}/{ACCOUNT_ID}/{name}-dead-letters{suffix}",
            idempotency_table=f"{name}-idempotency",
            payload_bucket=f"{name}-payloads",
            endpoint_url=aws_endpoint,
            region=REGION,
        )
        options = {"function_timeout_seconds": 5, "visibility_timeout_seconds": 30} | options
        provision(settings, **options)
        return Stack(settings)

    return make


@pytest.fixture
def stack(make_stack: MakeStack) -> Stack:
    """A stack for a function of 5 s; its queue's visibility time-out is 30 s."""
    return make_stack()


@pytest.fixture
def results_table(aws_endpoint: str) -> str:
    """A table as the infrastructure supplies it."""
    name = f"results-{uuid.uuid4().hex[:12]}"
    dynamodb = own_client("dynamodb")
    dynamodb.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    dynamodb.update_time_to_live(
        TableName=name, TimeToLiveSpecification={"Enabled": True, "AttributeName": "ttl"}
    )
    return name


@pytest.fixture
def local_function(tmp_path: Path) -> Iterator[Callable[..., LocalFunction]]:
    """Make a local function that is closed at the test's end.

    Its working directory is ``tmp_path``, so a handler module can be written there; and its
    tasks may note there what they do.
    """
    with ExitStack() as exit_stack:

        def make(handler: str, **options: Any) -> LocalFunction:
            options = {
                "timeout_seconds": 5,
                "working_directory": tmp_path,
                "writable": [tmp_path],
            } | options
            return exit_stack.enter_context(LocalFunction(handler, **options))

        yield make


@pytest.fixture
def event_source_mapping(
    local_function: Callable[..., LocalFunction],  # closed after the mappings have stopped
) -> Iterator[Callable[..., EventSourceMapping]]:
    """Start an event source mapping that is stopped at the test's end.

    Keyword arguments are those of :class:`EventSourceMappingConfig`, and ``on_batch``.
    """
    with ExitStack() as exit_stack:

        def start(
            stack: Stack,
            function: Any,
            *,
            on_batch: Callable[[BatchReport], None] | None = None,
            **config: Any,
        ) -> EventSourceMapping:
            mapping = EventSourceMapping(
                stack.queue_url,
                function,
                EventSourceMappingConfig(**config),
                own_client("sqs"),
                on_batch=on_batch,
            )
            return exit_stack.enter_context(mapping)

        yield start
