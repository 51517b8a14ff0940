"""``celery -A proj lambda dashboard`` against an emulator, as its user runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from lambda_celery.conf import Settings
from lambda_celery.local.provision import provision
from tests.emulated_aws import REGION, aws_environment

TIMEOUT_SECONDS = 120


@pytest.fixture
def project(tmp_path: Path, aws_endpoint: str) -> Path:
    """A project of which the queue is there."""
    url = f"{aws_endpoint}/000000000000/dashboard-mail"
    provision(
        Settings(queue_url=url, endpoint_url=aws_endpoint, region=REGION),
        function_timeout_seconds=30,
    )
    (tmp_path / "proj.py").write_text(
        f'from celery import Celery\napp = Celery("proj")\napp.conf.lambda_queue_url = {url!r}\n'
    )
    return tmp_path


def start(project: Path, aws_endpoint: str, *arguments: str) -> subprocess.Popen[str]:
    ours = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    kept = {name: each for name, each in os.environ.items() if not name.startswith("AWS_")}
    return subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "proj", "lambda", "dashboard", *arguments],
        cwd=project,
        env=kept
        | aws_environment(aws_endpoint)
        | {"PYTHONPATH": os.pathsep.join(filter(None, ours)), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_it_serves_the_page_until_ctrl_c_and_no_second_one_at_its_port(project, aws_endpoint):
    with start(project, aws_endpoint, "--port", "0") as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().removeprefix("The page is at ").partition(" ")[0]
            figures = httpx.get(f"{url}api/status", timeout=TIMEOUT_SECONDS).json()
            assert [each["waiting"] for each in figures["queues"]] == [0]
            assert 'data-token=""' in httpx.get(url).text
            port = url.rpartition(":")[2].strip("/")
            with start(project, aws_endpoint, "--port", port) as second:
                _, errors = second.communicate(timeout=TIMEOUT_SECONDS)
            assert second.returncode == 1
            assert "is taken by another program" in errors
            assert "Traceback" not in errors
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
        finally:
            process.kill()
    assert process.returncode == 0
    assert errors == ""
