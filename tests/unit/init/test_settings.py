"""The settings: where they are put, and that the module is right with them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from celery import Celery

from lambda_celery.init.settings import Place, added, are_missing

MODULE = Place(Path("proj/celery.py"), "queue_app")
DJANGO = Place(Path("proj/settings.py"), None)


def make_app(**conf) -> Celery:
    app = Celery("proj", broker="memory://", set_as_current=False)
    app.conf.update(conf)
    return app


def test_they_come_after_what_is_there_and_before_what_a_program_does():
    text = '''"""The app."""
from __future__ import annotations

from celery import Celery

queue_app = Celery("proj")


if __name__ == "__main__":
    queue_app.start()
'''
    made = added(text, MODULE, ["mail.*"], keeps_results=False)

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
    assert "RESULT_BACKEND" not in made


def test_in_django_the_app_is_installed_once():
    text = 'import os\n\nINSTALLED_APPS = ["shop"]\n'
    made = added(text, DJANGO, ["mail.*"], keeps_results=True)

    assert made.startswith(text)
    assert made.count("import os") == 1
    settings: dict[str, object] = {}
    exec(made, settings)
    assert settings["INSTALLED_APPS"] == ["shop", "lambda_celery.django"]
    assert settings["CELERY_LAMBDA_TASKS"] == ["mail.*"]
    assert settings["CELERY_LAMBDA_ENABLED"] is False
    assert "CELERY_RESULT_BACKEND" not in settings

    there = 'import os\nINSTALLED_APPS = ["lambda_celery.django"]\n'
    assert added(there, DJANGO, [], keeps_results=False).count("INSTALLED_APPS") == 1


@pytest.mark.parametrize("name", ["LAMBDA_CELERY_QUEUE_URL", "LAMBDA_CELERY_QUEUES"])
def test_tasks_move_where_the_stacks_variables_are(monkeypatch, name):
    monkeypatch.setenv(name, "https://sqs.eu-west-1.amazonaws.com/123456789012/mail")
    monkeypatch.setenv("RESULT_BACKEND", "lambda-dynamodb:///results")
    settings: dict[str, object] = {"INSTALLED_APPS": []}

    exec(added("", DJANGO, ["a", "b" * 70], keeps_results=True), settings)

    assert settings["CELERY_LAMBDA_ENABLED"] is True
    assert settings["CELERY_LAMBDA_TASKS"] == ["a", "b" * 70]
    assert settings["CELERY_RESULT_BACKEND"] == "lambda-dynamodb:///results"


def test_line_ends_stay():
    made = added("import os\r\nx = 1\r\n", DJANGO, [], keeps_results=False)

    assert "\n" not in made.replace("\r\n", "")


def test_who_has_said_something_is_left_alone():
    assert are_missing(make_app())
    assert not are_missing(make_app(lambda_queue_url="https://sqs.eu-west-1.amazonaws.com/1/mail"))
    app = make_app()

    @app.task(name="mail.send", shared=False, lambda_celery=True)
    def send():
        pass

    assert not are_missing(app)
