"""Contact with CPython's private parts: the event loop that runs on a thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hidden_loop() -> Iterator[None]:
    """Have no event loop run on this thread, to all appearances, within the context."""
    from asyncio import events  # where one runs, it is there

    loop = events._get_running_loop()
    events._set_running_loop(None)
    try:
        yield
    finally:
        events._set_running_loop(loop)
