"""What holds for the tests of init."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.shared_tasks import none_of_others


@pytest.fixture(autouse=True)
def no_tasks_of_others() -> Iterator[None]:
    with none_of_others():
        yield
