"""Django as these tests have it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from django.test import override_settings

import tests.django_settings  # noqa: F401 - before what reads them
from lambda_celery.django.mail import tasks

assert tasks.deliver  # registered, as the app's ready() does


@pytest.fixture
def settings_of_the_function() -> Iterator[Callable[..., None]]:
    """Change settings, as another process has others."""
    with ExitStack() as stack:
        yield lambda **changes: stack.enter_context(override_settings(**changes))
