"""A task's body is followed to what it uses, however it is declared."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from lambda_celery.check.doctor import check
from lambda_celery.check.model import CheckError, Grade
from tests.unit.check.project import facts_of, marked_lines

ROOT = Path(__file__).parents[3]
HELPERS = """
import subprocess as sp

def write(rows):
    with open("report.csv", "w") as f:  # here
        f.write(rows)

def by_way_of_another(rows):
    return write(rows)

class Exporter:
    def __init__(self, rows):
        self.rows = rows
    def export(self):
        self._write()
    def _write(self):
        write(self.rows)

class Opener:
    def __enter__(self):
        write("")
    def __exit__(self, *args): pass

exporter = Exporter("")
"""
WAYS = {
    "a function of another module": "from helpers import write\n@app.task\ndef f(): write('')",
    "the module's attribute": "import helpers as h\n@app.task\ndef f(): h.write('')",
    "two steps": "import helpers\n@app.task\ndef f(): helpers.by_way_of_another('')",
    "an import in the function": "@app.task\ndef f():\n"
    "    from helpers import write\n    write('')",
    "partial": "from functools import partial\nfrom helpers import write\n"
    "@app.task\ndef f():\n    g = partial(write, '')\n    g()",
    "handed on": "from helpers import write\n@app.task\ndef f(x): return map(write, x)",
    "a method": "from helpers import Exporter\n@app.task\ndef f(): Exporter('').export()",
    "a method of a module's object": "from helpers import exporter\n"
    "@app.task\ndef f(): exporter.export()",
    "with": "from helpers import Opener\n@app.task\ndef f():\n    with Opener(): pass",
    "a decorator with wraps": "from functools import wraps\nfrom helpers import write\n"
    "def d(g):\n    @wraps(g)\n    def w(*a): return g(*a)\n    return w\n"
    "@app.task\n@d\ndef f(): write('')",
    "a decorator without": "from helpers import write\n"
    "def d(g):\n    def w(*a): return g(*a)\n    w.__name__ = g.__name__\n    return w\n"
    "@app.task\n@d\ndef f(): write('')",
    "a decorator that does it": "from functools import wraps\nfrom helpers import write\n"
    "def d(g):\n    @wraps(g)\n    def w(*a):\n        write('')\n        return g(*a)\n"
    "    return w\n@app.task\n@d\ndef f(): pass",
    "autoretry": "from helpers import write\n@app.task(autoretry_for=(OSError,))\n"
    "def f(): write('')",
    "shared_task": "from celery import shared_task\nfrom helpers import write\n"
    "@shared_task\ndef f(): write('')",
    "our decorator": "from lambda_celery import task\nfrom helpers import write\n"
    "@task\ndef f(): write('')",
    "async": "from lambda_celery import task\nfrom helpers import write\n"
    "@task\nasync def f(): write('')",
    "a class": "from celery import Task\nfrom helpers import write\nclass T(Task):\n"
    "    name = 'f'\n    def run(self): self.do()\n    def do(self): write('')\n"
    "app.register_task(T())",
    "a hook of the base class": "from celery import Task\nfrom helpers import write\n"
    "class B(Task):\n    def on_failure(self, *args): write('')\n"
    "@app.task(base=B)\ndef f(): pass",
    "__call__ of the base class": "from celery import Task\nfrom helpers import write\n"
    "class B(Task):\n    def __call__(self, *args):\n        write('')\n"
    "        return super().__call__(*args)\n@app.task(base=B)\ndef f(): pass",
    "another task, called as a function": "from helpers import write\n"
    "@app.task\ndef g(): write('')\n@app.task\ndef f(): g()",
    "a function in the function": "from helpers import write\n"
    "@app.task\ndef f():\n    def g(): write('')\n    g()",
    "a table of functions": "from helpers import write\nHANDLERS = {'csv': [write]}\n"
    "@app.task\ndef f(kind): HANDLERS[kind][0]('')",
    "a method of an argument": "import helpers\n@app.task\ndef f(x): x.export()",
    "a method of what a project's function returns": "import helpers\ndef g(): return x\n"
    "@app.task\ndef f(): g().export()",
    "a method of a row of a model that is looked up": "import helpers\n"
    "from django.apps import apps\n@app.task\ndef f(name):\n"
    "    row = apps.get_model(name).objects.get()\n    row.export()",
    "a lambda": "from helpers import write\n@app.task\ndef f(): return (lambda: write(''))()",
}


@pytest.fixture(autouse=True)
def _in_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("way", WAYS)
def test_a_file_is_found_by_way_of(way, tmp_path):
    with facts_of(tmp_path, WAYS[way], helpers=HELPERS) as facts:
        report = check(facts, ["local-file"])

    graded = {name: report.grade_of(name) for name in report.tasks if name.endswith("f")}
    assert set(graded.values()) == {Grade.RED}
    assert {(each.place.path, each.place.line) for each in report.findings} == marked_lines(
        tmp_path
    )


MODELS = """
from django.db import models
from helpers import write

class Rows(models.QuerySet):
    def exported(self): write('')

class Shelf(models.Model):
    class Meta:
        app_label = 'library'
    objects = Rows.as_manager()
    kind = models.CharField(choices=[('a', 'A')], max_length=1)

class Book(models.Model):
    class Meta:
        app_label = 'library'
    shelf = models.ForeignKey(Shelf, models.CASCADE, related_name='books')
    def print_out(self): write('')
"""
OF_MODELS = {
    "a manager": "from shelves import Shelf\n@app.task\ndef f(): Shelf.objects.exported()",
    "a model that is looked up": "import shelves\nfrom django.apps import apps\n@app.task\n"
    "def f():\n    Found = apps.get_model('library', 'Shelf')\n    Found.objects.exported()",
    "a relation": "from shelves import Book\n@app.task\n"
    "def f(x): Book.objects.get(pk=x).shelf.__class__.objects.exported()",
    "a relation from its other end": "from shelves import Shelf\n@app.task\ndef f(x):\n"
    "    for each in Shelf.objects.get(pk=x).books.all(): each.print_out()",
    # Django's own method on the project's model was looked for again and again.
    "a method that Django gives a model": "from shelves import Shelf\n@app.task\ndef f(x):\n"
    "    Shelf.objects.get(pk=x).get_kind_display()\n    Shelf.objects.exported()",
}


@pytest.mark.parametrize("way", OF_MODELS)
def test_django_models_are_followed_by_way_of(way, tmp_path):
    program = f"""
        import django
        from django.conf import settings
        settings.configure(DATABASES={{"default": {{"ENGINE": "django.db.backends.sqlite3"}}}})
        django.setup()
        from pathlib import Path
        from lambda_celery.check.doctor import check
        from tests.unit.check.project import facts_of
        from tests.unit.check.test_following import HELPERS, MODELS, OF_MODELS
        with facts_of(
            Path.cwd(), OF_MODELS[{way!r}], helpers=HELPERS, shelves=MODELS
        ) as facts:
            print([finding.grade.word for finding in check(facts, ["local-file"]).findings])
    """
    # In a process of its own: settings and models are Django's for as long as it runs.
    done = subprocess.run(
        [sys.executable, "-c", dedent(program)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.stdout == "['red']\n", done.stderr


def test_what_a_task_sends_on_is_not_its_own(tmp_path):
    code = "from helpers import write\n@app.task\ndef g(): write('')\n@app.task\ndef f(): g.delay()"
    with facts_of(tmp_path, code, helpers=HELPERS) as facts:
        report = check(facts, ["local-file"])

    assert {name.rpartition(".")[2]: report.grade_of(name) for name in report.tasks} == {
        "f": Grade.GREEN, "g": Grade.RED,
    }  # fmt: skip


def test_a_plain_task_is_green_without_a_word(tmp_path):
    code = "@app.task(acks_late=True, max_retries=3)\ndef add(x, y):\n    return x + y"
    with facts_of(tmp_path, code) as facts:
        report = check(facts)

    assert report.findings == ()
    assert [report.grade_of(each) for each in report.tasks] == [Grade.GREEN]


@pytest.mark.parametrize("line", ["call", "def"])
def test_a_comment_switches_a_rule_off(line, tmp_path):
    comment = "  # lambda-check: ignore[subprocess, rate-limit]"
    code = (
        f"import os\n@app.task\ndef f():{comment if line == 'def' else ''}\n"
        f"    os.system('ls'){comment if line == 'call' else ''}\n"
        "@app.task\ndef g():\n    os.system('ls')\n"
    )
    with facts_of(tmp_path, code) as facts:
        report = check(facts, ["subprocess"])

    assert [each.subject.rpartition(".")[2] for each in report.findings] == ["g"]
    assert report.ignored == 1


def test_a_rule_is_switched_off_in_pyproject(tmp_path):
    code = "import os\n@app.task\ndef f(): os.system('ls')"
    stanza = '[tool.lambda-celery]\ncheck = {ignore = ["subprocess"]}\n'
    with facts_of(tmp_path, code, stanza) as facts:
        assert check(facts, ["subprocess"]).findings == ()


@pytest.mark.parametrize(
    ("code", "stanza"),
    [
        ("@app.task\ndef f(): pass  # lambda-check: ignore[subproces]", ""),
        ("", '[tool.lambda-celery]\ncheck = {ignore = ["subproces"]}\n'),
    ],
)
def test_an_unknown_id_is_an_error(code, stanza, tmp_path):
    with (
        facts_of(tmp_path, code, stanza) as facts,
        pytest.raises(CheckError, match=r"'subproces'.*Did you mean 'subprocess'"),
    ):
        check(facts)


@pytest.mark.parametrize("value", ['"subprocess"', "{ignore = 1}", "{ingore = []}"])
def test_a_stanza_of_another_kind_is_an_error(value, tmp_path):
    with (
        facts_of(tmp_path, "", f"[tool.lambda-celery]\ncheck = {value}\n") as facts,
        pytest.raises(CheckError, match="must be as"),
    ):
        check(facts)


def test_a_pyproject_that_is_no_toml_is_an_error(tmp_path):
    with pytest.raises(CheckError, match="cannot be read"), facts_of(tmp_path, "", "[tool"):
        pass
