"""``celery -A proj lambda status`` against an emulator, as its user runs it."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from lambda_celery.conf import Settings
from lambda_celery.local.provision import provision
from tests.emulated_aws import REGION, aws_environment

TIMEOUT_SECONDS = 120
PROJECT = """
from celery import Celery

app = Celery("proj")
app.conf.lambda_queues = {{"mail": {queue_url!r}}}
"""


@pytest.fixture
def project(tmp_path: Path, aws_endpoint: str) -> Path:
    """A project of which the queues are there, as those of `lambda local` are."""
    url = f"{aws_endpoint}/000000000000/mail-{uuid.uuid4().hex[:12]}"
    settings = Settings(queue_url=url, endpoint_url=aws_endpoint, region=REGION)
    provision(settings, function_timeout_seconds=30)
    (tmp_path / "proj.py").write_text(PROJECT.format(queue_url=url))
    return tmp_path


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "celery", "-A", "proj", "lambda", "status", *arguments]


def environment(aws_endpoint: str) -> dict[str, str]:
    ours = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    kept = {name: each for name, each in os.environ.items() if not name.startswith("AWS_")}
    return (
        kept
        | aws_environment(aws_endpoint)
        | {"PYTHONPATH": os.pathsep.join(filter(None, ours)), "TERM": "xterm"}
    )


def test_it_says_what_waits_and_what_the_emulator_lacks(project, aws_endpoint):
    done = subprocess.run(
        command("--json"),
        cwd=project,
        env=environment(aws_endpoint),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=True,
    )

    figures = json.loads(done.stdout)
    assert [(each["name"], each["waiting"]) for each in figures["queues"]] == [("mail", 0)]
    assert any("No event source mapping takes" in each for each in figures["left_out"])


def test_on_a_terminal_it_looks_again_until_ctrl_c(project, aws_endpoint):
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command("--interval", "1"),
        cwd=project,
        env=environment(aws_endpoint),
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(theirs)
        try:
            shown = b""
            while shown.count(b"Waiting") < 3:
                shown += os.read(ours, 4096)
            process.send_signal(signal.SIGINT)
            while True:
                try:
                    if not os.read(ours, 4096):
                        break
                except OSError:  # the other side is closed
                    break
            assert process.wait(TIMEOUT_SECONDS) == 0
            assert process.stderr is not None
            assert process.stderr.read() == b""
        finally:
            process.kill()
            os.close(ours)


def test_without_a_queue_it_ends_with_a_sentence(tmp_path, aws_endpoint):
    (tmp_path / "proj.py").write_text("from celery import Celery\n\napp = Celery('proj')\n")

    done = subprocess.run(
        command("--once"),
        cwd=tmp_path,
        env=environment(aws_endpoint),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr.startswith("Error: The settings name no queue: set lambda_queue_url")
    assert len(done.stderr.splitlines()) == 1
