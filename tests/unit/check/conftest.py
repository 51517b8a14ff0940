"""The check looks at the process that it is in: other tests have Django there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.django_settings import without_django


@pytest.fixture(autouse=True)
def _without_django() -> Iterator[None]:
    with without_django():
        yield
