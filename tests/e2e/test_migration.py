"""The steps of docs/migration.md, in their order, with processes as a user starts them."""

from __future__ import annotations

import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest

from lambda_celery.conf import Settings
from lambda_celery.local.emulator import ministack
from lambda_celery.local.provision import provision

FILES = {
    "manage.py": "",
    "proj/__init__.py": "from .celery import app as celery_app\n",
    "proj/celery.py": """
import os
from celery import Celery
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "proj.settings")
app = Celery("proj")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
""",
    "proj/settings.py": """
import os
SECRET_KEY = "x"
USE_TZ = True
INSTALLED_APPS = ["mail"]
CELERY_BROKER_URL = "filesystem://"
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "data_folder_in": "broker", "data_folder_out": "broker", "control_folder": "broker-control",
}
""",
    "mail/__init__.py": "",
    "mail/tasks.py": """
from celery import shared_task


@shared_task(bind=True)
def send_mail_task(self, address):
    note(self, address)


@shared_task(bind=True)
def report(self, name):
    note(self, name)


def note(task, what):
    where = "lambda" if task.request.hostname.startswith("lambda@") else "worker"
    with open("ran.log", "a") as file:
        file.write(f"{what} on {where}\\n")
""",
}

RESOURCES = """
CELERY_LAMBDA_QUEUE_URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/mail"
CELERY_LAMBDA_DEAD_LETTER_QUEUE_URL = CELERY_LAMBDA_QUEUE_URL + "-dead-letters"
CELERY_LAMBDA_IDEMPOTENCY_TABLE = "mail-idempotency"
CELERY_LAMBDA_PAYLOAD_BUCKET = "mail-payloads"
"""

WORKER_ON_SQS = """
if os.environ.get("MAIL_WORKER_ON_SQS"):
    CELERY_BROKER_TRANSPORT = "lambda_celery.transport:Transport"
    CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
"""

BY_NAME = """
INSTALLED_APPS = ["mail", "lambda_celery.django"]
CELERY_LAMBDA_TASKS = ["mail.tasks.*"]
"""


class Project:
    """A user's checkout and the processes that are started in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._outputs = itertools.count()
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AWS_", "LAMBDA_CELERY_", "CELERY_", "DJANGO_"))
        }
        for name, text in FILES.items():
            path = root / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        (root / "broker").mkdir()
        (root / "broker-control").mkdir()

    def append_to_settings(self, text: str) -> None:
        path = self.root / "proj/settings.py"
        path.write_text(path.read_text() + text)

    def edit_tasks(self, old: str, new: str) -> None:
        path = self.root / "mail/tasks.py"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    def publish(self, call: str) -> None:
        """Call a task in a web process of its own."""
        code = f"import django; django.setup(); from mail.tasks import *; {call}"
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=self.root,
            env={**self.environment, "DJANGO_SETTINGS_MODULE": "proj.settings"},
            check=True,
            timeout=120,
        )

    @contextmanager
    def celery(self, *arguments: str, **environment: str) -> Iterator[Path]:
        """Run the command and yield the file with its output."""
        output = self.root / f"output-{next(self._outputs)}.log"
        with output.open("wb") as file, subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "proj", *arguments],
            cwd=self.root,
            env={**self.environment, **environment, "PYTHONUNBUFFERED": "1"},
            stdout=file,
            stderr=file,
        ) as process:  # fmt: skip
            try:
                yield output
            finally:
                process.send_signal(signal.SIGINT if "lambda" in arguments else signal.SIGTERM)
                process.wait(timeout=60)

    @contextmanager
    def local(self, *arguments: str) -> Iterator[dict[str, str]]:
        """Run the function here; yield the variables that it prints for publishers.

        The project's directory is writable: it has the broker, and the log of what ran.
        """
        with self.celery("lambda", "local", "--writable", ".", *arguments) as output:
            wait_until(lambda: "Press Ctrl-C" in output.read_text(), output)
            exported = re.search(r"^ *export (.+)$", output.read_text(), re.MULTILINE)
            pairs = exported[1].split() if exported else []
            yield dict(pair.split("=", 1) for pair in pairs)

    def worker(self, **environment: str):
        return self.celery(
            "worker", "--pool=solo", "--without-gossip", "--without-mingle", **environment
        )

    def wait_for(self, line: str) -> None:
        log = self.root / "ran.log"
        wait_until(lambda: log.exists() and line in log.read_text().splitlines(), log)


def wait_until(condition: Callable[[], bool], seen_in: Path, seconds: float = 90) -> None:
    """Wait for what another process writes to a file."""
    end = time.monotonic() + seconds
    while not condition():
        text = seen_in.read_text() if seen_in.exists() else "nothing"
        assert time.monotonic() < end, f"{seen_in.name} has: {text}"
        time.sleep(0.05)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_each_step_and_its_way_back(project):
    # 1. What there was.
    with project.worker():
        project.publish("send_mail_task.delay('before')")
        project.wait_for("before on worker")

        # 2. The settings alone change nothing.
        project.append_to_settings(RESOURCES)
        project.publish("send_mail_task.delay('settings')")
        project.wait_for("settings on worker")

        with project.local("--port", str(free_port())) as exports:
            project.environment |= exports
            project.publish("send_mail_task.delay('not moved')")
            project.wait_for("not moved on worker")

        # 4. One task moves; the function is started anew with its code.
        project.edit_tasks("from celery import shared_task", (
            "from celery import shared_task\nfrom lambda_celery import task"
        ))  # fmt: skip
        project.edit_tasks("@shared_task(bind=True)", "@task(bind=True)")
        port = project.environment["AWS_ENDPOINT_URL"].rpartition(":")[2]
        with project.local("--port", port):
            project.publish("send_mail_task.delay('moved'); report.delay('stayed')")
            project.wait_for("moved on lambda")
            project.wait_for("stayed on worker")
            project.publish("(send_mail_task.si('step 1') | report.si('step 2')).delay()")
            project.wait_for("step 1 on lambda")
            project.wait_for("step 2 on worker")

            # The way back: the change is taken back, the function stays until it is idle.
            project.edit_tasks("@task(bind=True)", "@shared_task(bind=True)")
            project.publish("send_mail_task.delay('back')")
            project.wait_for("back on worker")

            # 6. All tasks of a module, by name.
            project.append_to_settings(BY_NAME)
            project.publish("send_mail_task.delay('by name'); report.delay('too')")
            project.wait_for("by name on lambda")
            project.wait_for("too on lambda")

    # 7. The workers are gone.
    with project.local("--port", port):
        project.publish("send_mail_task.delay('alone')")
        project.wait_for("alone on lambda")


def test_a_worker_empties_the_queue_where_the_function_is_broken(project, monkeypatch):
    project.append_to_settings(RESOURCES + BY_NAME + WORKER_ON_SQS)
    with ministack() as url:  # and no event source mapping: it is disabled
        environment = {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "LAMBDA_CELERY_QUEUE_URL": f"{url}/000000000000/mail",
        }
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, environment[name])
        provision(
            Settings(
                queue_url=environment["LAMBDA_CELERY_QUEUE_URL"],
                endpoint_url=url,
                region="eu-west-1",
                payload_bucket="mail-payloads",
            ),
            function_timeout_seconds=5,
        )
        project.environment |= environment | {"AWS_DEFAULT_REGION": "eu-west-1"}
        project.publish("send_mail_task.delay('rescued')")
        project.publish("send_mail_task.delay('x' * 2_000_000)")
        with project.worker(MAIL_WORKER_ON_SQS="1"):
            project.wait_for("rescued on worker")
            project.wait_for("x" * 2_000_000 + " on worker")
        s3 = boto3.client("s3", endpoint_url=url, region_name="eu-west-1")
        assert s3.list_objects_v2(Bucket="mail-payloads")["KeyCount"] == 0
