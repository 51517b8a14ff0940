"""The policies allow what the code asks AWS for, and no more.

Each path to AWS is gone here, as the function and as a producer, and each call is noted. What is
called in the sources is looked up in them, so that no call is forgotten here.
"""

from __future__ import annotations

import ast
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import botocore.client
import botocore.session
import pytest
from botocore import xform_name
from celery import chord
from celery.exceptions import Reject
from celery.result import allow_join_result

import lambda_celery
import lambda_runtime
from lambda_celery import batch, payloads
from lambda_celery.aws import fast_requests
from lambda_celery.schedules import scheduler
from tests.functional.runtime.conftest import Context
from tests.sam import expanded_template

#: An IAM action, and the logical id of what it is on.
Permission = tuple[str, str]

ROLE = "arn:aws:iam::000000000000:role/scheduler"
FAR = timedelta(days=5)
BIG = "x" * 1_200_000  # more than SQS takes
SERVICES = ("dynamodb", "lambda", "s3", "scheduler", "sqs")
#: Rooms that neither a function nor a producer enters. `schedule sync`, which is in beat, is for
#: people and CI, who have permissions of their own (docs/operations/permissions.md).
TOOLS = {"beat", "check", "cli", "infrastructure", "local", "packaging", "plan"}
TOOLS_OPERATIONS = {"CreateScheduleGroup", "GetScheduleGroup", "UpdateSchedule"}
#: Of an operation that has no action of its own name.
ACTIONS = {
    "sqs:SendMessageBatch": ("sqs:SendMessage",),
    "sqs:DeleteMessageBatch": ("sqs:DeleteMessage",),
    "sqs:ChangeMessageVisibilityBatch": ("sqs:ChangeMessageVisibility",),
    "s3:CopyObject": ("s3:GetObject", "s3:PutObject"),
}
#: What no call of ours needs, and AWS does.
BY_AWS: dict[str, dict[Permission, str]] = {
    "function": {
        ("sqs:ReceiveMessage", "Queue"): "the event source mapping, with the function's role",
        ("logs:CreateLogStream", "FunctionLogGroup"): "Lambda, for each environment",
        ("logs:PutLogEvents", "FunctionLogGroup"): "Lambda, with what is written to the output",
        ("s3:ListBucket", "PayloadBucket"): "S3 says 404 of a missing object, else 403",
    },
    "producer": {},
}
#: What may be refused: nothing is lost but a line in the log.
COURTESIES = {("lambda:ListEventSourceMappings", "*")}


class Calls:
    """Notes each call of botocore's, and with that of the requests past it, by who makes it."""

    def __init__(self, stack: Any, results_table: str) -> None:
        settings = stack.settings
        self.names = {
            str(settings.queue_url).rpartition("/")[2]: "Queue",
            str(settings.dead_letter_queue_url).rpartition("/")[2]: "DeadLetterQueue",
            settings.idempotency_table: "IdempotencyTable",
            results_table: "ResultsTable",
            settings.payload_bucket: "PayloadBucket/*",
        }
        self.operations: set[str] = set()
        self.needed: dict[str, set[Permission]] = {"function": set(), "producer": set()}
        self.side: str | None = None

    @contextmanager
    def of(self, side: str) -> Iterator[None]:
        self.side = side
        try:
            yield
        finally:
            self.side = None

    def note(self, service: str, operation: str, parameters: dict[str, Any]) -> None:
        if self.side is None:
            return  # the test's own
        self.operations.add(f"{service}:{operation}")
        self.needed[self.side].update(self.permissions(service, operation, parameters))

    def permissions(
        self, service: str, operation: str, parameters: dict[str, Any]
    ) -> Iterator[Permission]:
        name = f"{service}:{operation}"
        match parameters:
            case {"Statements": statements}:
                for each in statements:
                    verb, table = re.match(r'(\w+) (?:INTO )?"([^"]+)"', each["Statement"]).groups()
                    yield f"dynamodb:PartiQL{verb.title()}", self.names[table]
                return
            case {"QueueUrl": url}:
                resource = self.names[url.rpartition("/")[2]]
            case {"TableName": table}:
                resource = self.names[table]
            case {"RequestItems": items}:
                (resource,) = {self.names[each] for each in items}
            case {"Bucket": bucket}:
                resource = self.names[bucket]
            case {"GroupName": _, "Name": schedule}:
                resource = f"ScheduleGroup/{schedule.partition('-')[0]}-*"
            case _:
                resource = "*"
        if operation == "CreateSchedule":
            assert parameters["Target"]["RoleArn"] == ROLE
            yield "iam:PassRole", "SchedulerRole"
        for action in ACTIONS.get(name, (name,)):
            yield action, resource


@pytest.fixture
def calls(stack, results_table, monkeypatch) -> Calls:
    made = Calls(stack, results_table)
    call = botocore.client.BaseClient._make_api_call

    def noted(self: Any, operation: str, parameters: dict[str, Any]) -> Any:
        made.note(self.meta.service_model.service_name, operation, parameters)
        return call(self, operation, parameters)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", noted)
    monkeypatch.setattr(payloads, "_RENEWED_AFTER", timedelta(0))
    return made


@pytest.fixture
def make(make_runtime, results_table):
    """Make a runtime that has all that may be had, and tasks that use it."""

    def made(**conf: Any) -> Any:
        runtime = make_runtime(
            **{
                "lambda_schedule_group": f"test-{uuid.uuid4().hex[:12]}",
                "lambda_schedule_role_arn": ROLE,
                "lambda_retry_backoff_seconds": 5.0,
                "result_backend": f"lambda-dynamodb:///{results_table}",
                "broker_url": "memory://",  # where a revoke is told, too
                **conf,
            }
        )
        scheduler.ensure_group(runtime.settings)
        return runtime

    return made


def use(runtime: Any, calls: Calls) -> None:
    """Go all ways to AWS, as a producer and as the function."""

    @runtime.task(name="proj.send", rate_limit="1000/s")
    def send(*args):
        return 1

    @runtime.task(name="proj.fail")
    def fail():
        raise ConnectionError

    @runtime.task(name="proj.park")
    def park():
        raise Reject("to be looked at", requeue=False)

    @runtime.task(name="proj.again", bind=True, max_retries=3)
    def again(self):
        raise self.retry(countdown=600)

    @runtime.task(name="proj.publish")
    def publish():
        with batch():
            for n in range(2):
                send.delay(n)
        far = send.apply_async((BIG,), eta=datetime.now(UTC) + FAR)
        far.revoke()
        send.apply_async((BIG,), countdown=600)

    def deliver(count: int, receive_count: int = 1) -> None:
        messages = runtime.receive(count)
        for each in messages:
            each["Attributes"]["ApproximateReceiveCount"] = str(receive_count)
        context = Context(datetime.now(UTC).timestamp() + 60)
        context.invoked_function_arn = "arn:aws:lambda:eu-west-1:000000000000:function:f"
        event = runtime.event(messages)
        runtime.handler  # noqa: B018 - made outside, as at import
        with calls.of("function"):
            runtime.handler(event, context)
        runtime.sqs.purge_queue(QueueUrl=runtime.settings.queue_url)

    with calls.of("producer"):
        result = send.delay(1)
        publish.delay()
        with batch():
            for n in range(2):
                send.delay(n, BIG)
        fail.delay()
        again.delay()
        park.delay()
    deliver(7)
    # The handler has told this process that it is a worker's.
    with calls.of("producer"), allow_join_result():
        assert result.get(timeout=5) == 1
        result.forget()
        far = send.apply_async((BIG,), eta=datetime.now(UTC) + FAR)
        far.revoke()
        parts = chord([send.s(n) for n in range(2)])(send.s())
    deliver(2)
    with calls.of("producer"), allow_join_result():
        parts.parent.get(timeout=5)
        parts.parent.forget()
        send.apply_async((BIG,), countdown=600, DelaySeconds=0)
        send.delay(1)
    deliver(2)  # one of them not due
    with calls.of("producer"):
        for n in range(2):
            send.delay(n)
    deliver(2, receive_count=5)  # the last, although none of them was an attempt


@pytest.fixture
def used(make, calls) -> Calls:
    for concurrency in (1, 4):
        use(make(lambda_concurrency=concurrency), calls)
    return calls


def policies() -> dict[str, set[Permission]]:
    """Return what the example's template allows to the function and to producers, with results."""
    resources = expanded_template(results=True)["Resources"]
    kept = resources["ResultsPolicy"]["Properties"]["PolicyDocument"]
    role = resources["FunctionRole"]["Properties"]["Policies"]
    producer = resources["ProducerPolicy"]["Properties"]["PolicyDocument"]
    return {
        "function": allowed(kept, *(each["PolicyDocument"] for each in role)),
        "producer": allowed(kept, producer),
    }


def allowed(*documents: dict[str, Any]) -> set[Permission]:
    found = set()
    for statement in (each for document in documents for each in listed(document["Statement"])):
        assert statement["Effect"] == "Allow"
        for action in listed(statement["Action"]):
            found |= {(action, logical_id(each)) for each in listed(statement["Resource"])}
    return found


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def logical_id(resource: Any) -> str:
    match resource:
        case "*":
            return "*"
        case {"Fn::GetAtt": [name, "Arn"]}:
            return str(name)
        case {"Fn::Sub": text} if found := re.search(r"\$\{(\w+)(?:\.Arn)?\}(/[\w*-]+)$", text):
            return found[1] + found[2]
    raise AssertionError(f"{resource} is no resource that is known here.")


def called_in_the_sources() -> set[str]:
    """Return the operations that have a call in the sources: more than those that are noted."""
    session = botocore.session.get_session()
    operations = {
        xform_name(operation): f"{service}:{operation}"
        for service in SERVICES
        for operation in session.get_service_model(service).operation_names
        if operation not in TOOLS_OPERATIONS
    }
    found = set()
    for package in (lambda_celery, lambda_runtime):
        folder = Path(package.__file__).parent
        for path in folder.rglob("*.py"):
            if path.relative_to(folder).parts[0] in TOOLS:
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and node.attr in operations:
                    found.add(operations[node.attr])
    for service, methods in fast_requests._OPERATIONS.items():
        found |= {f"{service}:{each}" for each in methods.values()}
    return found


def test_the_policies_allow_each_call_and_nothing_else(used):
    assert called_in_the_sources() - used.operations == set(), "A call is not tried here."
    for side, statements in policies().items():
        needed = used.needed[side] - COURTESIES
        by_aws = BY_AWS[side].keys()
        assert needed - statements == set(), f"The {side}'s policy lacks what it calls."
        assert statements - needed - by_aws == set(), f"Nothing of the {side}'s calls for this."
        assert by_aws <= statements - needed
