"""What is done before Lambda freezes the process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import pytest

from lambda_celery.signals import batch_finished
from lambda_runtime import batch_end
from lambda_runtime.deadline import Deadline

suppressed: ContextVar[bool] = ContextVar("suppressed", default=False)


@contextmanager
def receiving(receiver: Callable[..., None]) -> Iterator[None]:
    batch_finished.connect(receiver)
    try:
        yield
    finally:
        batch_finished.disconnect(receiver)


@pytest.fixture
def deadline() -> Deadline:
    return Deadline(SimpleNamespace(get_remaining_time_in_millis=lambda: 3000), 0.2)


def test_what_is_cut_off_leaves_nothing_switched_off(deadline, caplog):
    """OpenTelemetry switches itself off while it exports, and on again unless it is cut off."""

    def hang(**_: Any) -> None:
        suppressed.set(True)
        time.sleep(60)

    with receiving(hang):
        batch_end.finish(None, None, deadline)
    assert "is cut off" in caplog.text
    assert not suppressed.get()


def test_without_time_nothing_is_begun():
    over = Deadline(SimpleNamespace(get_remaining_time_in_millis=lambda: 0), 1)
    begun = []

    def note(**_: Any) -> None:
        begun.append(1)

    with receiving(note):
        batch_end.finish(None, None, over)
    assert begun == []
