"""The run book: each command of its pages is run with its fault in place, and mends it.

What decides in AWS itself when an alarm goes off is not here: figures of CloudWatch are put there.
"""

from __future__ import annotations

import io
import json
import logging
import re
import shlex
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import click
import pytest
from botocore.config import Config
from click.testing import CliRunner

from lambda_celery.cli import lambda_command
from lambda_celery.infrastructure.alarms import alarms
from lambda_celery.infrastructure.computed import compute
from lambda_celery.infrastructure.inputs import Deployment
from lambda_celery.table.schema import publication_key
from lambda_runtime.table.claims import IdempotencyTable
from tests.emulated_aws import REGION
from tests.functional.runtime.run_book import aws_command
from tests.functional.runtime.run_book.pages import CAUSES, PAGES

REPOSITORY = Path(__file__).parents[4]
INDEX = (REPOSITORY / "docs/operations/index.md").read_text(encoding="utf-8")
#: Without "celery -A proj lambda", where that stands before.
IN_A_SENTENCE = re.compile(
    r"`(?:celery -A proj lambda )?((?:failed|status|pause|continue|check|package)(?: [^`]+))`"
)
SQS, FUNCTION = ("AWS/SQS", "QueueName"), ("AWS/Lambda", "FunctionName")


class Book:
    """A deployment, and whoever reads the run book."""

    def __init__(
        self,
        runtime: Any,
        deployment: Any,
        no_time: Any,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self.runtime = runtime
        self.deployment = deployment
        self.no_time = no_time
        self.caplog = caplog
        self.monkeypatch = monkeypatch
        self.app = runtime.app
        self.is_mended = False
        self.ran: list[Any] = []
        #: What stands for the names in capitals.
        self.names = {
            "NAME": deployment.name,
            "QUEUE": "mail",
            "TABLE": runtime.settings.idempotency_table,
            "QUEUE_URL": runtime.settings.queue_url,
            "UUID": deployment.uuid,
        }
        self.app.conf.lambda_queues = {"mail": runtime.settings.queue_url}

    def task(self, name: str, raises: Exception | None = None, **options: Any) -> Any:
        """Declare a task that fails until it is mended."""

        @self.runtime.task(name=name, **options)
        def body(n: int) -> None:
            self.ran.append(n)
            if raises is not None and not self.is_mended:
                raise raises

        return body

    def run(self, commands: tuple[str, ...]) -> str:
        """Run *commands* as a shell would; return all that they print, without its line breaks."""
        return " ".join(" ".join(self._one(each) for each in commands).split())

    def _one(self, command: str) -> str:
        for name, value in self.names.items():
            command = re.sub(rf"\b{name}\b", value, command)
        split = subprocess.run(
            ["sh", "-c", f"printf '%s\\0' {command}"], capture_output=True, text=True, check=True
        )
        program, *arguments = split.stdout.split("\0")[:-1]
        if program == "aws":
            return aws_command.run(arguments)
        if program == "python":
            *shell, code = arguments
            assert shell == ["manage.py", "shell", "-c"]
            exec(code, {})
            return ""
        assert (program, *arguments[:3]) == ("celery", "-A", "proj", "lambda")
        arguments = arguments[3:]
        done = CliRunner().invoke(
            lambda_command, arguments, input="y\n", obj=SimpleNamespace(app=self.app)
        )
        # A check that finds something ends with 1.
        assert done.exit_code == 0 or arguments[0] == "check", done.output
        return str(done.output)

    @property
    def parked(self) -> int:
        return int(self.runtime.stack.depth(self.runtime.settings.dead_letter_queue_url))

    def function(self) -> dict[str, Any]:
        return dict(
            self.lambda_client.get_function_configuration(FunctionName=self.deployment.name)
        )

    def mapping(self) -> dict[str, Any]:
        return dict(self.lambda_client.get_event_source_mapping(UUID=self.deployment.uuid))

    def table(self) -> dict[str, Any]:
        answer = boto3.client("dynamodb").describe_table(TableName=self.names["TABLE"])
        return dict(answer["Table"])

    @property
    def lambda_client(self) -> Any:
        return boto3.client("lambda", region_name=REGION)

    def deploy(self, code: str, **configuration: Any) -> None:
        """Have the function be *code*."""
        self.lambda_client.update_function_code(
            FunctionName=self.deployment.name, ZipFile=zipped(code)
        )
        self.lambda_client.update_function_configuration(
            FunctionName=self.deployment.name, Handler="shop.handler", **configuration
        )

    def invoke(self) -> dict[str, Any]:
        return dict(
            self.lambda_client.invoke(FunctionName=self.deployment.name, Payload=b'{"Records": []}')
        )

    def switch_on(self) -> None:
        self.lambda_client.update_event_source_mapping(UUID=self.deployment.uuid, Enabled=True)

    def hides_for_long_enough(self) -> None:
        rule = "celery -A proj lambda check --deployed --rule deployed-visibility"
        assert "deployed-visibility" not in self.run((rule,))

    def write_task(self, body: str) -> None:
        """Have the task ``shop.fetch`` be of a module in the working directory."""
        path = Path("shop.py").absolute()
        path.write_text(f"import requests\n\n\ndef fetch():\n    {body}\n")
        module: dict[str, Any] = {"__name__": "shop"}
        exec(compile(path.read_text(), path, "exec"), module)
        self.app.tasks.pop("shop.fetch", None)
        self.runtime.task(name="shop.fetch")(module["fetch"])

    def write_log(self, records: list[logging.LogRecord]) -> None:
        """Give CloudWatch what the handler in this process has logged."""
        logs, group = boto3.client("logs"), f"/aws/lambda/{self.deployment.name}"
        logs.create_log_group(logGroupName=group)
        logs.create_log_stream(logGroupName=group, logStreamName="environment")
        lines = [
            {"message": each.getMessage(), "returned_for": getattr(each, "returned_for", None)}
            for each in records
        ]
        told = [
            json.dumps({name: value for name, value in line.items() if value}) for line in lines
        ]
        logs.put_log_events(
            logGroupName=group,
            logStreamName="environment",
            logEvents=[{"timestamp": int(time.time() * 1000), "message": each} for each in told],
        )

    def lose(self, task: str) -> None:
        """Leave the claim of a run whose process was killed a minute ago."""
        IdempotencyTable(self.runtime.settings).claim(
            publication_key(task, "0123"),
            life_seconds=3600,
            run_ends=time.time() - 60,
            lineage=("a message",),
        )


def zipped(code: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("shop.py", code)
    return buffer.getvalue()


@pytest.fixture
def book(
    runtime: Any,
    deployment: Any,
    no_time: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Book:
    monkeypatch.setattr("celery._state._on_app_finalizers", set())
    monkeypatch.setattr("lambda_celery.pausing._BETWEEN_LOOKS_SECONDS", 0.05)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO)
    return Book(runtime, deployment, no_time, caplog, monkeypatch)


Case = Callable[[Book], Iterator[None]]
CASES: dict[tuple[str, str], Case] = {}


def case(page: str, name: str) -> Callable[[Case], Case]:
    """Enter what makes a fault, yields, has the code mended, yields, and looks at what is mended.

    The page's commands are run in between.
    """

    def enter(function: Case) -> Case:
        CASES[page, name] = function
        return function

    return enter


@pytest.mark.parametrize("cause", CAUSES, ids=lambda each: f"{each.page}: {each.name}")
def test_the_page_shows_the_cause_and_mends_it(cause, book):
    steps = CASES[cause.key](book)
    next(steps)
    told = book.run(cause.shows)
    assert cause.seen
    for each in cause.seen:
        assert each in told
    for other in CAUSES:
        if other != cause and (other.page, other.shows) == (cause.page, cause.shows):
            assert not all(each in told for each in other.seen)
    next(steps)
    book.run(cause.mends)
    assert next(steps, "the end") == "the end"


def test_each_page_has_three_causes_and_each_cause_a_case():
    assert {each.key for each in CAUSES} == set(CASES)
    assert {page: sum(each.page == page for each in CAUSES) for page in PAGES} == dict.fromkeys(
        PAGES, 3
    )


def test_commands_in_a_sentence_are_those_of_the_command_line():
    found = IN_A_SENTENCE.findall("".join([INDEX, *PAGES.values()]))
    assert len(found) > 20
    for command in found:
        name, *arguments = shlex.split(command)
        parent = click.Context(lambda_command)
        group = lambda_command.get_command(parent, name)
        if isinstance(group, click.Group):
            group = group.get_command(parent, arguments.pop(0))
        assert group is not None, command
        group.make_context(name, arguments, parent=parent)  # refuses what it does not know


def test_each_alarm_has_a_page_and_each_page_an_alarm():
    deployment = Deployment(app="app", name="shop", results=True)
    made = list(alarms(deployment, compute(deployment)))

    assert {each.page or each.slug for each in made} == set(PAGES)
    for each in made:
        path = each.told.rpartition(" ")[2]
        assert (REPOSITORY / path).is_file()
        assert each.slug in PAGES[Path(path).stem]
    for page in PAGES:
        assert f"(alarms/{page}.md)" in INDEX


# ---------------------------------------------------------------- dead-letters


@case("dead-letters", "A task fails")
def _(book: Book) -> Iterator[None]:
    book.app.conf.lambda_max_receive_count = 1
    book.task("shop.send", ValueError("451")).delay(1)
    book.runtime.deliver()
    assert book.parked == 1
    yield
    book.is_mended = True
    yield
    book.runtime.deliver()
    assert (book.ran, book.parked) == ([1, 1], 0)


@case("dead-letters", "The deployment cannot run it")
def _(book: Book) -> Iterator[None]:
    book.app.conf.lambda_max_receive_count = 1
    book.app.send_task("shop.new", (1,))
    book.runtime.deliver()
    assert book.parked == 1
    yield
    book.task("shop.new")
    book.runtime.restart()
    yield
    book.runtime.deliver()
    assert (book.ran, book.parked) == ([1], 0)


@case("dead-letters", "SQS has moved it")
def _(book: Book) -> Iterator[None]:
    book.task("shop.send").delay(1)
    receives = book.runtime.settings.queue_url
    policy = book.runtime.sqs.get_queue_attributes(
        QueueUrl=receives, AttributeNames=["RedrivePolicy"]
    )["Attributes"]["RedrivePolicy"]
    for _ in range(int(json.loads(policy)["maxReceiveCount"])):  # and no function answers
        [message] = book.runtime.receive()
        book.runtime.sqs.change_message_visibility(
            QueueUrl=receives, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
        )
    book.runtime.sqs.receive_message(QueueUrl=receives)
    assert book.parked == 1
    yield
    yield
    assert book.function()["MemorySize"] == 2048
    book.runtime.deliver()
    assert (book.ran, book.parked) == ([1], 0)


# ---------------------------------------------------------------- failed-tasks


@case("failed-tasks", "A task raises")
def _(book: Book) -> Iterator[None]:
    book.app.conf.lambda_max_receive_count = 1
    book.names["ID"] = book.task("shop.send", ConnectionError("refused")).delay(1).id
    book.runtime.deliver()
    yield
    book.is_mended = True
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: book.runtime.deliver())
    book.monkeypatch.setattr("lambda_celery.cli.failed_wait.time", clock)
    yield
    assert (book.ran, book.parked) == ([1, 1], 0)


@case("failed-tasks", "It ran into its time limit")
def _(book: Book) -> Iterator[None]:
    book.app.conf.lambda_max_receive_count = 1

    @book.runtime.task(name="shop.slow", soft_time_limit=0.1)
    def slow() -> None:
        if not book.is_mended:
            time.sleep(60)
        book.ran.append("slow")

    slow.delay()
    book.runtime.deliver()
    assert book.parked == 1
    yield
    book.is_mended = True
    yield
    book.runtime.deliver()
    assert (book.ran, book.parked) == (["slow"], 0)


@case("failed-tasks", "It leaves no dead letter")
def _(book: Book) -> Iterator[None]:
    refused = ConnectionError("refused")
    task = book.task("shop.charge", refused, acks_on_failure_or_timeout=True)
    task.delay(1)
    assert book.runtime.deliver().all_deleted
    assert book.parked == 0
    book.write_log(book.caplog.records)
    book.monkeypatch.setitem(sys.modules, "shop.tasks", SimpleNamespace(charge=task))
    yield
    book.is_mended = True
    yield
    book.runtime.deliver()
    assert book.ran == [1, 1]


# ---------------------------------------------------------------- oldest-message


@case("oldest-message", "Nothing takes from the queue")
def _(book: Book) -> Iterator[None]:
    assert book.deployment.states() == {"Disabled"}
    yield
    told = book.run(("celery -A proj lambda check --deployed --rule deployed-mapping",))
    queue = book.deployment.queue_name
    assert f"switch it on by celery -A proj lambda continue {queue} and wait for it." in told
    yield
    assert book.deployment.states() == {"Enabled"}


def _busy(book: Book, *waiting: int) -> None:
    book.switch_on()  # The emulator takes what is on the queue: nothing is.
    book.deployment.measure(*SQS, "ApproximateNumberOfMessagesVisible", *waiting)
    book.deployment.measure(*FUNCTION, "ConcurrentExecutions", 10)


def _has_more_at_once(book: Book) -> None:
    assert book.mapping()["ScalingConfig"] == {"MaximumConcurrency": 50}


@case("oldest-message", "More comes than it may take")
def _(book: Book) -> Iterator[None]:
    _busy(book, 100, 200, 300)
    yield
    [function] = book.deployment.figures()["functions"]
    assert function["concurrent"] == 10
    yield
    _has_more_at_once(book)


@case("oldest-message", "The function may not run")
def _(book: Book) -> Iterator[None]:
    steps = _reserved(book, 0)
    next(steps)
    client = boto3.client("lambda", region_name=REGION, config=Config(retries={"max_attempts": 0}))
    with pytest.raises(client.exceptions.TooManyRequestsException):
        client.invoke(FunctionName=book.deployment.name)
    yield
    yield from steps


def _reserved(book: Book, number: int) -> Iterator[None]:
    book.lambda_client.put_function_concurrency(
        FunctionName=book.deployment.name, ReservedConcurrentExecutions=number
    )
    yield
    yield
    answer = book.lambda_client.get_function_concurrency(FunctionName=book.deployment.name)
    assert "ReservedConcurrentExecutions" not in answer


# ---------------------------------------------------------------- oldest-received


@case("oldest-received", "A task keeps failing")
def _(book: Book) -> Iterator[None]:
    book.task("shop.send", ConnectionError("refused")).delay(1)
    assert book.runtime.deliver().all_returned
    book.write_log(book.caplog.records)
    yield
    messages = book.runtime.receive()  # before the emulator's mapping does
    book.switch_on()
    book.is_mended = True
    yield
    assert book.deployment.states() == {"Enabled"}
    assert book.runtime.hand_over(messages).all_deleted


@case("oldest-received", "It kills its process")
def _(book: Book) -> Iterator[None]:
    book.lose("shop.send")
    yield
    yield
    assert book.function()["MemorySize"] == 2048


@case("oldest-received", "The queue is being caught up with")
def _(book: Book) -> Iterator[None]:
    _busy(book, 300, 200, 100)
    yield
    [queue] = book.deployment.figures()["queues"]
    assert queue["trend_per_minute"] < 0
    yield
    _has_more_at_once(book)


# ---------------------------------------------------------------- errors


@case("errors", "The handler cannot be imported")
def _(book: Book) -> Iterator[None]:
    book.deploy("import no_such_module")
    book.names |= {"BUCKET": book.runtime.settings.payload_bucket, "LAST_PACKAGE": "last"}
    book.runtime.stack.s3.put_object(
        Bucket=book.names["BUCKET"],
        Key="last.zip",
        Body=zipped("def handler(event, context): return {'batchItemFailures': []}"),
    )
    yield
    yield
    assert "FunctionError" not in book.invoke()


@case("errors", "The process is ended")
def _(book: Book) -> Iterator[None]:
    book.deploy("import time\ndef handler(event, context): time.sleep(60)", Timeout=1)
    book.invoke()
    yield
    yield
    assert (book.function()["Timeout"], book.function()["MemorySize"]) == (120, 2048)
    book.hides_for_long_enough()


@case("errors", "AWS refuses what it needs")
def _(book: Book) -> Iterator[None]:
    iam, name = boto3.client("iam"), book.deployment.name
    allowed = {"Effect": "Allow", "Action": ["*"], "Resource": "*"}
    trusted = {"Service": "lambda.amazonaws.com"}
    trust = {"Effect": "Allow", "Principal": trusted, "Action": "sts:AssumeRole"}
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps({"Statement": [trust]}))
    iam.put_role_policy(
        RoleName=name,
        PolicyName="own",
        PolicyDocument=json.dumps({"Statement": [allowed | {"Action": ["sqs:*", "s3:*"]}]}),
    )
    book.lambda_client.update_function_configuration(
        FunctionName=name,
        Role=f"arn:aws:iam::000000000000:role/{name}",
        Environment={"Variables": {"LAMBDA_CELERY_APP": "proj"}},
    )
    Path("policy.json").write_text(json.dumps({"Statement": [allowed]}))
    yield
    yield
    rule = "celery -A proj lambda check --deployed --rule deployed-role"
    assert "dynamodb:PutItem" not in book.run((rule,))


# ---------------------------------------------------------------- throttles


@case("throttles", "The function's reserve is too small")
def _(book: Book) -> Iterator[None]:
    yield from _reserved(book, 5)


@case("throttles", "The mapping has no limit")
def _(book: Book) -> Iterator[None]:
    book.lambda_client.update_event_source_mapping(UUID=book.deployment.uuid, ScalingConfig={})
    yield
    yield
    assert book.mapping()["ScalingConfig"] == {"MaximumConcurrency": 10}


@case("throttles", "Others use up the account's concurrency")
def _(book: Book) -> Iterator[None]:
    boto3.client("cloudwatch", region_name=REGION).put_metric_data(
        Namespace="AWS/Lambda", MetricData=[{"MetricName": "ConcurrentExecutions", "Value": 573}]
    )
    yield
    yield
    answer = book.lambda_client.get_function_concurrency(FunctionName=book.deployment.name)
    assert answer["ReservedConcurrentExecutions"] == 10


# ---------------------------------------------------------------- duration


@case("duration", "The batch is too large")
def _(book: Book) -> Iterator[None]:
    book.task("shop.send").delay(1)
    with book.no_time():
        assert book.runtime.deliver().all_returned
    book.write_log(book.caplog.records)
    yield
    yield
    assert book.mapping()["BatchSize"] == 5


@case("duration", "The function's time-out is shorter than a task")
def _(book: Book) -> Iterator[None]:
    book.task("shop.slow", time_limit=250)
    yield
    yield
    assert book.function()["Timeout"] == 300
    book.hides_for_long_enough()


@case("duration", "A call hangs")
def _(book: Book) -> Iterator[None]:
    book.switch_on()
    book.write_task("requests.get('https://example.org')")
    yield
    book.write_task("requests.get('https://example.org', timeout=5)")
    yield
    assert book.deployment.states() == {"Enabled"}
    assert "no-timeout" not in book.run(("celery -A proj lambda check --rule no-timeout",))


# ---------------------------------------------------------------- throttled-table


@case("throttled-table", "It has provisioned units")
def _(book: Book) -> Iterator[None]:
    boto3.client("dynamodb").update_table(
        TableName=book.names["TABLE"],
        BillingMode="PROVISIONED",
        ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 5},
    )
    yield
    yield
    assert book.table()["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"


@case("throttled-table", "It has a maximum")
def _(book: Book) -> Iterator[None]:
    boto3.client("dynamodb").update_table(
        TableName=book.names["TABLE"],
        OnDemandThroughput={"MaxReadRequestUnits": 5, "MaxWriteRequestUnits": 5},
    )
    yield
    yield
    assert set(book.table()["OnDemandThroughput"].values()) == {-1}


@case("throttled-table", "The burst was faster than it grows")
def _(book: Book) -> Iterator[None]:
    assert book.table()["WarmThroughput"]["WriteUnitsPerSecond"] < 20_000
    yield
    yield
    # The emulator takes the command, and keeps no warm throughput.
