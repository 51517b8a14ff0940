"""A Django project: what its processes publish, and how its tasks run when deployed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lambda_celery.local.records import record

FILES = {
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
SECRET_KEY = "x"
USE_TZ = True
DATABASES = {"default": {
    "ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3", "CONN_MAX_AGE": 600,
}}
INSTALLED_APPS = ["lambda_celery.django", "members"]
CELERY_BROKER_URL = "amqp://guest@127.0.0.1:1//"
CELERY_LAMBDA_TASKS = ["members.tasks.*"]
CELERY_TASK_PUBLISH_RETRY = False
""",
    "members/__init__.py": "",
    "members/tasks.py": """
import lambda_celery
from celery import shared_task
from django.db import connection


@shared_task
def count():
    before = connection.connection
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    with open("ran.log", "a") as file:
        file.write(f"connected before: {before is not None}\\n")


@lambda_celery.task
def decorated():
    pass
""",
}


@pytest.fixture
def project(stack, tmp_path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


#: Says "closed database" for each connection in *opened*, which are of two threads.
TELL_WHICH_ARE_CLOSED = """
assert len({thread for thread, _ in opened}) == 2
for _, made in opened:
    try:
        made.execute("SELECT 1")
    except Exception as exc:
        print(exc)
"""


def in_a_web_process(project: Path, stack, code: str) -> str:
    """Run *code* in a process in which Django is set up."""
    result = subprocess.run(
        [sys.executable, "-c", f"import django; django.setup()\n{code}"],
        cwd=project,
        env={
            **stack.environment,
            "DJANGO_SETTINGS_MODULE": "proj.settings",
            "PATH": "",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_delay_on_commit_sends_after_the_commit_and_not_after_a_rollback(project, stack):
    output = in_a_web_process(
        project,
        stack,
        """
from django.db import transaction
from members.tasks import count, decorated
import lambda_celery.publishing.publisher as publisher
send = publisher.Publisher.send
def announce(*args, **kwargs):
    print("sent")
    return send(*args, **kwargs)
publisher.Publisher.send = announce
with transaction.atomic():
    count.delay_on_commit()
    decorated.delay_on_commit()
    print("in the transaction")
try:
    with transaction.atomic():
        count.delay_on_commit()
        raise RuntimeError
except RuntimeError:
    print("rolled back")
""",
    )
    assert output.split("\n")[:4] == ["in the transaction", "sent", "sent", "rolled back"]
    assert stack.depth() == 2


def test_database_connections_are_closed_around_each_task(project, stack, local_function):
    in_a_web_process(
        project, stack, "from members.tasks import count\ncount.delay()\ncount.delay()"
    )
    function = local_function(
        "lambda_runtime.handler",
        working_directory=project,
        environment={**stack.environment, "LAMBDA_CELERY_APP": "proj"},
    )
    messages = stack.messages()
    arn = "arn:aws:sqs:eu-west-1:000000000000:" + stack.queue_url.rpartition("/")[2]
    result = function.invoke({"Records": [record(message, arn) for message in messages]})
    assert result.error is None
    assert result.payload == {"batchItemFailures": []}
    assert (project / "ran.log").read_text() == "connected before: False\n" * 2


def test_each_threads_database_connections_are_closed_at_the_end_of_a_batch(project, stack):
    output = in_a_web_process(
        project,
        stack,
        """
import threading
from django.db import connection
from lambda_runtime.running.threads import Pool
from proj import celery_app

opened, together = [], threading.Barrier(2)

def take_up(lane, way):
    connection.ensure_connection()
    opened.append((threading.get_ident(), connection.connection))
    together.wait(30)
    way.end()

Pool(celery_app, 2, 1).run([[], []], None, take_up)
"""
        + TELL_WHICH_ARE_CLOSED,
    )
    assert output.count("closed database") == 2


def test_what_asynchronous_tasks_have_connected_is_closed_at_the_end_of_a_batch(project, stack):
    """On the thread of Django's asynchronous methods, and on the event loop's own."""
    output = in_a_web_process(
        project,
        stack,
        """
import os, threading
from asgiref.sync import sync_to_async
from django.db import connection
from lambda_runtime.running import event_loop
from lambda_runtime.running.connections import Connections
from proj import celery_app

os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
opened = []

def connect():
    connection.ensure_connection()
    opened.append((threading.get_ident(), connection.connection))

async def body():
    connect()
    await sync_to_async(connect)()

connections = Connections(celery_app)
event_loop.run(body(), name="proj.send", task_id="1", soft_seconds=None, hard_seconds=None)
connections.after_batch()
"""
        + TELL_WHICH_ARE_CLOSED,
    )
    assert output.count("closed database") == 2


def test_what_blocks_the_thread_of_asynchronous_methods_blocks_no_later_task(project, stack):
    """Nor the end of the process."""
    output = in_a_web_process(
        project,
        stack,
        """
import logging, sys, threading
from asgiref.sync import sync_to_async
from celery.exceptions import SoftTimeLimitExceeded
from lambda_runtime.running import event_loop, loop_threads
from lambda_runtime.running.connections import Connections
from proj import celery_app

logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stdout)
loop_threads.CLEAN_UP_SECONDS = 0.01
never = threading.Event()

async def blocks():
    await sync_to_async(never.wait)()

async def works():
    return await sync_to_async(threading.get_ident)()

def run(body, seconds):
    return event_loop.run(
        body, name="proj.send", task_id="1", soft_seconds=seconds, hard_seconds=None
    )

connections = Connections(celery_app)
for _ in range(2):
    try:
        run(blocks(), 0.1)
    except SoftTimeLimitExceeded:
        print("limit")
    connections.after_batch()
    first = run(works(), 30)
    connections.after_batch()
    assert run(works(), 30) == first
print("done")
""",
    )
    lines = output.splitlines()
    assert lines[::2] == ["limit", "limit", "done"]
    assert all("thread of Django's asynchronous methods" in each for each in lines[1::2])
