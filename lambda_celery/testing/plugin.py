"""The pytest plugin. It loads nothing before a test asks for the queue."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from lambda_celery.testing.queue import LambdaCeleryQueue


@pytest.fixture
def lambda_celery_app() -> Any:
    """The Celery app whose queue is meant, for a project to override; the current one."""
    return None


@pytest.fixture
def lambda_celery_options() -> dict[str, Any]:
    """What the queue is made with, for a project to override: see ``LambdaCeleryQueue``."""
    return {}


@pytest.fixture
def lambda_celery_queue(
    lambda_celery_app: Any, lambda_celery_options: dict[str, Any]
) -> Iterator[LambdaCeleryQueue]:
    """The queue of this test alone, in memory, with the real handler behind it."""
    from lambda_celery.testing.queue import LambdaCeleryQueue

    with LambdaCeleryQueue(lambda_celery_app, **lambda_celery_options) as queue:
        yield queue
