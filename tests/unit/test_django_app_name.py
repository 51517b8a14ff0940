"""By which name ``manage.py lambda`` finds the app that a Django project has loaded."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery.app import app_or_default

from lambda_celery.django.management.app_name import loaded_app_name


@pytest.fixture(autouse=True)
def current_app_stays() -> Iterator[None]:
    before = app_or_default()
    yield
    before.set_current()


def load(monkeypatch: pytest.MonkeyPatch, folder: Path, files: dict[str, str], module: str) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(folder)
    package = module.partition(".")[0]
    for name in (package, f"{package}.celery", f"{package}.setup"):
        # Whatever the test imports by that name is forgotten at its end.
        monkeypatch.setitem(sys.modules, name, sys)
        del sys.modules[name]
    importlib.import_module(module)


def test_a_package_that_imports_its_app_is_named_as_people_name_it(monkeypatch, tmp_path):
    files = {
        "shop_of_test/__init__.py": "from .celery import app as celery_app\n",
        "shop_of_test/celery.py": "from celery import Celery\napp = Celery('other-name')\n",
    }
    load(monkeypatch, tmp_path, files, "shop_of_test")
    assert loaded_app_name() == "shop_of_test"


def test_what_is_no_module_is_passed_over(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "forbidden_of_test", None)
    monkeypatch.setitem(sys.modules, "odd_of_test", object())
    files = {"post_of_test/__init__.py": "from celery import Celery\napp = Celery('post')\n"}
    load(monkeypatch, tmp_path, files, "post_of_test")
    assert loaded_app_name() == "post_of_test"


def test_an_app_that_is_one_of_two_is_named_by_its_variable(monkeypatch, tmp_path):
    files = {
        "mail_of_test/__init__.py": "",
        "mail_of_test/setup.py": "from celery import Celery\napp = Celery('a')\nmine = Celery('b')",
    }
    load(monkeypatch, tmp_path, files, "mail_of_test.setup")
    assert loaded_app_name() == "mail_of_test.setup:mine"


def test_celerys_default_app_is_nobodys(monkeypatch):
    from celery import _state

    monkeypatch.setattr(_state._tls, "current_app", None)
    assert loaded_app_name() is None
