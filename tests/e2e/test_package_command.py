"""``celery -A proj lambda package`` as a user runs it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.wheelhouse import ROOT, repacked, this_project

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Lambda is Linux")

PROJECT = {
    "proj/__init__.py": "",
    "proj/celery.py": """
from celery import Celery

app = Celery("proj", include=["proj.tasks"])
app.conf.lambda_queue_url = "https://sqs.eu-west-1.amazonaws.com/123456789012/mail"
""",
    "proj/tasks.py": """
import sys

from proj.celery import app

@app.task
def path():
    print("PATH", sys.path)

@app.task
def boom():
    raise ValueError("boom")
""",
    "requirements.txt": "lambda-celery[runtime]\n",
    "pyproject.toml": f"""
[tool.lambda-celery]
app = "proj.celery:app"
name = "proj"
runtime = "python3.{sys.version_info[1]}"
architecture = "{ {"aarch64": "arm64"}.get(platform.machine(), platform.machine()) }"
""",
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    house = tmp_path_factory.mktemp("house")
    repacked(house, ["lambda-celery[runtime]"])
    return house


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in PROJECT.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def run(
    directory: Path, *options: str, house: Path | None, app: str = "proj.celery:app", **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run the command; with *house*, the wheels in that directory are all that there is."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "LAMBDA_CELERY_", "CELERY_", "DJANGO_"))
    }
    if house is not None:
        config = house / "uv.toml"
        config.write_text("no-index = true\n")
        environ |= {"UV_CONFIG_FILE": str(config), "UV_FIND_LINKS": str(house)}
        environ |= {"UV_CACHE_DIR": str(house / "cache")}
    return subprocess.run(
        [sys.executable, "-m", "celery", "-A", app, "lambda", "package", *options],
        cwd=directory,
        env=clean | {"AWS_CONFIG_FILE": os.devnull, "PYTHONPATH": str(ROOT)} | environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_message_is_run_with_nothing_else_on_the_path(project: Path, house: Path) -> None:
    done = run(
        project, "--try", "--try-task", "proj.tasks.path", "--json", "--without-boto3", house=house
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["trial"]["task"] == "proj.tasks.path"
    assert document["trial"]["message_deleted"] is True
    assert {"proj.tasks.path", "proj.tasks.boom"} <= set(document["trial"]["tasks"])
    assert len(document["imports"]) == 10
    (line,) = [each for each in done.stderr.splitlines() if each.startswith("PATH")]
    path = eval(line.removeprefix("PATH "))
    # What Lambda has is boto3's place here, and awslambdaric's.
    assert [Path(each).name for each in path[:2]] == ["task", "runtime"]
    assert not [each for each in path if "site-packages" in each or each == str(ROOT)]
    assert not any(each["name"] == "botocore" for each in document["sizes"])


def test_without_names_of_a_task_a_harmless_one_is_run(project: Path, house: Path) -> None:
    other = "python3.12" if sys.version_info[1] == 13 else "python3.13"
    (project / ".env").write_text("PASSWORD=1\n")
    done = run(project, "--try", "--runtime", other, "--without-boto3", "--verbose", house=house)
    assert done.returncode == 0, done.stderr
    assert "Note: Left out, because secrets have such names: .env." in done.stderr
    assert "Left out: pyproject.toml (files for development and deployment)" in done.stderr
    assert "what is tried is its twin for Python" in done.stdout
    assert "Ran celery.accumulate in" in done.stdout
    assert "its message was deleted" in done.stdout
    assert "The handler's imports take" in done.stdout


def test_a_variable_of_the_shell_is_none_of_the_function(project: Path, house: Path) -> None:
    with (project / "proj/tasks.py").open("a") as tasks:
        tasks.write("import os\nSECRET = os.environ['PROJ_SECRET']\n")
    done = run(project, "--try", "--without-boto3", house=house, PROJ_SECRET="s")
    assert done.returncode == 1
    assert "KeyError: 'PROJ_SECRET'" in done.stderr
    assert "belongs in [tool.lambda-celery.environment]" in done.stderr

    with (project / "pyproject.toml").open("a") as stanza:
        stanza.write("[tool.lambda-celery.parameters]\nSecret = {variable = 'PROJ_SECRET'}\n")
    done = run(project, "--try", "--without-boto3", house=house, PROJ_SECRET="s")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--try", "--try-task", "proj.tasks.boom"], "proj.tasks.boom was not done"),
        (["--try", "--exclude", "proj/tasks.py"], "cannot be initialised in the package"),
    ],
)
def test_a_package_that_does_not_work_fails(
    project: Path, house: Path, options: list[str], told: str
) -> None:
    done = run(project, *options, "--without-boto3", house=house)
    assert done.returncode == 1
    assert told in done.stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--runtime", "python3.9"], "must be 'python3.11' or"),
        (["--requirements", "none.txt"], "There is no none.txt"),
        (["--try-args", "{}"], "It is to be a JSON list"),
        (["--try-args", "["], "It is no JSON"),
        (["--image", "--try"], "--try needs a zip"),
        (["--output", "proj/__init__.py/lambda.zip"], "cannot be written"),
    ],
)
def test_bad_input_ends_in_a_sentence(
    project: Path, house: Path, options: list[str], told: str
) -> None:
    before = sorted(project.rglob("*"))
    done = run(project, *options, house=house, PYTHONDONTWRITEBYTECODE="1")
    assert done.returncode != 0
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(project.rglob("*")) == before


def test_an_image_is_described(project: Path, house: Path) -> None:
    done = run(project, "--image", house=house)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"Written: {project}/Dockerfile\nWritten: {project}/.dockerignore\n"


def test_the_example_is_packaged_with_what_the_index_has(tmp_path: Path) -> None:
    """The one test here that asks an index; with a wheel of this checkout beside it."""
    project, house = tmp_path / "django_mail", tmp_path / "house"
    shutil.copytree(ROOT / "examples" / "django_mail", project)
    house.mkdir()
    this_project(house)
    runtime = f"python3.{sys.version_info[1]}"
    done = run(
        project, "--try", "--json", "--without-boto3", "--runtime", runtime,
        house=None, app="proj", UV_FIND_LINKS=str(house),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    tasks = {"announcements.tasks.report_task", "lambda_celery.django.mail.deliver"}
    assert tasks <= set(document["trial"]["tasks"])
    assert document["trial"]["message_deleted"] is True
    assert document["unzipped_bytes"] < 120_000_000
