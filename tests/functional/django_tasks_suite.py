"""Django's own tests of task back ends, with ours in the place of theirs.

A script: the path of Django's source distribution is its argument. It ends with 0 if all passed.
"""

from __future__ import annotations

import sys
import tempfile
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import django
from celery import Celery
from django.conf import settings

OURS = "lambda_celery.django.tasks.LambdaBackend"
MODULES = ("test_dummy_backend", "test_immediate_backend", "test_tasks")
#: What speaks of theirs alone.
NOT_OURS = {
    "DummyBackendTestCase": {
        # The result is changed in Dummy's list, which no store sees.
        "test_refresh_result", "test_refresh_result_async",
    },
    "ImmediateBackendTestCase": {"test_cannot_pass_run_after"},  # ours can
}  # fmt: skip

settings.configure(
    USE_TZ=True,
    INSTALLED_APPS=["lambda_celery.django"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    TASKS={"default": {"BACKEND": OURS, "QUEUES": []}},
)
django.setup()
app = Celery("proj", broker="memory://", backend="cache+memory://")
app.set_default()
# The broker is Celery's in memory: what is enqueued stays there.
app.conf.lambda_enabled = False

from django.test.utils import setup_test_environment  # noqa: E402 - after the settings

from lambda_celery.django.tasks import LambdaBackend  # noqa: E402

setup_test_environment()


class Recording(LambdaBackend):
    """In the place of Dummy, which has a list of what was enqueued."""

    def __init__(self, alias: str, params: Any) -> None:
        super().__init__(alias, params)
        self.results: list[Any] = []
        # Dummy says that it can; ours, where its options say how. They are to be empty there.
        self._priority_queues = {"default": {0: "default"}}

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        result = super().enqueue(task, args, kwargs)
        self.results.append(result)
        return deepcopy(result)

    def clear(self) -> None:
        for each in self.results:
            app.backend.forget(each.id)
        self.results = []


class Eager(LambdaBackend):
    """In the place of Immediate: Celery runs tasks in their callers."""

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        with eager():
            return super().enqueue(task, args, kwargs)

    def get_result(self, result_id: str) -> Any:
        with eager():
            return super().get_result(result_id)


@contextmanager
def eager() -> Iterator[None]:
    app.conf.task_always_eager = True
    try:
        yield
    finally:
        app.conf.task_always_eager = False


def with_ours(theirs: Path, package: Path) -> None:
    """Write their tests into *package*, where theirs has become ours."""
    package.mkdir()
    for name in ("__init__", "tasks", *MODULES):
        text = (theirs / f"{name}.py").read_text()
        for module, backend, ours in (
            ("dummy", "DummyBackend", "Recording"),
            ("immediate", "ImmediateBackend", "Eager"),
        ):
            text = text.replace(f"django.tasks.backends.{module}.{backend}", f"__main__.{ours}")
            text = text.replace(
                f"from django.tasks.backends.{module} import {backend}",
                f"from __main__ import {ours} as {backend}",
            )
        (package / f"{name}.py").write_text(text)


def chosen(suite: Any) -> Iterator[Any]:
    for each in suite:
        if isinstance(each, unittest.TestSuite):
            yield from chosen(each)
        elif each._testMethodName not in NOT_OURS.get(type(each).__name__, ()):
            yield each


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        with_ours(Path(sys.argv[1]) / "tests" / "tasks", Path(directory) / "tasks")
        sys.path.insert(0, directory)
        found = unittest.defaultTestLoader.loadTestsFromNames([f"tasks.{each}" for each in MODULES])
        result = unittest.TextTestRunner().run(unittest.TestSuite(chosen(found)))
    sys.exit(not result.wasSuccessful())
