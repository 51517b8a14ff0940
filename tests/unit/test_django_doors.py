"""Which of Django's own doors lead to the queue, and that ``lambda local`` shows them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from celery import Celery
from django.test import override_settings

import tests.django_settings  # noqa: F401 - before what reads them
from lambda_celery.conf import Settings
from lambda_celery.django.mail.tasks import deliver
from lambda_celery.django_doors import mailers_to_queue, tasks_in_use
from lambda_celery.local.banner import LocalOptions, banner
from lambda_celery.local.endpoint import Endpoint

OURS = {"BACKEND": "lambda_celery.django.mail.EmailBackend"}
CONSOLE = {"BACKEND": "django.core.mail.backends.console.EmailBackend"}
ABSENT = {"BACKEND": "absent.EmailBackend"}
TASKS = {"default": {"BACKEND": "lambda_celery.django.tasks.LambdaBackend"}}
MAIL_TASK = deliver.name
DJANGO_TASK = "lambda_celery.django.run_task"


@pytest.mark.parametrize(
    ("changed", "mailers", "tasks"),
    [
        ({"EMAIL_BACKEND": CONSOLE["BACKEND"], "TASKS": {}}, [], []),
        ({"EMAIL_BACKEND": OURS["BACKEND"], "TASKS": {}}, ["default"], [MAIL_TASK]),
        ({"EMAIL_BACKEND": ABSENT["BACKEND"], "TASKS": {}}, [], []),
        ({"EMAIL_BACKEND": CONSOLE["BACKEND"], "TASKS": TASKS}, [], [DJANGO_TASK]),
        ({"EMAIL_BACKEND": OURS["BACKEND"], "TASKS": TASKS}, ["default"], [MAIL_TASK, DJANGO_TASK]),
        ({"MAILERS": {"default": {}, "bulk": OURS}, "TASKS": {}}, ["bulk"], [MAIL_TASK]),
        ({"MAILERS": {"default": ABSENT, "out": CONSOLE}, "TASKS": {}}, [], []),
    ],
)
def test_the_doors_are_those_of_the_settings(changed, mailers, tasks):
    with override_settings(**changed):
        assert mailers_to_queue() == mailers
        assert tasks_in_use() == tasks


def test_django_is_not_loaded_for_it():
    script = (
        "import sys; from lambda_celery.django_doors import tasks_in_use; "
        "assert tasks_in_use() == []; assert 'django.conf' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_project_that_has_come_for_its_mail_sees_it_among_the_tasks_that_go_to_sqs():
    app = Celery("proj", set_as_current=False)
    endpoint = Endpoint(Settings(), environment={}, exports={}, emulated=True)
    shown = {}
    for backend in (OURS, CONSOLE):
        with override_settings(EMAIL_BACKEND=backend["BACKEND"]):
            shown[backend["BACKEND"]] = banner(
                app, Settings(), LocalOptions("proj"), endpoint, page="", invoke_url=""
            )

    assert f"  . {MAIL_TASK}\n" in shown[OURS["BACKEND"]]
    assert MAIL_TASK not in shown[CONSOLE["BACKEND"]]
