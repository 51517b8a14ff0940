"""``celery -A proj lambda failed`` against an emulator, as its user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import boto3
import pytest

from lambda_celery.conf import Settings
from lambda_celery.local.provision import provision
from tests.emulated_aws import REGION, aws_environment

TIMEOUT_SECONDS = 120
PROJECT = """
from celery import Celery

app = Celery("proj")
app.conf.update({conf!r}, lambda_tasks=["*"])


@app.task
def send(to):
    pass
"""


class Project:
    """A project whose messages are on the dead-letter queue, where SQS has moved them."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        name = f"mail-{uuid.uuid4().hex[:12]}"
        self.settings = Settings(
            queue_url=f"{endpoint}/000000000000/{name}",
            dead_letter_queue_url=f"{endpoint}/000000000000/{name}-dead-letters",
            idempotency_table=name,
            endpoint_url=endpoint,
            region=REGION,
        )
        provision(self.settings, function_timeout_seconds=30)
        names = ("queue_url", "dead_letter_queue_url", "idempotency_table", "endpoint_url")
        conf = {f"lambda_{each}": getattr(self.settings, each) for each in names}
        (folder / "proj.py").write_text(PROJECT.format(conf=conf))
        self._folder = folder
        ours = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
        self.environ = {
            **{name: each for name, each in os.environ.items() if not name.startswith("AWS_")},
            **aws_environment(endpoint),
            "PYTHONPATH": os.pathsep.join(filter(None, ours)),
        }
        self.sqs = boto3.client("sqs")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "proj", "lambda", "failed", *arguments],
            cwd=self._folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> str:
        process = self.start(*arguments)
        output, errors = process.communicate(timeout=TIMEOUT_SECONDS)
        assert process.returncode == 0, errors
        return output

    def put(self, *names: str) -> None:
        for number, name in enumerate(names):
            body = json.dumps([[name], {}, {}])
            message: dict[str, Any] = {
                "body": body,
                "content-type": "application/json",
                "content-encoding": "utf-8",
                "headers": {"task": "proj.send", "id": f"{name}-{number}", "argsrepr": body},
                "properties": {"body_encoding": "utf-8", "delivery_info": {}},
            }
            self.sqs.send_message(
                QueueUrl=self.settings.dead_letter_queue_url, MessageBody=json.dumps(message)
            )

    def depth(self) -> int:
        answer = self.sqs.get_queue_attributes(
            QueueUrl=self.settings.queue_url, AttributeNames=["ApproximateNumberOfMessages"]
        )
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])


@pytest.fixture
def project(tmp_path: Path, aws_endpoint: str) -> Project:
    return Project(tmp_path, aws_endpoint)


def test_what_sqs_has_moved_is_found_listed_and_sent_back(project):
    project.put("ann", "bob")

    assert "messages looked at: 2, recorded now: 2." in project.run("sync")
    listed = [json.loads(line) for line in project.run("list", "--json").splitlines()]
    assert sorted(each["task_id"] for each in listed) == ["ann-0", "bob-1"]
    assert "proj.send ann-0: sent back to " in project.run("retry", "ann-0")
    assert project.depth() == 1
    assert "ann-0" not in project.run("list")


def test_ctrl_c_ends_it_and_the_same_command_goes_on(project):
    project.put(*(f"n{number}" for number in range(6)))
    project.run("sync")

    process = project.start("retry", "--yes", "--rate", "0.05")
    assert process.stdout is not None
    assert "sent back" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=TIMEOUT_SECONDS)

    assert process.returncode == 130
    assert "of 6. The same command goes on with the others." in errors
    assert 1 <= project.depth() < 6
    project.run("retry", "--yes")
    assert project.depth() == 6


def test_a_question_that_nobody_answers_changes_nothing(project):
    project.put("ann")
    project.run("sync")

    process = project.start("discard")
    output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 1
    assert "1 failed task is to be discarded. Go on?" in output
    assert "ann-0" in project.run("list")
