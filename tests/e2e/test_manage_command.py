"""``manage.py lambda``: the commands of ``celery -A proj lambda``, as users of Django run them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import boto3
import pytest

from lambda_celery.conf import Settings
from lambda_celery.local.provision import provision
from tests.emulated_aws import REGION

PROJECT = Path(__file__).parents[2] / "examples" / "django_mail"
TASK = "announcements.tasks.report_task"
TIMEOUT_SECONDS = 120

CALL = """
from io import StringIO
import django
from django.core.management import CommandError, call_command
django.setup()
output = StringIO()
call_command("lambda", "failed", "count", "--json", stdout=output)
print("captured:", output.getvalue().strip())
try:
    call_command("lambda", "failed", "show", "unknown")
except CommandError as exc:
    print("error:", exc.returncode, exc)
try:
    call_command("lambda", "check", "--json", "--fail-on", "amber", stdout=output)
except CommandError as exc:
    print("error:", exc.returncode, exc)
"""


@pytest.fixture
def settings(aws_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The queue, the dead-letter queue and the table to which the environment points."""
    name = f"announcements-{uuid.uuid4().hex[:12]}"
    made = Settings(
        queue_url=f"{aws_endpoint}/000000000000/{name}",
        dead_letter_queue_url=f"{aws_endpoint}/000000000000/{name}-dead-letters",
        idempotency_table=name,
        endpoint_url=aws_endpoint,
        region=REGION,
    )
    provision(made, function_timeout_seconds=30)
    for each in ("queue_url", "dead_letter_queue_url", "idempotency_table"):
        monkeypatch.setenv(f"LAMBDA_CELERY_{each.upper()}", str(getattr(made, each)))
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "proj.settings")
    return made


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def manage(*arguments: str) -> subprocess.CompletedProcess[str]:
    return python("manage.py", *arguments)


def send(queue_url: str | None) -> None:
    body = json.dumps([["Hello", ["ann@example.org"]], {}, {}])
    message = {
        "body": body,
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": TASK, "id": "ann", "argsrepr": body},
        "properties": {"body_encoding": "utf-8", "delivery_info": {}},
    }
    boto3.client("sqs").send_message(QueueUrl=str(queue_url), MessageBody=json.dumps(message))


def test_failed_tasks_are_found_and_listed(settings):
    send(settings.dead_letter_queue_url)

    # Django takes its own options wherever they stand.
    synced = manage("lambda", "failed", "sync", "--settings", "proj.settings", "--no-color")
    assert "recorded now: 1." in synced.stdout, synced.stderr
    listed = manage("lambda", "failed", "list", "--json")
    assert json.loads(listed.stdout)["task_id"] == "ann"

    called = python("-c", CALL)
    assert called.returncode == 0, called.stderr
    assert f'captured: {{"task": "{TASK}"' in called.stdout
    assert "error: 1 No failed task has the id unknown" in called.stdout
    assert "error: 1 lambda check has ended with the code 1." in called.stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "Name a subcommand: manage.py lambda --help lists them."),
        (("failed", "lst"), "CommandError: No such command 'lst'."),
        (("-A", "nowhere", "check"), "The module nowhere was not found."),
    ],
)
def test_what_it_cannot_do_is_told_with_the_exit_code_of_celery(words, sentence):
    ended = manage("lambda", *words)
    assert ended.returncode == 2
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "\x1b" not in ended.stderr


def test_its_help_lists_what_celery_has():
    shown = manage("help", "lambda")
    listed = python("-m", "celery", "-A", "proj", "lambda", "--help")
    commands = listed.stdout.partition("Commands:")[2]
    assert {line.split()[0] for line in commands.splitlines() if line} <= set(shown.stdout.split())


def test_a_project_that_loads_no_app_is_told_what_to_do(tmp_path):
    (tmp_path / "bare.py").write_text('INSTALLED_APPS = ["lambda_celery.django"]')
    of_django = ("--settings", "bare", "--pythonpath", str(tmp_path))
    ended = python("-m", "django", "lambda", "failed", "count", *of_django)
    assert ended.returncode == 1
    assert ended.stderr.startswith("CommandError: Django has loaded no Celery app. Import it in ")


def test_the_local_runner_runs_the_app_that_django_has_loaded(settings):
    process = subprocess.Popen(
        [sys.executable, "manage.py", "lambda", "local"],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    deadline = threading.Timer(TIMEOUT_SECONDS, process.kill)
    deadline.start()
    try:
        app = next(line for line in process.stdout if ".> app:" in line)
        assert app.split() == [".>", "app:", "proj"]
        send(settings.queue_url)
        assert any(f"{TASK}[ann]" in line for line in process.stdout)
        process.send_signal(signal.SIGTERM)
        process.communicate()
    finally:
        deadline.cancel()
        process.kill()
    assert process.returncode == 0
