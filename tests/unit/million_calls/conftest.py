"""What the tests of examples/million_calls have in common."""

from __future__ import annotations

from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[3] / "examples" / "million_calls"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLE)


class Objects:
    """A bucket in memory."""

    def __init__(self, **objects: str) -> None:
        self.objects = {key: content.encode() for key, content in objects.items()}

    def size(self, key: str) -> int:
        return len(self.objects[key])

    def read(self, key: str, begin: int = 0, end: int | None = None) -> bytes:
        return self.objects[key][begin:end]

    def write(self, key: str, content: bytes) -> None:
        self.objects[key] = content


@pytest.fixture
def bucket() -> Objects:
    """With a CSV of ten rows."""
    return Objects(csv="path\n" + "".join(f"/members/{n}\n" for n in range(1, 11)))
