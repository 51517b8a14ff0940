"""Proves a package: runs one message through it, with nothing else on the path."""

from __future__ import annotations

import base64
import json
import os
import queue
import sys
import tempfile
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, Any

from celery import Celery
from kombu.serialization import dumps as serialise

from lambda_celery.aws import client
from lambda_celery.celery_hooks.apps import import_tasks
from lambda_celery.conf import APP_VARIABLE, ENV_PREFIX, Settings
from lambda_celery.infrastructure.inputs import Deployment
from lambda_celery.local.endpoint import Endpoint, open_emulator
from lambda_celery.local.event_source_mapping import (
    BatchReport,
    EventSourceMapping,
    EventSourceMappingConfig,
)
from lambda_celery.local.function import LocalFunction
from lambda_celery.local.provision import provision_results_table
from lambda_celery.message import is_fifo
from lambda_celery.packaging.errors import PackagingError
from lambda_celery.packaging.unpacked import Initialisation, Unpacked
from lambda_celery.results import DynamoDBBackend

#: A task that every Celery app has: it returns its arguments, and nothing else.
HARMLESS_TASK = "celery.accumulate"

_TIMEOUT_SECONDS = 60
#: What a function is called with that is to be kept warm: no messages.
_WARMING = {"warmup": True}


@dataclass(frozen=True)
class Message:
    """The task of the message, and its positional arguments."""

    task: str = HARMLESS_TASK
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Trial:
    """What the trial has seen.

    Attributes:
        initialisation: of the handler.
        init_seconds: from the start of a process to the answer to an event without messages.
        message_seconds: from then on, how long the message's invocation took.
        message: what was run.
    """

    initialisation: Initialisation
    init_seconds: float
    message_seconds: float
    message: Message

    def as_json(self) -> dict[str, Any]:
        """Return it in JSON's kinds."""
        return {
            "init_seconds": round(self.init_seconds, 3),
            "tasks": list(self.initialisation.tasks),
            "task": self.message.task,
            "message_seconds": round(self.message_seconds, 3),
            "message_deleted": True,
        }


def run(
    package: Unpacked,
    app: Celery,
    inputs: Deployment,
    message: Message,
    echo: Callable[[str], None],
) -> Trial:
    """Run *message* through *package* under awslambdaric, on an emulator, and return what was seen.

    What the function writes is on standard error afterwards.

    Arguments:
        package: where it was unpacked.
        app: the project's app as it is here: its settings name the resources.
        inputs: app and handler.
        message: its task is asked of the package, and not of *app*.
        echo: is told each step when it is done.

    Raises:
        PackagingError: the handler does not start, lacks tasks of *app*, or the task failed.
        ConfigurationError: the emulator or awslambdaric is not installed here.
    """
    import_tasks(app)
    with ExitStack() as stack:
        there = stack.enter_context(
            open_emulator(Settings.from_app(app), function_timeout_seconds=_TIMEOUT_SECONDS)
        )
        if isinstance(app.backend, DynamoDBBackend):
            provision_results_table(there.settings, app.backend.table_name)
        environment = {**_variables(inputs), **there.environment, APP_VARIABLE: inputs.app}
        initialisation = package.initialise(inputs.handler, environment)
        _check_tasks(initialisation, app, message)
        echo(f"Initialised: {len(initialisation.tasks)} tasks are registered.")
        log = stack.enter_context(tempfile.TemporaryFile())
        stack.callback(_show, log)
        function = stack.enter_context(
            LocalFunction(
                inputs.handler,
                timeout_seconds=_TIMEOUT_SECONDS,
                maximum_concurrency=1,
                environment={
                    **environment,
                    f"{ENV_PREFIX}LOG_FORMAT": "text",
                    f"{ENV_PREFIX}METRICS_NAMESPACE": "off",
                },
                working_directory=package.directory,
                runtime_packages=[package.runtime_packages],
                output=log,
            )
        )
        warmed = function.invoke(_WARMING)
        if warmed.error is not None:
            raise PackagingError(f"The function does not start: {warmed.error}.")
        echo(f"Started under awslambdaric: {warmed.duration_seconds:.1f} s on this machine.")
        seconds = _run_message(there, function, app, message, log)
        echo(f"Ran {message.task} in {seconds:.3f} s, and its message was deleted.")
        return Trial(initialisation, warmed.duration_seconds, seconds, message)


def _variables(inputs: Deployment) -> dict[str, str]:
    """Return the variables that the function is given, those that a deployment asks for included.

    Of these the value is this shell's, where it has one.
    """
    asked = {
        each.variable: os.environ.get(each.variable, each.default or "")
        for each in inputs.parameters.values()
    }
    return {**inputs.environment, **asked}


def _show(log: IO[bytes]) -> None:
    log.seek(0)
    sys.stderr.write(log.read().decode(errors="replace"))


def _check_tasks(initialisation: Initialisation, app: Celery, message: Message) -> None:
    missing = sorted(set(app.tasks) - set(initialisation.tasks))
    if missing:
        raise PackagingError(
            f"The package lacks tasks that the app has here: {', '.join(missing)}. Are their "
            "modules left out (tests, what git ignores, --exclude), or installed here alone?"
        )
    if message.task not in initialisation.tasks:
        raise PackagingError(
            f"The package has no task {message.task}: give --try-task the name of one, such as "
            f"{', '.join(initialisation.tasks[-3:])}."
        )


def _run_message(
    there: Endpoint, function: LocalFunction, app: Celery, message: Message, log: IO[bytes]
) -> float:
    """Send *message*, have it polled and run, and return after how many seconds it was done."""
    url = there.settings.queue_urls[0]
    sqs = client("sqs", there.settings)
    task_id = str(uuid.uuid4())
    fifo = {}
    if is_fifo(url):
        fifo = {"MessageGroupId": task_id, "MessageDeduplicationId": task_id}
    sqs.send_message(QueueUrl=url, MessageBody=_body(app, message, task_id), **fifo)
    reports: queue.SimpleQueue[BatchReport] = queue.SimpleQueue()
    config = EventSourceMappingConfig(batch_size=1, maximum_concurrency=1)
    # Its end waits until what was run is deleted.
    with EventSourceMapping(url, function, config, sqs, on_batch=reports.put):
        report = reports.get()
    if report.error is not None:
        raise PackagingError(f"{message.task} was not run: {report.error}.")
    policy = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["RedrivePolicy"])
    dead_letter_arn = json.loads(policy["Attributes"]["RedrivePolicy"])["deadLetterTargetArn"]
    dead_letters = sqs.get_queue_url(QueueName=dead_letter_arn.rpartition(":")[2])["QueueUrl"]
    if report.failed_message_ids or _count(sqs, url) or _count(sqs, dead_letters):
        raise PackagingError(
            f"{message.task} was not done, and its message is not deleted: see the lines above."
        )
    log.seek(0)
    # A task that raises is done as well, and its message is deleted: Celery's line tells it.
    if f"[{task_id}] raised ".encode() in log.read():
        raise PackagingError(f"{message.task} raised an error: see the lines above.")
    return report.result.duration_seconds


def _count(sqs: Any, url: str) -> int:
    names = ["", "NotVisible", "Delayed"]
    answer = sqs.get_queue_attributes(
        QueueUrl=url, AttributeNames=[f"ApproximateNumberOfMessages{each}" for each in names]
    )
    return sum(map(int, answer["Attributes"].values()))


def _body(app: Celery, message: Message, task_id: str) -> str:
    """Return what Celery and kombu put on a queue for a call of the task.

    Not by the app's own way, which may lead the task to another broker: the real one.
    """
    made = app.amqp.as_task_v2(
        task_id, message.task, args=message.arguments, kwargs={}, ignore_result=True
    )
    content_type, encoding, payload = serialise(made.body, serializer=app.conf.task_serializer)
    body = payload if isinstance(payload, bytes) else payload.encode()
    envelope = {
        "body": base64.b64encode(body).decode(),
        "content-type": content_type,
        "content-encoding": encoding,
        "headers": made.headers,
        "properties": {
            **made.properties,
            "body_encoding": "base64",
            "delivery_info": {"exchange": "", "routing_key": "try"},
            "delivery_tag": task_id,
            "delivery_mode": 2,
            "priority": 0,
        },
    }
    return base64.b64encode(json.dumps(envelope).encode()).decode()
