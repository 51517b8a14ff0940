"""What importing costs: a web process must not load boto3 for the sake of a decorator."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    return set(json.loads(result.stdout))


@pytest.mark.parametrize("module", ["boto3", "sqs_extended_client", "lambda_runtime", "django.db"])
def test_the_decorator_does_not_load(module):
    assert module not in loaded_by("from lambda_celery import task")


@pytest.mark.parametrize("module", ["hcl2", "tomlkit", "rich", "lambda_celery.init"])
def test_the_command_line_does_not_load(module):
    assert module not in loaded_by("import lambda_celery.cli")


@pytest.mark.parametrize(
    "module",
    [
        "sqs_extended_client",
        "django.db",
        "ministack",
        "pycurl",
        "lambda_celery.schedules.scheduler",
    ],
)
def test_the_runtime_does_not_load(module):
    assert module not in loaded_by("from lambda_runtime import make_handler")


def test_of_failed_tasks_the_runtime_loads_what_it_writes_alone():
    loaded = loaded_by("from lambda_runtime import make_handler")
    found = {each for each in loaded if each.startswith("lambda_celery.failures.")}
    loaded_for_it = {"own_task", "record", "store"}
    assert found == {f"lambda_celery.failures.{each}" for each in loaded_for_it}
