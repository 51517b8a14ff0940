"""``celery -A proj lambda init`` over a project that has never heard of Lambda."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import hcl2
import pytest
from cfnlint.api import ManualArgs, lint

from lambda_celery.packaging.inputs import deployment

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 120
PROJECT = {
    "proj/__init__.py": "from proj.celery import app\n",
    "proj/celery.py": """from celery import Celery

app = Celery("proj", broker="redis://localhost:1/0", include=["proj.tasks"])
app.conf.task_routes = {
    "proj.tasks.send_*": {"queue": "mail"},
    "proj.tasks.order": "orders.fifo",
}

if __name__ == "__main__":
    app.start()
""",
    "proj/tasks.py": """from celery import shared_task


@shared_task(time_limit=300)
def send_mail(address):
    return address


@shared_task
def order(number):
    return number
""",
}
DJANGO = {
    "shop/__init__.py": "",
    "shop/celery.py": """import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
""",
    "shop/settings.py": """# The site's settings.
SECRET_KEY = "x"
INSTALLED_APPS = ["shop"]
CELERY_BROKER_URL = "redis://localhost:1/0"
""",
    "shop/tasks.py": PROJECT["proj/tasks.py"],
}
STANZA = {
    "app": "proj",
    "name": "proj",
    "timeout": 310,
    "queues": {"celery": {}, "mail": {}, "orders.fifo": {"fifo": True}},
}


def made(directory: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(text)
    return directory


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return made(tmp_path, PROJECT)


def run(
    folder: Path, *arguments: str, app: str = "proj", command: str = "init", stdin: Any = None
) -> subprocess.CompletedProcess[str]:
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "LAMBDA_CELERY_", "DJANGO_", "CELERY_"))
    }
    return subprocess.run(
        [sys.executable, "-m", "celery", "-A", app, "lambda", command, *arguments],
        cwd=folder,
        env=clean | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL if stdin is None else stdin,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def goes_to_sqs(folder: Path, module: str, task: str, **environ: str) -> bool:
    code = (
        "import importlib, lambda_celery\n"
        "from lambda_celery.publishing.routing import goes_to_sqs\n"
        f"app = importlib.import_module({module!r}).app\n"
        "app.loader.import_default_modules()\n"
        f"print(goes_to_sqs(app, {task!r}), type(app.tasks).__module__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | environ,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer, _, registry = done.stdout.strip().partition(" ")
    # Its tasks go by way of this package, wherever they go.
    assert registry.startswith("lambda_celery.")
    return answer == "True"


@pytest.mark.parametrize(
    ("form", "files"),
    [
        ("sam", {"template.yaml", "samconfig.toml"}),
        ("cloudformation", {"infrastructure/template.yaml"}),
        ("cdk", {"infrastructure/app.py", "infrastructure/cdk.json"}),
        ("terraform", {"infrastructure/main.tf", "infrastructure/modules/lambda-celery/main.tf"}),
    ],
)
def test_each_form_is_written_once_and_is_right(project: Path, form: str, files: set[str]) -> None:
    before = contents(project)
    done = run(project, "--yes", "--form", form)

    assert done.returncode == 0, done.stderr
    after = contents(project)
    assert after.keys() >= files | {"pyproject.toml"}
    assert {name: after[name] for name in before} == before
    assert tomllib.loads(after["pyproject.toml"].decode()) == {
        "tool": {"lambda-celery": STANZA | {"form": form}}
    }
    for name in files:
        text = after[name].decode()
        if name.endswith("template.yaml"):
            found = lint(text, config=ManualArgs(regions=["eu-central-1"]))
            assert not [each for each in found if not each.rule.id.startswith("W")], found
            assert "orders-fifo.fifo" in text
        elif name.endswith(".tf"):
            assert hcl2.loads(text)["module"]
        elif name.endswith(".py"):
            compile(text, name, "exec")
        elif name.endswith(".json"):
            json.loads(text)
    assert "Then:\n\n    celery -A proj lambda package --try\n" in done.stdout

    again = run(project)

    assert again.returncode == 0, again.stderr
    assert "Nothing to do" in again.stdout
    assert contents(project) == after


def test_the_other_commands_read_the_same_stanza(project: Path) -> None:
    assert run(project, "--yes", "--apply").returncode == 0

    checked = run(project, "--json", command="check")
    inputs = deployment(project, None)

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert {each["grade"] for each in json.loads(checked.stdout)["tasks"]} == {"green"}
    assert (inputs.app, inputs.name, inputs.timeout) == ("proj", "proj", 310)
    assert set(inputs.queues) == {"celery", "mail", "orders.fifo"}


def test_the_settings_are_shown_or_applied_and_move_nothing_without_a_stack(project: Path) -> None:
    before = (project / "proj/celery.py").read_text()
    shown = run(project, "--yes").stdout

    assert "--- a/proj/celery.py\n+++ b/proj/celery.py\n" in shown
    assert (project / "proj/celery.py").read_text() == before

    done = run(project, "--apply")

    assert done.returncode == 0, done.stderr
    assert "Written: proj/celery.py" in done.stdout
    added = [line[1:] for line in shown.splitlines() if line.startswith("+") and "+++" not in line]
    after = (project / "proj/celery.py").read_text().splitlines()
    assert all(line in after for line in [*before.splitlines(), *added])
    url = "https://sqs.eu-west-1.amazonaws.com/123456789012/mail"
    assert not goes_to_sqs(project, "proj", "proj.tasks.order")
    assert goes_to_sqs(project, "proj", "proj.tasks.order", LAMBDA_CELERY_QUEUE_URL=url)
    assert goes_to_sqs(project, "proj", "proj.tasks.order", LAMBDA_CELERY_QUEUES=f'{{"a":"{url}"}}')
    assert "Nothing to do" in run(project, "--apply").stdout


def test_djangos_settings_are_where_they_belong(tmp_path: Path) -> None:
    project = made(tmp_path, DJANGO)

    done = run(project, "--yes", "--apply", app="shop")

    assert done.returncode == 0, done.stderr
    text = (project / "shop/settings.py").read_text()
    assert 'INSTALLED_APPS = [*INSTALLED_APPS, "lambda_celery.django"]' in text
    assert 'CELERY_LAMBDA_TASKS = ["shop.tasks.*"]' in text
    assert (project / "shop/celery.py").read_text() == DJANGO["shop/celery.py"]
    assert "Nothing to do" in run(project, "--apply", app="shop").stdout


def test_djangos_settings_in_a_class_are_left_alone(tmp_path: Path) -> None:
    text = DJANGO["shop/settings.py"].replace("INSTALLED", "class Base:\n    INSTALLED")
    project = made(tmp_path, DJANGO | {"shop/settings.py": text})
    before = contents(project)

    refused = run(project, "--yes", "--apply", app="shop")

    assert refused.returncode == 1
    assert refused.stderr == (
        "Error: --apply cannot add to shop/settings.py: leave it out, and put the settings that "
        "are shown then where they belong.\n"
    )
    assert contents(project) == before
    shown = run(project, "--yes", app="shop").stdout
    assert "Put these settings where Django's are:\n\nimport os\n" in shown
    assert "CELERY_LAMBDA_ENABLED = any(" in shown


def test_the_diff_of_the_settings_is_one_that_patch_takes(project: Path) -> None:
    (project / "proj/celery.py").write_text(PROJECT["proj/celery.py"].partition("\nif ")[0])
    done = run(project, "--yes", "--dry-run", "--apply")
    patched = subprocess.run(
        ["git", "apply", "-"], input=done.stdout, cwd=project, text=True, capture_output=True
    )

    assert patched.returncode == 0, patched.stderr
    by_patch = contents(project)
    made(project, {"proj/celery.py": PROJECT["proj/celery.py"].partition("\nif ")[0]})
    for name in ("pyproject.toml", "template.yaml", "samconfig.toml"):
        (project / name).unlink()
    assert run(project, "--yes", "--apply").returncode == 0
    assert contents(project) == by_patch


def test_a_dry_run_writes_nothing(project: Path) -> None:
    before = contents(project)

    done = run(project, "--yes", "--dry-run", "--form", "terraform")

    assert done.returncode == 0, done.stderr
    assert "--- /dev/null\n+++ b/pyproject.toml\n" in done.stdout
    assert "+++ b/infrastructure/main.tf\n" in done.stdout
    assert "Written: " not in done.stdout
    assert contents(project) == before


def test_what_the_stanza_says_wins_and_what_the_user_changed_stays(project: Path) -> None:
    (project / "pyproject.toml").write_text(
        '[project]\nname = "Web Shop"\nversion = "1"\n\n'
        "[tool.lambda-celery]\n# Ours.\ntimeout = 120\nqueues = ['mail'] # two\n"
    )
    done = run(project, "--yes", "--output", "deploy/aws")

    assert done.returncode == 0, done.stderr
    stanza = (project / "pyproject.toml").read_text()
    assert "# Ours.\ntimeout = 120\nqueues = ['mail'] # two\n" in stanza
    assert tomllib.loads(stanza)["tool"]["lambda-celery"] == {
        "app": "proj", "name": "web-shop", "form": "sam", "output": "deploy/aws",
        "timeout": 120, "queues": ["mail"],
    }  # fmt: skip
    assert "The app uses the queue celery, which queues in [tool.lambda-celery] does not" in (
        done.stdout
    )
    assert "The tasks' limits need a time-out of 310 s" in done.stdout
    template = project / "deploy/aws/template.yaml"
    assert "CodeUri: ../../dist/lambda.zip" in template.read_text()

    template.write_text(template.read_text() + "# mine\n")
    mine = template.read_bytes()
    (project / "pyproject.toml").write_text(stanza.replace("120", "600"))
    again = run(project)

    assert again.returncode == 0, again.stderr
    assert template.read_bytes() == mine
    assert "VisibilityTimeout: 3600" in (project / "deploy/aws/template.yaml.new").read_text()
    assert "deploy/aws/template.yaml is kept" in again.stdout
    assert "Before you deploy, take over what you want from deploy/aws/template.yaml.new" in (
        again.stdout
    )
    assert "sam deploy" not in again.stdout

    template.with_name("template.yaml.new").replace(template)
    merged = run(project).stdout

    assert "Nothing to do" in merged
    assert "\n    cd deploy/aws\n    sam deploy --guided\n" in merged


def test_another_form_says_which_files_are_no_longer_needed(project: Path) -> None:
    assert run(project, "--yes", "--form", "terraform").returncode == 0

    done = run(project, "--form", "sam")

    assert done.returncode == 0, done.stderr
    for name in ("main.tf", "modules/lambda-celery/modules/figures/main.tf"):
        assert f"Note: infrastructure/{name} was written by an earlier run" in done.stdout
    assert "template.yaml was written by" not in done.stdout


def test_a_sam_app_that_is_there_goes_on_to_be_what_sam_deploys(project: Path) -> None:
    theirs = {
        "samconfig.toml": '[default.deploy.parameters]\nstack_name = "theirs"\n',
        "template.yml": "Resources: {}\n",
    }
    made(project, theirs)
    refused = run(project, "--yes", "--name", "theirs")

    assert refused.returncode == 1
    assert "theirs is the stack of the SAM app in this directory" in refused.stderr

    done = run(project, "--yes")

    assert done.returncode == 0, done.stderr
    after = contents(project)
    assert {name: after[name].decode() for name in theirs} == theirs
    assert "template.yaml" not in after
    assert after.keys() >= {"infrastructure/template.yaml", "infrastructure/samconfig.toml"}
    assert b"CodeUri: ../dist/lambda.zip" in after["infrastructure/template.yaml"]
    assert "\n    cd infrastructure\n    sam deploy --guided\n" in done.stdout
    assert "samconfig.toml and template.yml in this directory" in done.stdout
    assert "Nothing to do" in run(project).stdout


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_yes_takes_the_queues_and_a_name_that_cannot_be_is_asked_for_again(project: Path) -> None:
    terminal, stdin = os.openpty()
    with os.fdopen(terminal, "wb", buffering=0) as keys:
        keys.write(b"cdk\nMyShop\nshop\ny\n")
        done = run(project, stdin=stdin)
        os.close(stdin)

    assert done.returncode == 0, done.stderr
    stanza = tomllib.loads((project / "pyproject.toml").read_text())["tool"]["lambda-celery"]
    assert stanza["name"] == "shop"
    assert set(stanza["queues"]) == {"celery", "orders.fifo", "mail"}


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_at_a_terminal_it_asks(project: Path) -> None:
    terminal, stdin = os.openpty()
    with os.fdopen(terminal, "wb", buffering=0) as keys:
        keys.write(b"cdk\nshop\nmail, orders.fifo\n")
        done = run(project, stdin=stdin)
        os.close(stdin)

    assert done.returncode == 0, done.stderr
    assert (
        "Queues, by Celery's names, with commas; Enter takes these [celery, orders.fifo, mail]"
        in done.stdout + done.stderr
    )
    stanza = tomllib.loads((project / "pyproject.toml").read_text())["tool"]["lambda-celery"]
    assert (stanza["form"], stanza["name"]) == ("cdk", "shop")
    assert stanza["queues"] == {"mail": {}, "orders.fifo": {"fifo": True}}


@pytest.mark.parametrize(
    ("files", "arguments", "told"),
    [
        ({}, [], "There is no terminal to ask at: give --yes"),
        ({}, ["--yes", "--name", "Web Shop"], "name in [tool.lambda-celery] is 'Web Shop', but"),
        ({"pyproject.toml": "a = "}, ["--yes"], "pyproject.toml cannot be read as TOML"),
        (
            {"pyproject.toml": "[tool.lambda-celery]\ntimeuot = 3\n"},
            ["--yes"],
            "Did you mean timeout?",
        ),
        (
            {"pyproject.toml": "[tool.lambda-celery]\nform = 'pulumi'\n"},
            ["--yes"],
            "form in [tool.lambda-celery] is 'pulumi'",
        ),
        (
            {"pyproject.toml": "[tool.lambda-celery]\nsnap_start = true\n"},
            ["--yes", "--form", "cloudformation"],
            "choose the form sam, terraform or cdk",
        ),
        ({"proj/tasks.py": "import nothing_of_that_name\n"}, ["--yes"], "nothing_of_that_name"),
        ({"infrastructure": "a file\n"}, ["--yes", "--form", "cdk"], "cannot be"),
    ],
)
def test_bad_input_ends_in_a_sentence_and_nothing_is_written(
    project: Path, files: dict[str, str], arguments: list[str], told: str
) -> None:
    made(project, files)
    before = contents(project)

    done = run(project, *arguments)

    assert done.returncode == 1
    assert told in done.stderr
    assert done.stderr.startswith("Error: ")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert contents(project) == before


def test_an_app_that_is_made_in_a_function_gets_its_settings_by_hand(project: Path) -> None:
    text = PROJECT["proj/celery.py"].replace("app = Celery(", "def make():\n    return Celery(")
    made(project, {"proj/celery.py": text.replace("app.conf", "app = [make()][0]\napp.conf", 1)})
    before = contents(project)

    refused = run(project, "--yes", "--apply")

    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: --apply does not find where the app is made")
    assert contents(project) == before
    shown = run(project, "--yes")
    assert shown.returncode == 0, shown.stderr
    assert "Put these settings where the app is made:\n\nimport os\nimport lambda_celery\n" in (
        shown.stdout
    )
