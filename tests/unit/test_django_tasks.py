"""The back end for Django's tasks: what it refuses, what it finds, and what Celery runs at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

import tests.django_settings  # noqa: F401 - before what reads them
from lambda_celery import install
from lambda_celery.django.tasks.api import BaseTaskBackend, InvalidTask, TaskResultStatus
from lambda_celery.django.tasks.backend import LambdaBackend

if BaseTaskBackend.__module__.startswith("django_tasks"):
    from django_tasks import task
else:
    from django.tasks import task

URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/"


@pytest.fixture
def app() -> Iterator[Celery]:
    made = Celery("proj", broker="memory://", backend="cache+memory://", set_as_current=True)
    made.conf.update(lambda_queue_url=URL + "tasks", task_always_eager=True)
    install(made)
    return made


@task
def add(a, b):
    return a + b


@task
def fails():
    raise LookupError("the reason")


def backend(**options: Any) -> LambdaBackend:
    return LambdaBackend("default", {"QUEUES": [], "OPTIONS": options})


def test_a_priority_is_refused_where_it_is_declared(app):
    assert not backend().supports_priority
    with pytest.raises(InvalidTask, match="Backend does not support setting priority"):
        task(priority=5)(add.func)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"priority": {}}, r"has 'priority', which this back end does not know"),
        ({"priority_queues": {6: "mail-urgent"}}, "must be a mapping of queue names"),
        ({"priority_queues": {"mail": {}}}, "must be a mapping of queue names"),
        (
            {"priority_queues": {"mail": {"high": "mail-urgent"}}},
            "must be a mapping of queue names",
        ),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options, sentence):
    with pytest.raises(ImproperlyConfigured, match=sentence):
        backend(**options)


def test_priorities_of_a_queue_that_no_task_can_be_in_are_refused():
    options = {"priority_queues": {"mial": {50: "mail-urgent"}}}
    with pytest.raises(ImproperlyConfigured, match="has 'mial', which QUEUES does not have"):
        LambdaBackend("default", {"QUEUES": ["mail"], "OPTIONS": options})


def test_flags_tell_what_is_there(app):
    app.conf.task_always_eager = False
    assert backend().supports_get_result
    assert not backend(ignore_result=True).supports_get_result
    app.conf.task_ignore_result = True
    assert not backend().supports_get_result
    assert backend(priority_queues={"mail": {6: "mail-urgent"}}).supports_priority


def test_celery_runs_at_once_what_it_is_told_to(app):
    done, failed = add.enqueue(1, 2), fails.enqueue()

    assert (done.return_value, done.attempts) == (3, 1)
    assert failed.status == TaskResultStatus.FAILED
    assert failed.errors[0].exception_class is LookupError


def test_what_fails_at_once_is_raised_where_celery_is_told_to(app):
    app.conf.task_eager_propagates = True

    with pytest.raises(LookupError, match="the reason"):
        fails.enqueue()


class TestChecks:
    def test_the_app_is_missing(self, app):
        assert [each.id for each in backend().check()] == ["lambda_celery.tasks.E001"]

    @override_settings(INSTALLED_APPS=["lambda_celery.django"])
    def test_a_setting_is_wrong(self, app):
        app.conf.lambda_queue_url = "tasks"

        [found] = backend().check()
        assert found.id == "lambda_celery.tasks.E002"
        assert "lambda_queue_url" in found.msg

    @override_settings(INSTALLED_APPS=["lambda_celery.django"])
    def test_a_queue_for_a_priority_is_that_of_all(self, app):
        made = backend(priority_queues={"mail": {0: "mail", 6: "mail-urgent"}})

        assert [each.id for each in made.check()] == ["lambda_celery.tasks.W001"]

    @override_settings(INSTALLED_APPS=["lambda_celery.django"])
    def test_all_is_well(self, app):
        app.conf.lambda_queues = {"mail-urgent": URL + "mail-urgent"}

        assert list(backend(priority_queues={"mail": {6: "mail-urgent"}}).check()) == []


def test_an_app_is_discovered_where_django_has_no_tasks():
    script = """
import sys
sys.modules["django.tasks"] = sys.modules["django_tasks"] = None
import django
from celery import Celery
from django.conf import settings
settings.configure(INSTALLED_APPS=["lambda_celery.django"])
django.setup()
app = Celery("proj", broker="memory://")
app.autodiscover_tasks(lambda: settings.INSTALLED_APPS, force=True)
assert "lambda_celery.django.tasks" in sys.modules
assert "lambda_celery.django.run_task" in app.tasks
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
