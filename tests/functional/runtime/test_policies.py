"""The policies allow what the code asks AWS for, and no more.

Each path to AWS is gone here, as the function, as a producer and as a direct caller, and each call
is noted. What is
called in the sources is looked up in them, so that no call is forgotten here. The policies are
those of the one definition, with which the forms agree.
"""

from __future__ import annotations

import ast
import asyncio
import json
import re
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import botocore.client
import botocore.session
import pytest
from botocore import xform_name
from celery import chord
from celery.exceptions import Reject
from celery.result import allow_join_result
from celery.schedules import crontab
from click.testing import CliRunner

import lambda_celery
import lambda_runtime
from lambda_celery import batch, payloads
from lambda_celery.aws import fast_requests
from lambda_celery.aws.invoking import AsyncLambda, Reply
from lambda_celery.cli import lambda_command
from lambda_celery.django.mail.ses_account import Account
from lambda_celery.django.mail.ses_rate import SesRate
from lambda_celery.failures import BulkActions
from lambda_celery.infrastructure.inputs import Deployment
from lambda_celery.infrastructure.resources import resources
from lambda_celery.invoke import gather
from lambda_celery.schedules import scheduler
from tests.functional.lambda_stand_in import lambda_stand_in
from tests.functional.runtime.conftest import Context
from tests.sam import expanded_template

#: An IAM action, and the logical id of what it is on.
Permission = tuple[str, str]

ROLE = "arn:aws:iam::000000000000:role/scheduler"
KEY = "arn:aws:kms:eu-west-1:000000000000:key/11111111-2222-3333-4444-555555555555"
VPC = {"subnet_ids": ["subnet-12345678"], "security_group_ids": ["sg-12345678"]}
DOCUMENT = Path(__file__).parents[3] / "docs" / "operations" / "permissions.md"
FAR = timedelta(days=5)
BIG = "x" * 1_200_000  # more than SQS takes
HUGE = "x" * 4_000_000  # encoded, it is more than Lambda takes; twice, more than it gives back
SERVICES = ("dynamodb", "lambda", "s3", "scheduler", "sesv2", "sqs")
#: Rooms that neither a function nor a producer enters. `schedule sync`, which is in beat, belongs
#: to a deployment, and has a policy of its own in docs/operations/permissions.md. Of `failures` the
#: function has what it does when it parks a message, when that comes back, and in a bulk action.
TOOLS = {
    "beat",
    "check",
    "cli",
    "failures",
    "infrastructure",
    "local",
    "packaging",
    "pausing.py",
    "plan",
    "status",
    "testing",
}
TOOLS_OPERATIONS = {"CreateScheduleGroup", "GetScheduleGroup", "UpdateSchedule"}
#: Of an operation that has no action of its own name.
ACTIONS = {
    "sqs:SendMessageBatch": ("sqs:SendMessage",),
    "sqs:DeleteMessageBatch": ("sqs:DeleteMessage",),
    "sqs:ChangeMessageVisibilityBatch": ("sqs:ChangeMessageVisibility",),
    "s3:CopyObject": ("s3:GetObject", "s3:PutObject"),
    "sesv2:GetAccount": ("ses:GetAccount",),
    "lambda:Invoke": ("lambda:InvokeFunction",),
}
#: What no call of ours needs, and AWS does.
BY_AWS: dict[str, dict[Permission, str]] = {
    "function": {
        ("sqs:ReceiveMessage", "CeleryQueue"): "the event source mapping, with its role",
        ("logs:CreateLogStream", "FunctionLogGroup"): "Lambda, for each environment",
        ("logs:PutLogEvents", "FunctionLogGroup"): "Lambda, with what is written to the output",
        ("s3:ListBucket", "PayloadBucket"): "S3 says 404 of a missing object, else 403",
    },
    "producer": {},
    "caller": {},
    "scheduler": {},
}
#: Lambda's, with the function's role, by
#: https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html#configuration-vpc-permissions
IN_A_VPC = {
    ("ec2:CreateNetworkInterface", "*"),
    ("ec2:DescribeNetworkInterfaces", "*"),
    ("ec2:DescribeSubnets", "*"),
    ("ec2:DeleteNetworkInterface", "*"),
    ("ec2:AssignPrivateIpAddresses", "*"),
    ("ec2:UnassignPrivateIpAddresses", "*"),
}
#: What a service asks KMS for, on behalf of whoever calls it, where it has a key of the customer's.
#: SQS: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-key-management.html
#: S3: https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html
#: DynamoDB: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/encryption.usagenotes.html
KEY_USES = {
    "sqs:SendMessage": {"kms:GenerateDataKey", "kms:Decrypt"},
    "sqs:ReceiveMessage": {"kms:Decrypt"},
    "s3:GetObject": {"kms:Decrypt"},
    "s3:PutObject": {"kms:GenerateDataKey"},
    **{
        f"dynamodb:{each}": {"kms:Decrypt"}
        for each in (
            "BatchGetItem", "BatchWriteItem", "DeleteItem", "GetItem", "PartiQLInsert",
            "PartiQLUpdate", "PutItem", "Query", "UpdateItem",
        )
    },
}  # fmt: skip
#: These read or write nothing that is encrypted.
WITHOUT_KEY = {
    "iam:PassRole", "lambda:InvokeFunction", "logs:CreateLogStream", "logs:PutLogEvents",
    "s3:DeleteObject", "s3:ListBucket", "scheduler:CreateSchedule", "scheduler:DeleteSchedule",
    "scheduler:GetSchedule", "scheduler:ListSchedules", "sqs:ChangeMessageVisibility",
    "sqs:DeleteMessage", "sqs:GetQueueAttributes",
}  # fmt: skip
#: On which condition an action is allowed, if on any.
CONDITIONS = {
    "iam:PassRole": {"StringEquals": {"iam:PassedToService": "scheduler.amazonaws.com"}},
}
#: What may be refused: nothing is lost but a line in the log.
COURTESIES = {("lambda:ListEventSourceMappings", "*")}
#: Of who asks for the rate of SES.
OF_SES = {("ses:GetAccount", "*")}


class Calls:
    """Notes each call, of botocore's and of the requests past it, by who makes it.

    What a schedule tells EventBridge Scheduler to do is the scheduler's.
    """

    def __init__(self, stack: Any, results_table: str) -> None:
        settings = stack.settings
        self.names = {
            settings.idempotency_table: "IdempotencyTable",
            results_table: "ResultsTable",
            settings.payload_bucket: "PayloadBucket/*",
        }
        self.know_queue(stack, "Celery")
        self.operations: set[str] = set()
        self.needed: defaultdict[str, set[Permission]] = defaultdict(set)
        self.side: str | None = None

    def know_queue(self, stack: Any, prefix: str) -> None:
        """Call the queues of *stack* as the definition does those whose ids begin with *prefix*."""
        self.names[stack.queue_url.rpartition("/")[2]] = f"{prefix}Queue"
        self.names[stack.dead_letter_queue_url.rpartition("/")[2]] = f"{prefix}DeadLetterQueue"

    @contextmanager
    def of(self, side: str) -> Iterator[None]:
        before, self.side = self.side, side
        try:
            yield
        finally:
            self.side = before

    def note(self, service: str, operation: str, parameters: dict[str, Any]) -> None:
        if self.side is None:
            return  # the test's own
        self.operations.add(f"{service}:{operation}")
        self.needed[self.side].update(self.permissions(service, operation, parameters))
        if target := parameters.get("Target"):
            assert target["RoleArn"] == ROLE
            queues = [target["Arn"], *target.get("DeadLetterConfig", {}).values()]
            self.needed["scheduler"].update(
                ("sqs:SendMessage", self.names[each.rpartition(":")[2]]) for each in queues
            )

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
            case {"TableName": table, "IndexName": index}:
                resource = f"{self.names[table]}/index/{index}"
            case {"TableName": table}:
                resource = self.names[table]
            case {"RequestItems": items}:
                (resource,) = {self.names[each] for each in items}
            case {"Bucket": bucket}:
                resource = self.names[bucket]
            case {"FunctionName": function} if operation == "Invoke":
                resource = "Function:*" if ":" in function else "Function"
            case {"GroupName": _, "Name": schedule}:
                resource = f"ScheduleGroup/{schedule.partition('-')[0]}-*"
            case {"Name": group}:
                resource = self.names[group]
            case _:
                resource = "*"
        if "Target" in parameters:
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

    invoke = AsyncLambda.invoke

    async def noted_invoke(self: AsyncLambda, function: str, payload: bytes, kind: str) -> Reply:
        made.note("lambda", "Invoke", {"FunctionName": function})
        return await invoke(self, function, payload, kind)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", noted)
    monkeypatch.setattr(AsyncLambda, "invoke", noted_invoke)
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

    @runtime.task(name="proj.at_the_rate_of_ses")
    def at_the_rate_of_ses():
        SesRate(runtime.settings, Account()).seconds_to_wait(1)

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
        at_the_rate_of_ses.delay()
    deliver(8)
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
    # What was parked by now is sent back by the function itself, and others are given back.
    dead_letters = runtime.settings.dead_letter_queue_url
    runtime.sqs.send_message(QueueUrl=dead_letters, MessageBody="somebody else's")
    BulkActions(runtime.app).begin(uuid.uuid4().hex, "retry")
    deliver(1)


def call_directly(runtime: Any, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go all ways to AWS of a direct call, as who calls and as the function."""

    @runtime.task(name="proj.double", ignore_result=True)
    def double(what):
        return 2 * what

    handler = runtime.handler

    def answer(event: dict[str, Any]) -> Any:
        context = Context(datetime.now(UTC).timestamp() + 60)
        with calls.of("function"):
            return handler(event, context)

    with lambda_stand_in() as function:
        function.answer = lambda event: asyncio.to_thread(answer, event)
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", function.url)
        with calls.of("caller"):
            assert gather([double.s(1)], function="shop") == [2]
            assert gather([double.s(HUGE)], function="shop:live") == [2 * HUGE]


@pytest.fixture
def used(make, calls, monkeypatch) -> Calls:
    for concurrency in (1, 4):
        use(make(lambda_concurrency=concurrency), calls)
    call_directly(make(), calls, monkeypatch)
    return calls


def with_the_key(needed: set[Permission]) -> set[Permission]:
    """Return *needed*, and what of the key follows from it."""
    found = {*needed}
    for action, resource in needed:
        if action not in WITHOUT_KEY and resource != "*":
            found |= {(each, "Key") for each in KEY_USES[action]}
    return found


def defined(**inputs: Any) -> dict[str, Any]:
    """Return the resources of the definition, results included."""
    given = {"app": "proj:app", "name": "shop", "results": True, **inputs}
    return resources(Deployment.parse(given)).resources


def policies(made: Mapping[str, Any], function: str = "") -> dict[str, set[Permission]]:
    """Return what the resources *made* allow to each side; *function* is the function's prefix."""
    kept = of_managed_policy(made, "ResultsPolicy")
    return {
        "function": kept | of_role(made, f"{function}FunctionRole"),
        "producer": kept | of_managed_policy(made, "ProducerPolicy"),
        "caller": of_managed_policy(made, "CallerPolicy"),
        "scheduler": of_role(made, "SchedulerRole"),
    }


def of_role(made: Mapping[str, Any], name: str) -> set[Permission]:
    return allowed(*(each["PolicyDocument"] for each in made[name]["Properties"]["Policies"]))


def of_managed_policy(made: Mapping[str, Any], name: str) -> set[Permission]:
    return allowed(made[name]["Properties"]["PolicyDocument"])


def allowed(*documents: dict[str, Any]) -> set[Permission]:
    found = set()
    for statement in (each for document in documents for each in listed(document["Statement"])):
        assert statement["Effect"] == "Allow"
        for action in listed(statement["Action"]):
            assert statement.get("Condition") == CONDITIONS.get(action), action
            found |= {(action, logical_id(each)) for each in listed(statement["Resource"])}
    return found


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def logical_id(resource: Any) -> str:
    match resource:
        case "*":
            return "*"
        case str() if resource == KEY:
            return "Key"
        case {"Fn::GetAtt": [name, "Arn"]}:
            return str(name)
        case {"Fn::Sub": text} if found := re.search(r":function:[\w-]+(:\*)?$", text):
            return "Function" + (found[1] or "")
        case {"Fn::Sub": text} if found := re.search(r"\$\{(\w+)(?:\.Arn)?\}(/[\w*/-]+)$", text):
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
    assert used.needed["function"] >= OF_SES
    for name, made, has_key, is_in_a_vpc in (
        ("the definition", defined(), False, False),
        ("with a key", defined(kms_key_arn=KEY), True, False),
        ("in a VPC", defined(vpc=VPC), False, True),
        ("with the rate of SES", defined(ses_rate=True), False, False),
        ("the example", expanded_template(results=True)["Resources"], False, False),
    ):
        for side, statements in policies(made).items():
            needed, by_aws = used.needed[side] - COURTESIES, {*BY_AWS[side]}
            if name != "with the rate of SES":
                needed -= OF_SES
            if is_in_a_vpc and side == "function":
                by_aws |= IN_A_VPC
            assert not needed & by_aws
            needed |= by_aws
            if has_key:
                needed = with_the_key(needed)
            assert needed - statements == set(), f"{name}: the {side} may not do this."
            assert statements - needed == set(), f"{name}: nothing of the {side} calls for this."


def test_who_reads_and_keeps_results_alone_may_only_decrypt_with_the_key(used):
    kept = of_managed_policy(defined(kms_key_arn=KEY), "ResultsPolicy")
    needed = used.needed["function"] | used.needed["producer"]

    assert kept == with_the_key({each for each in needed if each[1] == "ResultsTable"})


def test_a_function_of_one_queue_may_send_to_the_others(make, make_stack, calls):
    # Given: the function of one queue, whose task calls one of another queue in each way
    other = make_stack()
    calls.know_queue(other, "Report")
    runtime = make(
        lambda_queues={
            "report": {
                "url": other.queue_url,
                "dead_letter_queue_url": other.dead_letter_queue_url,
            }
        },
        task_routes={"proj.report": {"queue": "report"}},
    )

    @runtime.task(name="proj.report")
    def report(*args):
        """Of the other function."""

    @runtime.task(name="proj.publish")
    def publish():
        report.delay()
        with batch():
            for n in range(2):
                report.delay(n)
        report.apply_async((BIG,), countdown=600)
        report.apply_async(eta=datetime.now(UTC) + FAR).revoke()

    # When
    publish.delay()
    messages = runtime.receive()
    context = Context(datetime.now(UTC).timestamp() + 60)
    runtime.handler  # noqa: B018 - made outside, as at import
    with calls.of("function"):
        assert runtime.handler(runtime.event(messages), context) == {"batchItemFailures": []}

    # Then: to send is all that it may do there
    made = defined(queues=["mail", "report"], functions="each")
    statements = policies(made, "Mail")["function"]
    assert of_reports(statements) == of_reports(calls.needed["function"])
    assert of_reports(statements) == {
        ("sqs:SendMessage", "ReportQueue"), ("sqs:GetQueueAttributes", "ReportQueue"),
    }  # fmt: skip
    # And one function for both may do the same with each.
    both = policies(defined(queues=["mail", "report"]))["function"]
    of_mail = {each for each in statements if "Mail" in each[1]} - {
        each for each in statements if "LogGroup" in each[1]
    }
    assert of_mail == {(a, r.replace("Report", "Mail")) for a, r in of_reports(both)}


def of_reports(permissions: Iterable[Permission]) -> set[Permission]:
    return {each for each in permissions if each[1].startswith("Report")}


def documented(heading: str) -> set[Permission]:
    """Return what the policy in the section *heading* of the documentation allows."""
    section = DOCUMENT.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    [document] = re.findall(r"^    \{$.*?^    \}$", section, re.MULTILINE | re.DOTALL)
    names = {
        "*": "*",
        "schedule-group/GROUP": "ScheduleGroup",
        "schedule/GROUP/beat-*": "ScheduleGroup/beat-*",
        "role/SCHEDULER_ROLE": "SchedulerRole",
        "FIFO_QUEUE": "OrdersQueue",
    }
    found = set()
    for statement in json.loads(document)["Statement"]:
        for action in listed(statement["Action"]):
            assert statement.get("Condition") == CONDITIONS.get(action), action
            found.add((action, names[statement["Resource"].rpartition(":")[2]]))
    return found


def test_schedule_sync_has_a_policy_of_its_own(make, make_stack, calls):
    # Given: entries for a queue and for a FIFO queue, and no schedule group
    fifo = make_stack(".fifo")
    fifo.sqs.set_queue_attributes(
        QueueUrl=fifo.queue_url, Attributes={"ContentBasedDeduplication": "true"}
    )
    calls.know_queue(fifo, "Orders")
    group = f"test-{uuid.uuid4().hex[:12]}"
    calls.names[group] = "ScheduleGroup"
    runtime = make(
        lambda_queues={
            "orders": {"url": fifo.queue_url, "dead_letter_queue_url": fifo.dead_letter_queue_url}
        }
    )
    runtime.app.conf.lambda_schedule_group = group

    @runtime.task(name="proj.send")
    def send(*args):
        """Anything."""

    daily = {"task": "proj.send", "schedule": crontab(minute=0, hour=7)}
    runtime.app.conf.beat_schedule = {
        "send": dict(daily), "gone": dict(daily), "order": daily | {"options": {"queue": "orders"}},
    }  # fmt: skip

    def sync() -> None:
        done = CliRunner().invoke(
            lambda_command, ["schedule", "sync", "--yes"], obj=SimpleNamespace(app=runtime.app)
        )
        assert done.exit_code == 0, done.output

    # When: they are made, and one is changed and one goes
    with calls.of("sync"):
        sync()
        runtime.app.conf.beat_schedule["send"]["args"] = (1,)
        del runtime.app.conf.beat_schedule["gone"]
        sync()

    def at(*arguments: str) -> None:
        with calls.of("operator"):
            done = CliRunner().invoke(
                lambda_command, ["schedule", *arguments], obj=SimpleNamespace(app=runtime.app)
            )
        assert done.exit_code == 0, done.output

    at("list")
    at("pause", "send")
    at("continue", "send")

    # Then
    assert calls.operations >= {f"scheduler:{each}" for each in TOOLS_OPERATIONS}
    assert calls.needed["operator"] == documented("Whoever looks at schedules")
    assert calls.needed["sync"] == documented("Whoever runs `schedule sync`")
    # And Scheduler may send to each queue, and park on those that it takes for that.
    made = defined(queues={"celery": {}, "orders": {"fifo": True}})
    statements = policies(made)["scheduler"]
    assert statements == calls.needed["scheduler"]


@pytest.mark.parametrize(
    ("heading", "commands"),
    [
        ("The status", [("status", "--once")]),
        ("Whoever pauses a queue", [("continue", "--all"), ("pause", "--all")]),
    ],
)
def test_who_looks_and_who_pauses_have_policies_of_their_own(deployment, calls, heading, commands):
    with calls.of("operator"):
        for each in commands:
            done = deployment.command(*each)
            assert done.exit_code == 0, done.output

    section = DOCUMENT.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    [document] = re.findall(r"^    \{$.*?^    \}$", section, re.MULTILINE | re.DOTALL)
    statements = json.loads(document)["Statement"]
    allowed = {action for each in statements for action in listed(each["Action"])}
    assert allowed == {action for action, _ in calls.needed["operator"]}
