"""``celery -A proj lambda check`` over a project that has never heard of Lambda."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TIMEOUT_SECONDS = 120
APP = """
from celery import Celery

app = Celery("proj", broker="redis://localhost:1/0", include=["proj.tasks"])
"""
TASKS = """
import subprocess

from celery import shared_task


@shared_task
def add(x, y):
    return x + y


@shared_task
def convert(path):
    subprocess.run(["ffmpeg", "-i", path], timeout=60)


@shared_task
def report():
    with open("report.csv", "w") as file:
        file.write("a,b")
"""


@pytest.fixture
def project(tmp_path):
    package = tmp_path / "proj"
    package.mkdir()
    (package / "__init__.py").write_text("from proj.celery import app\n")
    (package / "celery.py").write_text(APP)
    (package / "tasks.py").write_text(TASKS)
    return tmp_path


def run_check(folder: Path, *arguments: str, app: str = "proj") -> subprocess.CompletedProcess[str]:
    ours = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environ = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "LAMBDA_CELERY_", "DJANGO_"))
    }
    return subprocess.run(
        [sys.executable, "-m", "celery", "-A", app, "lambda", "check", *arguments],
        cwd=folder,
        env=environ | {"PYTHONPATH": os.pathsep.join(filter(None, ours)), "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def test_text_grades_each_task(project):
    done = run_check(project)

    assert done.returncode == 1
    assert "red   proj.tasks.report  proj/tasks.py:18\n" in done.stdout
    assert "amber proj.tasks.convert  proj/tasks.py:13\n" in done.stdout
    assert "green proj.tasks.add  proj/tasks.py:8\n" in done.stdout
    assert "[local-file] proj/tasks.py:19" in done.stdout
    assert "\x1b" not in done.stdout


def test_json_sarif_and_github(project):
    read = json.loads(run_check(project, "--json").stdout)
    assert {each["name"]: each["grade"] for each in read["tasks"]} == {
        "proj.tasks.add": "green", "proj.tasks.convert": "amber", "proj.tasks.report": "red",
    }  # fmt: skip
    assert all(each["place"] and each["remedy"] for each in read["findings"])

    sarif = json.loads(run_check(project, "--format", "sarif").stdout)
    results = sarif["runs"][0]["results"]
    assert {"local-file", "subprocess"} <= {each["ruleId"] for each in results}

    github = run_check(project, "--format", "github").stdout
    assert "::error file=proj/tasks.py,line=19,title=local-file (proj.tasks.report)::" in github


def test_the_exit_code_is_that_of_the_worst_finding(project):
    assert run_check(project, "--rule", "subprocess").returncode == 0
    assert run_check(project, "--rule", "subprocess", "--fail-on", "amber").returncode == 1
    assert run_check(project, "--rule", "rate-limit", "--fail-on", "amber").returncode == 0


def test_explain_prints_the_paragraph(project):
    done = run_check(project, "--explain", "local-file")

    assert done.returncode == 0
    assert done.stdout.startswith("local-file: Writing to the local disk\n\n")


def test_bad_input_ends_in_a_sentence(project):
    unknown = run_check(project, "--rule", "local-fil")
    assert unknown.returncode == 1
    assert "Did you mean 'local-file'?" in unknown.stderr

    (project / "proj" / "tasks.py").write_text("import nothing_of_that_name\n")
    broken = run_check(project)
    assert broken.returncode != 0
    assert "nothing_of_that_name" in broken.stderr
    assert "Traceback" not in broken.stderr

    missing = run_check(project, app="elsewhere")
    assert missing.returncode != 0
    assert "Traceback" not in missing.stderr


def test_nothing_is_written(project):
    before = {path for path in project.rglob("*") if "__pycache__" not in path.parts}

    run_check(project)

    assert {path for path in project.rglob("*") if "__pycache__" not in path.parts} == before
