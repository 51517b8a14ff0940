"""What ``manage.py check --deploy`` says of the settings for Lambda."""

from __future__ import annotations

import os
import subprocess
import sys

FILES = {
    "proj/__init__.py": "from .celery import app as celery_app\n",
    "proj/celery.py": """
from celery import Celery
app = Celery("proj", set_as_current=True)
app.config_from_object("django.conf:settings", namespace="CELERY")
""",
    "proj/settings.py": """
SECRET_KEY = "x"
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "x"}}
INSTALLED_APPS = ["lambda_celery.django"]
CELERY_LAMBDA_TASKS = ["*"]
CELERY_ACCEPT_CONTENT = ["json", "pickle"]
CELERY_TASK_ALWAYS_EAGER = True
CELERY_LAMBDA_QUEUE_URL = "https://sqs.eu-west-1.amazonaws.com/000000000000/mail"
CELERY_LAMBDA_IDEMPOTENCY_TTL_SECONDS = 60
CELERY_LAMBDA_CONCURRENCY = 20
""",
}


def run(directory, *command):
    for name, text in FILES.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=directory,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "proj.settings",
            "PYTHONPATH": os.pathsep.join([".", *sys.path]),
        },
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def checked(directory, *options):
    return run(directory, "django", "check", *options)


def test_settings_that_a_project_can_get_wrong_have_an_id_a_hint_and_a_page(tmp_path):
    said = checked(tmp_path, "--deploy", "--tag", "lambda_celery").stderr
    for line in (
        "(lambda_celery.W017) A record lives 60 s",
        "(lambda_celery.W019) Each task runs where it is called",
        "(lambda_celery.W020) The function reads pickle",
        "(lambda_celery.W022) 10 environments hold up to 200 connections: 20",
    ):
        assert line in said
    assert "HINT: Leave it to the settings of the tests. docs/check.md#always-eager says" in said


def test_without_deploy_nothing_is_said_of_them(tmp_path):
    assert "lambda_celery." not in checked(tmp_path).stderr


def test_tasks_that_are_chosen_without_the_app_are_told_by_celerys_own_command(
    tmp_path, monkeypatch
):
    command = ("celery", "-A", "proj", "lambda", "check", "--rule", "not-installed")
    assert "nothing sends them to SQS" not in run(tmp_path, *command).stdout
    settings = FILES["proj/settings.py"].replace('["lambda_celery.django"]', "[]")
    monkeypatch.setitem(FILES, "proj/settings.py", settings)
    result = run(tmp_path, *command)
    assert result.returncode == 1
    assert "nothing sends them to SQS" in result.stdout
