"""The handler in this process, as the tests of the runtime have it."""

from __future__ import annotations

from tests.functional.conftest import make_stack, stack  # noqa: F401 - fixtures
from tests.functional.runtime.conftest import make_runtime  # noqa: F401 - a fixture
