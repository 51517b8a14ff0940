"""The settings: where they are put, and that the module is right with them."""

from __future__ import annotations

import ast
import codecs
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from celery import Celery

from lambda_celery.init import settings as init_settings
from lambda_celery.init.changes import Change
from lambda_celery.init.python_source import PythonSource, UnfitSourceError
from lambda_celery.init.settings import LooseSettings, Place, are_missing, proposed
from lambda_celery.init.writing import write

MODULE = Place(Path("proj/celery.py"), "queue_app")
DJANGO = Place(Path("proj/settings.py"), None)


def make_app(**conf) -> Celery:
    app = Celery("proj", broker="memory://", set_as_current=False)
    app.conf.update(conf)
    return app


def source(text: str | bytes) -> PythonSource:
    with TemporaryDirectory() as folder:
        path = Path(folder, "module.py")
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return PythonSource.read(path)


def added(text: str | bytes, place: Place, tasks: list[str]) -> str:
    return init_settings.added(source(text), place, tasks)


def test_they_come_after_what_is_there_and_before_what_a_program_does():
    text = '''"""The app."""
from __future__ import annotations

from celery import Celery

queue_app = Celery("proj")


if __name__ == "__main__":
    queue_app.start()
'''
    made = added(text, MODULE, ["mail.*"])

    ast.parse(made)
    kept = iter(made.splitlines())
    assert all(line in kept for line in text.splitlines())
    order = [
        made.index(each)
        for each in (
            "from celery import Celery",
            "import os\nimport lambda_celery\n",
            'queue_app = Celery("proj")',
            "lambda_celery.install(queue_app)",
            'queue_app.conf.lambda_tasks = ["mail.*"]',
            "queue_app.conf.lambda_enabled = ",
            "\n\n\nif __name__",
        )
    ]
    assert order == sorted(order)


def test_in_django_the_app_is_installed_once():
    text = 'import os\n\nINSTALLED_APPS = ["shop"]\n'
    made = added(text, DJANGO, ["mail.*"])

    assert made.startswith(text)
    assert made.count("import os") == 1
    settings: dict[str, object] = {}
    exec(made, settings)
    assert settings["INSTALLED_APPS"] == ["shop", "lambda_celery.django"]
    assert settings["CELERY_LAMBDA_TASKS"] == ["mail.*"]
    assert settings["CELERY_LAMBDA_ENABLED"] is False

    there = 'import os\nINSTALLED_APPS = ["lambda_celery.django"]\n'
    assert added(there, DJANGO, []).count("INSTALLED_APPS") == 1


@pytest.mark.parametrize("name", ["LAMBDA_CELERY_QUEUE_URL", "LAMBDA_CELERY_QUEUES"])
def test_tasks_move_where_the_stacks_variables_are(monkeypatch, name):
    monkeypatch.setenv(name, "https://sqs.eu-west-1.amazonaws.com/123456789012/mail")
    settings: dict[str, object] = {}

    exec(added("INSTALLED_APPS = []\n", DJANGO, ["a", "b" * 70]), settings)

    assert settings["CELERY_LAMBDA_ENABLED"] is True
    assert settings["CELERY_LAMBDA_TASKS"] == ["a", "b" * 70]


@pytest.mark.parametrize(
    "text",
    [
        "import os\r\nINSTALLED_APPS = []\r\n",
        "import os\r\nINSTALLED_APPS = []\nA = 1\rB = 2\r\n",
        'INSTALLED_APPS = ["a\u2028b\x85c", "d\x1ce"]\n\x0c\nA = """\x0b\u2029"""\n',
        'import json, sys; A = """one\ntwo"""\nINSTALLED_APPS = []',
        '"""Settings."""; A = """one\ntwo"""\nINSTALLED_APPS = []\n\n\n',
        "# The site's.\nINSTALLED_APPS = []\nif __name__ == '__main__':\n    pass\n",
        "from .base import *\n",
        "from .base import INSTALLED_APPS as theirs\nif theirs:\n    INSTALLED_APPS = theirs\n",
    ],
)
def test_each_line_that_is_there_stays_as_it_is(text):
    made = added(text, DJANGO, ["mail.*"])

    ast.parse(made)
    kept = iter(made)
    assert all(each in kept for each in text)
    statements = [ast.dump(each) for each in ast.parse(text).body]
    assert [each for each in map(ast.dump, ast.parse(made).body) if each in statements] == (
        statements
    )


def test_new_lines_end_as_the_first_one_does():
    made = added("import os\r\nINSTALLED_APPS = []\r\n", DJANGO, [])

    assert "\n" not in made.replace("\r\n", "")


@pytest.mark.parametrize(
    "text",
    [
        'class Base(Configuration):\n    INSTALLED_APPS = ["shop"]\n',
        'from .base import *\n\nclass Base(Configuration):\n    INSTALLED_APPS = ["shop"]\n',
        "def apps():\n    INSTALLED_APPS = []\n",
        "import json \\\n\nINSTALLED_APPS = []\n",
    ],
)
def test_a_module_that_cannot_have_them_is_left_alone(text):
    with pytest.raises(UnfitSourceError):
        added(text, DJANGO, ["mail.*"])


@pytest.mark.parametrize(
    ("text", "is_fit"),
    [
        (codecs.BOM_UTF8 + b"queue_app = Celery('\xc3\xa9')\n", True),
        (b"# -*- coding: latin-1 -*-\nqueue_app = Celery('\xe9')\n", True),
        (b"# The app.\n# vim: fileencoding=latin-1\nqueue_app = Celery('\xe9')\n", True),
        (b"queue_app = Celery('\xe9')\n", False),
        (b"# coding: of-nobody\nqueue_app = Celery('e')\n", False),
        (b"queue_app = Celery('e')\0\n", False),
    ],
)
def test_a_module_keeps_its_encoding_or_the_settings_are_shown(tmp_path, monkeypatch, text, is_fit):
    path = tmp_path / "celery.py"
    path.write_bytes(text)
    place = Place(path, "queue_app")
    monkeypatch.setattr(init_settings, "place_of", lambda *_: place)

    made = proposed(make_app(), tmp_path, ["mail.*"])

    if not is_fit:
        assert isinstance(made, LooseSettings)
        assert "lambda_celery.install(queue_app)" in made.text
        return
    assert isinstance(made, Change)
    write([made])
    after = path.read_bytes()
    assert after.startswith(text.partition(b"queue_app")[0])
    assert text.partition(b"queue_app")[2] in after
    assert "lambda_celery.install(queue_app)" in PythonSource.read(path).text
    assert PythonSource.read(path).encoding == made.encoding


def test_what_the_encoding_does_not_have_is_shown(tmp_path, monkeypatch):
    path = tmp_path / "celery.py"
    path.write_bytes(b"# coding: latin-1\nqueue_app = Celery('\xe9')\n")
    monkeypatch.setattr(init_settings, "place_of", lambda *_: Place(path, "queue_app"))

    assert isinstance(
        proposed(make_app(), tmp_path, ["\u043f\u043e\u0447\u0442\u0430.*"]), LooseSettings
    )


def test_who_has_said_something_is_left_alone():
    assert are_missing(make_app())
    assert not are_missing(make_app(lambda_queue_url="https://sqs.eu-west-1.amazonaws.com/1/mail"))
    app = make_app()

    @app.task(name="mail.send", shared=False, lambda_celery=True)
    def send():
        pass

    assert not are_missing(app)
