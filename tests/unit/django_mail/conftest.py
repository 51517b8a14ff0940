"""Django as these tests have it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from django.conf import settings
from django.test import override_settings

if not settings.configured:
    settings.configure(USE_TZ=True, USE_I18N=False, DEFAULT_FROM_EMAIL="default@example.com")


@pytest.fixture
def settings_of_the_function() -> Iterator[Callable[..., None]]:
    """Change settings, as another process has others."""
    with ExitStack() as stack:
        yield lambda **changes: stack.enter_context(override_settings(**changes))
