"""Dashboards made for Django's tasks see ours: by the signals, in the process of each side."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("overseer", reason="It needs Django 6.")
pytest.importorskip("tasks_monitor")

SCRIPT = """
import sys

import django
from celery import Celery
from django.conf import settings
from django.urls import include, path

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    SECRET_KEY="secret",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=[
        "django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes",
        "django.contrib.sessions", "django.contrib.messages", "lambda_celery.django",
        "overseer", "tasks_monitor",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    TEMPLATES=[{
        "BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True,
        "OPTIONS": {"context_processors": [
            "django.template.context_processors.request",
            "django.contrib.auth.context_processors.auth",
            "django.contrib.messages.context_processors.messages",
        ]},
    }],
    TASKS={"default": {"BACKEND": "lambda_celery.django.tasks.LambdaBackend"}},
)
django.setup()
app = Celery("proj", broker="memory://", backend="cache+memory://")
app.set_default()
app.conf.lambda_enabled = False  # what is enqueued stays in Celery's memory

import overseer
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.management import call_command
from django.tasks import task
from django.test import Client

urlpatterns = [path("admin/", admin.site.urls), path("overseer/", include("overseer.urls"))]


@task
def add(a, b):
    return a + b


@overseer.task(retries=1, backoff_base=60)
def fails():
    raise LookupError("the reason")


def work():
    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue("celery")
        while queue.qsize():
            message = queue.get()
            message.ack()
            _, kwargs, _ = message.payload
            app.tasks[message.headers["task"]].apply(kwargs=kwargs, task_id=message.headers["id"])


call_command("migrate", verbosity=0)
call_command("check")
client = Client()
client.force_login(User.objects.create_superuser("root"))

from overseer.models import Job, Run
from tasks_monitor.models import TaskRecord

done, failed = add.enqueue(1, 2), fails.enqueue()
assert {each.status for each in TaskRecord.objects.all()} == {"READY"}
assert {each.status for each in Run.objects.all()} == {"READY"}
work()
for model in (TaskRecord, Run):
    assert model.objects.get(result_id=done.id).status == "SUCCESSFUL"
    assert model.objects.get(result_id=failed.id).status == "FAILED"
    assert "the reason" in model.objects.get(result_id=failed.id).traceback
# It is the dashboard that retries, by run_after; ours has not.
[first, second] = Run.objects.filter(job__task_name="fails").order_by("attempt")
assert second.run_after > first.finished_at
work()
assert Job.objects.get(task_name="fails").status == "FAILED"
for page in (
    "/overseer/", "/overseer/jobs/", f"/overseer/jobs/{first.job_id}/", "/overseer/workers/",
    "/admin/tasks_monitor/taskrecord/",
):
    answer = client.get(page)
    assert answer.status_code == 200, (page, answer.status_code)
    assert "fails" in answer.content.decode() or page.endswith(("/overseer/", "/workers/")), page
"""


def test_overseer_and_tasks_monitor_see_what_becomes_of_tasks(tmp_path):
    script = tmp_path / "dashboards.py"
    script.write_text(SCRIPT)

    result = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120
    )

    assert result.returncode == 0, result.stderr[-3000:]
