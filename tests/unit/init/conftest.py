"""What holds for the tests of init."""

from __future__ import annotations

import pytest
from celery import _state


@pytest.fixture(autouse=True)
def no_tasks_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery gives each app the shared tasks of all others: here, of other tests."""
    its_own = {
        each for each in _state._on_app_finalizers if each.__module__ == "celery.app.builtins"
    }
    monkeypatch.setattr(_state, "_on_app_finalizers", its_own)
