"""Asynchronous calls in Django's tests: eager tasks see the transaction of a TestCase."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import sys
import unittest

import django
from django.conf import settings

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=[
        "django.contrib.auth", "django.contrib.contenttypes", "lambda_celery.django"
    ],
    ROOT_URLCONF=__name__,
)
django.setup()

from celery import Celery
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import TestCase
from django.test.runner import DiscoverRunner
from django.urls import path
from lambda_celery import adelay, task

app = Celery("proj", broker="memory://", set_as_current=True)
app.set_default()  # as Celery does it in a project with a settings module
app.conf.task_always_eager = True


@task
def name(pk):
    return User.objects.get(pk=pk).username


@task
async def async_name(pk):
    return (await User.objects.aget(pk=pk)).username


@app.task
def plain_name(pk):
    return User.objects.get(pk=pk).username


async def view(request, pk):
    calls = [await name.adelay(pk), await async_name.adelay(pk), await adelay(plain_name, pk)]
    return HttpResponse(" ".join(str(each.result) for each in calls))


urlpatterns = [path("<int:pk>", view)]
EXPECTED = b"ann ann ann"


class Eager(TestCase):
    def test_client(self):
        user = User.objects.create(username="ann")
        self.assertEqual(self.client.get(f"/{user.pk}").content, EXPECTED)

    async def test_async_client(self):
        user = await User.objects.acreate(username="ann")
        answer = await self.async_client.get(f"/{user.pk}")
        self.assertEqual(answer.content, EXPECTED)

    async def test_await(self):
        user = await User.objects.acreate(username="ann")
        self.assertEqual((await name.adelay(user.pk)).get(), "ann")


runner = DiscoverRunner(verbosity=0, interactive=False)
runner.setup_test_environment()
made = runner.setup_databases()
case = unittest.defaultTestLoader.loadTestsFromName(f"Eager.{sys.argv[1]}", sys.modules[__name__])
done = unittest.TextTestRunner().run(case)
runner.teardown_databases(made)
sys.exit(not done.wasSuccessful())
"""


@pytest.mark.parametrize("case", ["test_client", "test_async_client", "test_await"])
def test_a_task_that_is_awaited_eagerly_sees_the_test_s_transaction(tmp_path, case):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, case], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
