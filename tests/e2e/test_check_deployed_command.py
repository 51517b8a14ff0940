"""``celery -A proj lambda check --deployed`` against an emulator, as its user runs it."""

from __future__ import annotations

import json
import os
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
app.conf.lambda_queue_url = {queue_url!r}


@app.task
def add(x, y):
    return x + y
"""


@pytest.fixture
def project(tmp_path: Path, aws_endpoint: str) -> Path:
    """A project of which the queues are there, and no function."""
    url = f"{aws_endpoint}/000000000000/mail-{uuid.uuid4().hex[:12]}"
    settings = Settings(queue_url=url, endpoint_url=aws_endpoint, region=REGION)
    provision(settings, function_timeout_seconds=30)
    (tmp_path / "proj.py").write_text(PROJECT.format(queue_url=url))
    return tmp_path


def run(
    project: Path, *arguments: str, environ: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    ours = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    kept = {name: each for name, each in os.environ.items() if not name.startswith("AWS_")}
    return subprocess.run(
        [sys.executable, "-m", "celery", "-A", "proj", "lambda", "check", *arguments],
        cwd=project,
        env=kept | environ | {"PYTHONPATH": os.pathsep.join(filter(None, ours))},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def test_it_names_what_is_missing_by_its_arn(project, aws_endpoint):
    environ = aws_environment(aws_endpoint)
    done = run(project, "--deployed", environ=environ)

    assert done.returncode == 1
    assert "[deployed-mapping] arn:aws:sqs:" in done.stdout
    assert "no task runs. AWS is wrong: create" in " ".join(done.stdout.split())

    without = run(project, environ=environ)

    assert without.returncode == 0
    assert "deployed-" not in without.stdout


def test_without_credentials_it_is_red(project, aws_endpoint, tmp_path):
    environ = {
        "AWS_ENDPOINT_URL": aws_endpoint,
        "AWS_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
    }
    done = run(project, "--deployed", "--json", environ=environ)

    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["worst"] == "red"
    assert {each["rule"] for each in report["findings"]} == {"deployed-access"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--deployed", "--producer-role", "web"], "must be the ARN of a role"),
        (["--producer-role", "web"], "--producer-role goes with --deployed"),
    ],
)
def test_bad_input_ends_in_a_sentence(project, aws_endpoint, arguments, sentence):
    done = run(project, *arguments, environ=aws_environment(aws_endpoint))

    assert done.returncode != 0
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
