"""A task's body is followed to what it uses, however it is declared."""

from __future__ import annotations

import pytest

from lambda_celery.check.doctor import check
from lambda_celery.check.model import CheckError, Grade
from tests.unit.check.project import facts_of, marked_lines

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
