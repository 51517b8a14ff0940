"""Failed tasks in Django's admin, as its test client sees them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

BEGIN = """
import os
import sys
import types
from datetime import UTC, datetime, timedelta

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="x", USE_TZ=True, ROOT_URLCONF="urls", STATIC_URL="/static/",
    ALLOWED_HOSTS=["testserver"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    INSTALLED_APPS=[
        "django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes",
        "django.contrib.sessions", "django.contrib.messages", "lambda_celery.django",
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
)
django.setup()

from celery import Celery
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.test import Client
from django.test.utils import setup_test_environment
from django.urls import path

import lambda_celery
from lambda_celery import aws
from lambda_celery.failures import FailedTasks, Failure

urls = types.ModuleType("urls")
urls.urlpatterns = [path("admin/", admin.site.urls)]
sys.modules["urls"] = urls
call_command("migrate", verbosity=0)
setup_test_environment()

app = Celery("proj", broker="amqp://guest@127.0.0.1:1//")
app.conf.lambda_tasks = ["*"]
app.set_default()
lambda_celery.install(app)

@app.task(name="shop.send")
def send(to):
    pass

tasks = FailedTasks(app)
sqs = aws.client("sqs", tasks.settings)
queue, dead = tasks.settings.queue_url, tasks.settings.dead_letter_queue_url
about = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
arn = about["Attributes"]["QueueArn"]
BASE = "/admin/lambda_celery/failedtask/"

def fail(number, **fields):
    values = {
        "id": f"failure#{number}", "task": "shop.send", "task_id": f"task-{number}", "queue": arn,
        "dead_letter_queue": dead, "reason": "failed", "exception": "ValueError",
        "failed_at": datetime(2026, 7, 1, tzinfo=UTC) + timedelta(seconds=number), "attempts": 5,
        "size": 10, "message": "451 <b>", "traceback": "Traceback of it", "args": "('ann',)",
        "root_id": "the root", "parent_id": "the parent", "body": f"body {number}",
    }
    tasks.records.put(Failure(**{**values, **fields}), 3600)

def depth():
    answer = sqs.get_queue_attributes(
        QueueUrl=queue, AttributeNames=["ApproximateNumberOfMessages"]
    )
    return int(answer["Attributes"]["ApproximateNumberOfMessages"])

def client(*permissions):
    user, _ = User.objects.get_or_create(username=repr(permissions), is_staff=True)
    for each in permissions:
        user.user_permissions.add(Permission.objects.get(codename=f"{each}_failedtask"))
    made = Client()
    made.force_login(user)
    return made

def do(browser, verb, *numbers, **more):
    chosen = {"verb": verb, "_selected_action": [f"failure#{n}" for n in numbers], **more}
    return browser.post(BASE + "do/", chosen, follow=True)
"""

CASES = {
    "the list has the newest first, page by page, and can be searched": """
for number in range(150):
    fail(number)
fail(200, task="shop.other", exception="KeyError")
fail(201, failed_at=datetime(2026, 7, 1, 0, 2, 29, tzinfo=UTC))  # of the moment of task-149
browser = client("view")
first = browser.get(BASE)
shown = [row["failure"].task_id for row in first.context["rows"]]
assert shown[:4] == ["task-200", "task-149", "task-201", "task-148"], shown[:4]
assert len(shown) == 100
second = browser.get(BASE + "?" + first.context["next"])
more = [row["failure"].task_id for row in second.context["rows"]]
assert len(more) == 52 and not set(shown) & set(more), len(more)
assert not second.context["next"]
for query in ("q=task-200", "q=keyerr", "task=*.other", "exception=Key*", "task=shop.o*&queue=*"):
    rows = browser.get(BASE + "?" + query).context["rows"]
    assert [row["failure"].task_id for row in rows] == ["task-200"], query
assert "No failed task matches." in browser.get(BASE + "?q=absent").text
assert "152 in all" in browser.get(BASE + "count/").text
assert "is no place" in browser.get(BASE + "?after=x").text
""",
    "a failure is shown with all that is known of it": """
fail(1)
browser = client("view")
page = browser.get(BASE + "failure_231/change/").text
for text in ("451 &lt;b&gt;", "Traceback of it", "the root", "the parent", "(&#x27;ann&#x27;,)"):
    assert text in page, text
assert 'value="retry"' not in page
gone = browser.get(BASE + "failure_232/change/", follow=True)
assert "There is no such failed task any longer" in gone.text
""",
    "permissions are respected": """
fail(1)
assert client().get(BASE).status_code == 403
assert client("view").get(BASE).status_code == 200
assert Client().get(BASE).status_code == 302
for verb in ("retry", "send_again", "discard", "__init__"):
    assert do(client("view"), verb, 1, confirmed="yes").status_code == 403
    LogEntry.objects.all().delete()
    User.objects.all().delete()
assert do(client("view", "change"), "discard", 1, confirmed="yes").status_code == 403
assert do(client("view", "delete"), "retry", 1, confirmed="yes").status_code == 403
assert depth() == 0
assert tasks.records.get("failure#1").retried_at is None
""",
    "retry and discard ask first, tell what has become of each, and are in the log": """
for number in range(4):
    fail(number)
browser = client("view", "change", "delete")
asked = do(browser, "retry", 0, 1, query="task=shop.*").text
assert "2 failed tasks will be sent back" in asked
assert depth() == 0
done = do(browser, "retry", 0, 1, 77, query="task=shop.*", confirmed="yes")
assert done.redirect_chain == [(BASE + "?task=shop.%2A", 302)], done.redirect_chain
assert "task-0: sent back to" in done.text
assert "There is no failure failure#77" in done.text
assert "With 1 of 3 it could not be done." in done.text
assert depth() == 2
done = do(browser, "discard", 2, confirmed="yes").text
assert "task-2: discarded" in done
assert tasks.records.get("failure#2") is None
log = {each.object_repr: each.action_flag for each in LogEntry.objects.all()}
assert log == {"shop.send task-0": 2, "shop.send task-1": 2, "shop.send task-2": 3}, log
assert "sent back to" in browser.get(BASE + "failure_230/history/").text
assert browser.get("/admin/").status_code == 200
assert "No failed task was chosen." in do(browser, "retry").text
""",
    "send again makes a new call": """
send.apply_async(("ann",))
message = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=5)["Messages"][0]
fail(1, body=message["Body"])
done = do(client("view", "change"), "send_again", 1, confirmed="yes").text
assert "sent again, as" in done
assert depth() == 1
assert tasks.records.get("failure#1") is None
""",
    "what AWS refuses is a sentence on the page": """
from dataclasses import replace
os.environ["LAMBDA_CELERY_IDEMPOTENCY_TABLE"] = "absent"
other = Celery("other", broker="amqp://guest@127.0.0.1:1//")
other.set_default()
other.set_current()
browser = client("view", "change")
for address in ("", "count/", "failure_231/change/"):
    answer = browser.get(BASE + address)
    assert answer.status_code == 200
    assert "the table absent does not exist" in answer.text or "absent" in answer.context["error"]
assert "absent" in do(browser, "retry", 1, confirmed="yes").text
""",
    "all that match are worked off by the function, after a page that counts them": """
for number in range(3):
    fail(number)
fail(3, task="shop.other")
browser = client("view", "change")
asked = {"verb": "retry", "query": "task=shop.send&after=1_x"}
assert "All that match" in browser.get(BASE).text
assert "All that match" not in browser.get(BASE + "?q=shop").text

page = browser.post(BASE + "bulk/begin/", asked)
assert page.context["total"] == 3
assert "3 failed tasks match." in page.text
assert depth() == 0
until = page.context["until"]
fail(4, failed_at=datetime(2026, 8, 1, tzinfo=UTC))  # since it was asked
confirmed = {**asked, "confirmed": "yes", "until": until, "name": "mend", "per_second": "20"}
assert "'x' is no number" in browser.post(
    BASE + "bulk/begin/", {**confirmed, "per_second": "x"}
).context["error"]
page = browser.post(BASE + "bulk/begin/", confirmed, follow=True)
assert "Bulk action mend, retry: Begun, with 3 failed tasks." in page.text
assert "0 of 3" in page.text
assert depth() == 1
again = browser.post(BASE + "bulk/begin/", confirmed)
assert "There is a bulk action mend already" in again.context["error"]

page = browser.post(BASE + "bulk/", {"name": "mend", "change": "abort"}, follow=True)
assert "It is aborted now." in page.text
assert 'value="resume"' in page.text
page = browser.post(BASE + "bulk/", {"name": "other", "change": "abort"}, follow=True)
assert "There is no bulk action other" in page.text
browser.post(BASE + "bulk/", {"name": "mend", "change": "resume"})
assert depth() == 2
logged = [each.change_message for each in LogEntry.objects.order_by("id")]
assert logged == [
    "Bulk action mend, retry: Begun, with 3 failed tasks.",
    "Bulk action mend, retry: It is aborted now.", "Bulk action mend, retry: It is running now.",
]
""",
    "who may not do it with one may not with all": """
fail(1)
looks, discards = client("view"), client("view", "delete")
asked = {"verb": "retry", "query": "", "confirmed": "yes", "name": "mend"}
for browser in (looks, discards):
    assert browser.post(BASE + "bulk/begin/", asked).status_code == 403
assert "All that match" not in looks.get(BASE).text
assert client("view", "change").post(BASE + "bulk/begin/", asked).status_code == 302
for browser in (looks, discards):
    page = browser.get(BASE + "bulk/")
    assert "0 of 1" in page.text
    assert "Abort" not in page.text
    assert browser.post(BASE + "bulk/", {"name": "mend", "change": "abort"}).status_code == 403
assert client().get(BASE + "bulk/").status_code == 403
page = client("view", "change").post(BASE + "bulk/begin/", {"verb": "retry", "query": "q=shop"})
assert "What is searched for cannot be done with at once" in page.context["error"]
""",
    "Django's own commands ask no database for failed tasks": """
call_command("dumpdata", "--all", "lambda_celery", verbosity=0)
call_command("makemigrations", "--check", verbosity=0)
call_command("check")
""",
}


@pytest.mark.parametrize("case", CASES)
def test_in_the_admin(case: str, stack: Any, tmp_path: Any) -> None:
    result = subprocess.run(
        [sys.executable, "-c", BEGIN + CASES[case]],
        cwd=tmp_path,
        env={**stack.environment, "PATH": "", "PYTHONPATH": ":".join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr[-3000:]
