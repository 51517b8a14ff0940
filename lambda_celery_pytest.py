"""The pytest plugin of Lambda Celery.

It is no part of the package, since pytest loads the plugins of all that is installed: it loads
neither Celery nor boto3 before a test asks for the queue.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from celery import Celery

    from lambda_celery.testing import LambdaCeleryQueue


@pytest.fixture
def lambda_celery_app() -> Celery | None:
    """The Celery app whose queue is meant, for a project to override; ``None``: the current one."""
    return None


@pytest.fixture
def lambda_celery_options() -> dict[str, Any]:
    """What the queue is made with, for a project to override: see ``LambdaCeleryQueue``."""
    return {}


@pytest.fixture
def lambda_celery_queue(
    lambda_celery_app: Celery | None, lambda_celery_options: dict[str, Any]
) -> Iterator[LambdaCeleryQueue]:
    """The queue of this test alone, in memory, with the real handler behind it."""
    from lambda_celery.testing import LambdaCeleryQueue

    with LambdaCeleryQueue(lambda_celery_app, **lambda_celery_options) as queue:
        yield queue
