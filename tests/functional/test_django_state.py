"""What is Django's and a task may not find dead, shared, or as another has left it."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from celery import Celery

from lambda_celery import install
from lambda_celery.local.records import record

FILES = {
    "proj/__init__.py": "from .celery import app as celery_app\n",
    "proj/celery.py": """
import json, os
from celery import Celery
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "proj.settings")
app = Celery("proj")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.update(json.loads(os.environ.get("CONF", "{}")))
app.autodiscover_tasks()
""",
    "proj/settings.py": """
import json, os
SECRET_KEY = "x"
DEBUG = USE_TZ = USE_I18N = True
SITE_ID = 1
DATABASES = {"default": json.loads(os.environ["DATABASE"])}
CACHES = {"default": {"BACKEND": "members.cache.Cache"}}
INSTALLED_APPS = ["lambda_celery.django", "django.contrib.sites", "members"]
CELERY_BROKER_URL = "amqp://guest@127.0.0.1:1//"
CELERY_LAMBDA_TASKS = ["members.tasks.*"]
CELERY_TASK_PUBLISH_RETRY = False
""",
    "members/__init__.py": "",
    "members/cache.py": """
from django.core.cache.backends.dummy import DummyCache

class Cache(DummyCache):
    closed = 0

    def close(self, **kwargs):
        self.closed += 1
""",
    "members/tasks.py": """
import asyncio, contextvars, json, os, threading
from asgiref.sync import sync_to_async
from celery import shared_task
from celery.exceptions import Ignore, SoftTimeLimitExceeded
from django.conf import settings
from django.contrib.sites.models import Site
from django.core.cache import cache, caches
from django.db import OperationalError, connection, transaction
from django.test.utils import override_settings
from django.utils import timezone, translation

VARIABLE = contextvars.ContextVar("variable", default="nothing")
MEETING = threading.Barrier(int(os.environ.get("MEET", "1")))


def query(statement):
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


def note(**facts):
    with open("ran.log", "a") as file:
        file.write(json.dumps(facts) + "\\n")


if "QUERY_AT_IMPORT" in os.environ:
    query("SELECT 1")


@shared_task
def ask(number):
    note(backend=query("SELECT pg_backend_pid()"), process=os.getpid())
    MEETING.wait(30)


def ask_on_thread():
    note(backend=query("SELECT pg_backend_pid()"))


@shared_task
async def ask_to_thread(number):
    await asyncio.to_thread(ask_on_thread)


@shared_task
async def ask_async(number):
    await sync_to_async(ask_on_thread)()
    await asyncio.to_thread(MEETING.wait, 30)


@shared_task(soft_time_limit=0.2)
def is_interrupted(number, catches):
    try:
        query("SELECT pg_sleep(30)")
    except SoftTimeLimitExceeded:
        note(interrupted=True)
        if catches != "catches":
            raise Ignore


def lose_connection():
    try:
        query("SELECT pg_terminate_backend(pg_backend_pid())")
    except OperationalError:
        note(lost=True)


def leave_transaction():
    query("SELECT 1")
    transaction.atomic().__enter__()


LEAVE = {
    "lost connection": lose_connection,
    "autocommit": lambda: transaction.set_autocommit(False),
    "language": lambda: translation.activate("de"),
    "queries": lambda: [query("SELECT 1") for _ in range(3)],
    "settings": lambda: override_settings(EMAIL_HOST="left").enable(),
    "site": lambda: [
        Site.objects.get_current(), Site.objects.update(name="new"),
    ],
    "time zone": lambda: timezone.activate("Asia/Tokyo"),
    "transaction": leave_transaction,
    "variable": lambda: VARIABLE.set("left"),
}


@shared_task
def leave(number, what):
    LEAVE[what]()


@shared_task
async def leave_async(number, what, where):
    await (asyncio.to_thread if where == "to_thread" else on_body_thread)(LEAVE[what])


@shared_task
async def look_async(number, where):
    await (asyncio.to_thread if where == "to_thread" else on_body_thread)(look_at_connection)


def on_body_thread(function):
    return sync_to_async(function)()


def look_at_connection():
    facts = {
        "queries": len(connection.queries_log),
        "transaction": connection.in_atomic_block,
        "autocommit": connection.get_autocommit(),
    }
    query("SELECT 1")
    note(**facts)


@shared_task
def look(number):
    facts = {
        "queries": len(connection.queries_log),
        "language": translation.get_language(),
        "time zone": timezone.get_current_timezone_name(),
        "variable": VARIABLE.get(),
        "settings": settings.EMAIL_HOST,
        "transaction": connection.in_atomic_block,
        "autocommit": connection.get_autocommit(),
        "site": Site.objects.get_current().name,
    }
    note(**facts)


@shared_task
def use_cache(number):
    cache.get("key")
    note(cache=id(caches["default"]), closed=caches["default"].closed)


MADE = []


@shared_task
async def use_cache_async(number):
    note(closed=[each.closed for each in MADE])
    await cache.aget("key")
    MADE.append(caches["default"])
""",
}
#: Only a test that fails waits for so long.
FUNCTION_SECONDS = 60


class Project:
    """A Django project with a database of its own, and its function."""

    def __init__(self, directory: Path, stack: Any, url: str, make_function: Any) -> None:
        self._directory = directory
        self._stack = stack
        self._make_function = make_function
        self._server = urlsplit(url)
        self._url = url
        self._name = f"state_{uuid.uuid4().hex}"
        self._function: Any = None
        self._environment: dict[str, str] = {}
        self._web = Celery("web", broker="amqp://guest@127.0.0.1:1//", set_as_current=False)
        self._web.conf.update(
            lambda_tasks=["*"],
            lambda_queue_url=stack.queue_url,
            lambda_endpoint_url=stack.settings.endpoint_url,
            lambda_region=stack.settings.region,
        )
        install(self._web)
        for name, text in FILES.items():
            path = directory / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        self._ask(f"CREATE DATABASE {self._name}")
        self.deploy()

    def deploy(self, conf: dict[str, Any] | None = None, *, environment=None, **database: Any):
        """Have a function with these settings from now on."""
        self._environment = {
            **self._stack.environment,
            "LAMBDA_CELERY_APP": "proj",
            "DJANGO_SETTINGS_MODULE": "proj.settings",
            "CONF": json.dumps(conf or {}),
            "DATABASE": json.dumps(
                {
                    "ENGINE": "django.db.backends.postgresql",
                    "NAME": self._name,
                    "USER": self._server.username,
                    "HOST": self._server.hostname,
                    "PORT": self._server.port,
                    **database,
                }
            ),
            **(environment or {}),
        }
        self._function = self._make_function(
            "lambda_runtime.handler",
            working_directory=self._directory,
            environment=self._environment,
            timeout_seconds=FUNCTION_SECONDS,
        )

    def make_tables(self) -> None:
        result = subprocess.run(
            [sys.executable, "-m", "django", "migrate", "sites", "--skip-checks"],
            cwd=self._directory,
            env={**self._environment, "PYTHONPATH": os.pathsep.join([".", *sys.path])},
            capture_output=True, text=True, check=False, timeout=FUNCTION_SECONDS,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr

    def invoke(self, *calls: tuple[str, ...]) -> list[dict[str, Any]]:
        """Run *calls*, each a task's name and arguments, as one batch; return what they note."""
        for number, (name, *arguments) in enumerate(calls):
            self._web.send_task(f"members.tasks.{name}", (number, *arguments))
        messages = sorted(self._stack.messages(), key=_number)
        assert len(messages) == len(calls)
        arn = "arn:aws:sqs:eu-west-1:000000000000:" + self._stack.queue_url.rpartition("/")[2]
        log = self._directory / "ran.log"
        log.unlink(missing_ok=True)
        result = self._function.invoke({"Records": [record(each, arn) for each in messages]})
        assert result.error is None
        assert result.payload == {"batchItemFailures": []}
        return [json.loads(each) for each in log.read_text().splitlines()]

    def end_connections(self) -> None:
        """End all connections to the database, on the server's side."""
        query = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = "
        assert all(row[0] for row in self._ask(f"{query}'{self._name}'"))

    def drop(self) -> None:
        self._ask(f"DROP DATABASE {self._name} WITH (FORCE)")

    def _ask(self, query: str) -> Any:
        async def ask() -> Any:
            connection = await asyncpg.connect(self._url)
            try:
                return await connection.fetch(query)
            finally:
                await connection.close()

        return asyncio.run(ask())


def _number(message: dict[str, Any]) -> int:
    headers = json.loads(base64.b64decode(message["Body"]))["headers"]
    return int(headers["argsrepr"].strip("(),").partition(",")[0])


@pytest.fixture
def project(stack: Any, tmp_path: Path, postgres_url: str, local_function: Callable[..., Any]):
    made = Project(tmp_path, stack, postgres_url, local_function)
    yield made
    made.drop()


POOL = {"OPTIONS": {"pool": {"min_size": 1, "max_size": 4}}}


class TestConnections:
    @pytest.mark.parametrize("task", ["ask", "ask_async", "ask_to_thread"])
    @pytest.mark.parametrize(
        ("conf", "database"),
        [
            pytest.param({}, {"CONN_MAX_AGE": None}, id="closed around each task"),
            pytest.param({"CELERY_DB_REUSE_MAX": 100}, {"CONN_MAX_AGE": None}, id="kept"),
            pytest.param({}, POOL, id="pool"),
        ],
    )
    def test_what_the_server_ends_between_two_invocations_fails_no_task(
        self, project, conf, database, task
    ):
        project.deploy(conf, **database)
        project.invoke((task,))
        project.end_connections()
        assert len(project.invoke((task,), (task,))) == 2

    @pytest.mark.parametrize("database", [{}, {"CONN_MAX_AGE": 600}, {"CONN_MAX_AGE": None}])
    def test_one_is_kept_if_celery_is_told_so_whatever_djangos_setting(self, project, database):
        project.deploy({"CELERY_DB_REUSE_MAX": 100}, **database)
        first, second = project.invoke(("ask",), ("ask",))
        assert [first, second] == project.invoke(("ask",), ("ask",))

    @pytest.mark.parametrize("catches", ["catches", "fails"])
    def test_one_that_is_kept_and_was_interrupted_in_a_query_is_replaced(self, project, catches):
        project.deploy({"CELERY_DB_REUSE_MAX": 100}, CONN_MAX_AGE=None)
        before, interrupted, after = project.invoke(("ask",), ("is_interrupted", catches), ("ask",))
        assert interrupted == {"interrupted": True}
        assert after["backend"] != before["backend"]

    def test_a_pool_keeps_its_connection_from_one_invocation_to_the_next(self, project):
        project.deploy(OPTIONS={"pool": {"min_size": 1, "max_size": 1}})
        assert project.invoke(("ask",)) == project.invoke(("ask",))

    @pytest.mark.parametrize(
        "database", [pytest.param({"CONN_MAX_AGE": None}, id="own"), pytest.param(POOL, id="pool")]
    )
    def test_threads_share_none(self, project, database):
        project.deploy({"lambda_concurrency": 3}, environment={"MEET": "3"}, **database)
        noted = project.invoke(("ask",), ("ask",), ("ask",))
        assert len({each["backend"] for each in noted}) == 3

    def test_asynchronous_tasks_share_none(self, project):
        project.deploy({"lambda_async_concurrency": 3}, environment={"MEET": "3"})
        noted = project.invoke(*[("ask_async",)] * 3)
        assert len({each["backend"] for each in noted}) == 3

    def test_processes_share_none_of_a_pool_that_an_import_has_filled(self, project):
        project.deploy({"lambda_processes": 2}, environment={"QUERY_AT_IMPORT": "1"}, **POOL)
        noted = project.invoke(*[("ask",)] * 4)
        backends = {each["process"]: set() for each in noted}
        for each in noted:
            backends[each["process"]].add(each["backend"])
        one, other = backends.values()
        assert one.isdisjoint(other)


class TestWhatATaskLeavesBehind:
    @pytest.mark.parametrize(
        "conf",
        [pytest.param({}, id="closed"), pytest.param({"CELERY_DB_REUSE_MAX": 100}, id="kept")],
    )
    def test_the_next_one_does_not_find_it(self, project, conf):
        project.make_tables()
        project.deploy(conf)
        names = (
            "autocommit", "language", "queries", "settings", "site", "time zone", "transaction",
            "variable",
        )  # fmt: skip
        calls = [call for name in names for call in (("leave", name), ("look",))]
        before, *noted = project.invoke(("look",), *calls)
        assert before == {
            "autocommit": True, "language": "en-us", "queries": 0, "settings": "localhost",
            "site": "example.com", "time zone": "America/Chicago", "transaction": False,
            "variable": "nothing",
        }  # fmt: skip
        for name, after in zip(names, noted, strict=True):
            site = "new" if names.index(name) >= names.index("site") else "example.com"
            assert after == {**before, "site": site}, name

    @pytest.mark.parametrize("where", ["sync_to_async", "to_thread"])
    def test_the_next_asynchronous_one_does_not_find_it(self, project, where):
        names = ("autocommit", "queries", "transaction", "lost connection")
        calls = [
            call for name in names for call in (("leave_async", name, where), ("look_async", where))
        ]
        noted = project.invoke(("look_async", where), *calls)
        noted.remove({"lost": True})
        clean = {"autocommit": True, "queries": 0, "transaction": False}
        assert noted == [clean] * (1 + len(names))

    def test_caches_of_asynchronous_ones_are_closed(self, project):
        noted = project.invoke(*[("use_cache_async",)] * 2)
        assert noted == [{"closed": []}, {"closed": [1]}]

    def test_caches_are_closed_and_serve_the_next_one_too(self, project):
        first, second = project.invoke(("use_cache",), ("use_cache",))
        assert (first["closed"], second["closed"]) == (0, 1)
        assert first["cache"] == second["cache"]
