"""The queue for the tests of projects, as a project uses it: by the page, pytest and Django."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "testing.md"
BLOCK = re.compile(r'^```python title="([^"]+)"\n(.*?)^```', re.MULTILINE | re.DOTALL)

#: What the page does not show.
FILES = {
    "shop/__init__.py": "from shop.celery import app\n",
    "shop/celery.py": """
import os
from celery import Celery
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
""",
    "shop/settings.py": """
SECRET_KEY = "x"
USE_TZ = True
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "shop.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
INSTALLED_APPS = ["lambda_celery.django", "shop"]
CELERY_BROKER_URL = "amqp://guest@127.0.0.1:1//"
CELERY_RESULT_BACKEND = "cache+memory://"
CELERY_LAMBDA_TASKS = ["shop.tasks.*"]
CELERY_TASK_PUBLISH_RETRY = False
""",
    "shop/models.py": """
from django.db import models

class Order(models.Model):
    confirmed = models.BooleanField(default=False)
""",
    "shop/views.py": """
from functools import partial
from django.db import transaction
from shop.models import Order
from shop.tasks import send_confirmation

def place_order(language):
    order = Order.objects.create()
    transaction.on_commit(partial(send_confirmation.delay, order.id, language=language))
    return order
""",
    "shop/tests_besides.py": """
from asgiref.sync import sync_to_async
from django.core import mail
from django.db import transaction
from django.test import TestCase, override_settings
from lambda_celery import task
from lambda_celery.invoke import agather, gather
from lambda_celery.testing import LambdaCeleryTestMixin
from shop.models import Order
from shop.tasks import send_offer

@task
def offer_at_commit():
    transaction.on_commit(lambda: send_offer.delay("ann@example.com"))

@task
async def count_orders():
    return await Order.objects.acount()

@task
def count_many():
    return [Order.objects.count(), *gather([count_orders.s()]), count_orders.invoke()]

@task
async def await_many():
    return [await count_orders.ainvoke(), *(await agather([count_orders.s()]))]

class Tests(LambdaCeleryTestMixin, TestCase):
    def test_what_a_task_does_at_the_commit_is_called_by_the_test(self):
        offer_at_commit.delay()
        with self.captureOnCommitCallbacks(execute=True):
            self.lambda_celery_queue.run()
        [outcome] = self.lambda_celery_queue.run()
        self.assertEqual(outcome.message.task, "shop.tasks.send_offer")

    def test_an_asynchronous_task_sees_the_transaction(self):
        Order.objects.create()
        count_orders.delay()
        [outcome] = self.lambda_celery_queue.run()
        self.assertEqual(outcome.result, 1)

    @classmethod
    def setUpTestData(cls):
        send_offer.delay("bob@example.com")

    def test_what_is_enqueued_for_all_tests_is_dropped(self):
        self.lambda_celery_queue.assert_not_enqueued()

    async def test_an_asynchronous_test_runs_it_on_a_thread(self):
        offer_at_commit.delay()
        await sync_to_async(self.lambda_celery_queue.run)()
        [outcome] = self.lambda_celery_queue.outcomes
        self.assertEqual(outcome.end, "succeeded")

    def test_direct_calls_see_the_transaction(self):
        Order.objects.create()
        self.assertEqual(count_orders.invoke(), 1)
        self.assertEqual(gather([count_orders.s(), count_many.s()]), [1, [1, 1, 1]])

    def test_a_task_that_is_delivered_may_call_others(self):
        Order.objects.create()
        count_many.delay()
        await_many.delay()
        results = [outcome.result for outcome in self.lambda_celery_queue.run()]
        self.assertEqual(results, [[1, 1, 1], [1, 1]])

    async def test_in_an_asynchronous_test_too(self):
        await Order.objects.acreate()
        self.assertEqual(await count_many.ainvoke(), [1, 1, 1])
        self.assertEqual(await agather([await_many.s()]), [[1, 1]])
        self.assertTrue(await Order.objects.aexists())

    @override_settings(CELERY_TASK_ALWAYS_EAGER=True)
    def test_eager_is_switched_off_for_a_part(self):
        with override_settings(CELERY_TASK_ALWAYS_EAGER=False):
            send_offer.delay("ann@example.com")
        self.lambda_celery_queue.assert_enqueued(send_offer)

    @override_settings(
        EMAIL_BACKEND="lambda_celery.django.mail.EmailBackend",
        CELERY_EMAIL_BACKEND="django.core.mail.backends.locmem.EmailBackend",
    )
    def test_an_attachment_is_there_in_each_test(self):
        content = b"x" * 50_000
        attached = [("a.pdf", content, "application/pdf")]
        mail.EmailMessage("a", "b", "c@example.com", ["d@example.com"], attachments=attached).send()
        [outcome] = self.lambda_celery_queue.run()
        self.assertEqual(outcome.end, "succeeded")
        self.assertEqual(mail.outbox[0].attachments[0][1], content)

    test_an_attachment_is_there_in_another_test = test_an_attachment_is_there_in_each_test
""",
    "asking_for_nothing.py": """
import unittest
from shop.tasks import send_offer

def test_a_function():
    send_offer.delay("ann@example.com")

class Tests(unittest.TestCase):
    def test_a_method(self):
        send_offer.delay("ann@example.com")
""",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with what the page shows, for which this version is installed."""
    root = tmp_path_factory.mktemp("project")
    shown: dict[str, list[str]] = defaultdict(list)
    for name, text in BLOCK.findall(PAGE.read_text()):
        shown[name].append(text)
    assert set(shown) == {"conftest.py", "shop/tasks.py", "shop/tests.py", "test_offers.py"}
    shown["conftest.py"].append("import django\nimport shop\ndjango.setup()\n")
    for name, text in [*FILES.items(), *((n, "\n\n".join(each)) for n, each in shown.items())]:
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    installed = root / "installed" / "lambda_celery_plugin-0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: lambda-celery-plugin\n")
    plugins = config["options.entry_points"]["pytest11"]
    (installed / "entry_points.txt").write_text(f"[pytest11]{plugins}\n")
    return root


def run(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python where there is neither AWS nor a setting for it."""
    ours = ("AWS_", "PYTEST_")
    kept = {name: each for name, each in os.environ.items() if not name.startswith(ours)}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=project,
        env={
            **kept,
            "PYTHONPATH": os.pathsep.join([str(project), str(project / "installed"), str(ROOT)]),
            "AWS_EC2_METADATA_DISABLED": "true",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_tests_of_the_page_pass_and_those_of_what_else_it_says(project):
    done = run(project, "-m", "django", "test", "--settings", "shop.settings")

    assert done.returncode == 0, done.stderr
    assert "Ran 24 tests" in done.stderr


def test_so_do_the_one_with_the_fixture_and_those_that_do_not_ask_for_it(project):
    done = run(
        project,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:randomly",
        "test_offers.py",
        "asking_for_nothing.py",
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
