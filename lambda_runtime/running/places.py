"""Places for asynchronous tasks: so many run at a time, on threads and on the loop together."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Places:
    """*count* places, each for one run. A thread waits for one; a step for the loop is kept."""

    def __init__(self, count: int, start: Callable[[Callable[[], None]], None]) -> None:
        """Have *start* begin a step that has a place, on the event loop."""
        self._free = count
        self._start = start
        self._steps: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Have a place within the context; wait for one before."""
        with self._changed:
            while not self._free:
                self._changed.wait()
            self._free -= 1
        try:
            yield
        finally:
            self._give_back()

    def start(self, step: Callable[[], None]) -> None:
        """Have *step* begin as soon as there is a place, which it keeps to its end."""
        with self._changed:
            if not self._free:
                self._steps.append(step)
                return
            self._free -= 1
        self._begin(step)

    def _begin(self, step: Callable[[], None]) -> None:
        def run() -> None:
            try:
                step()
            finally:
                self._give_back()

        self._start(run)

    def _give_back(self) -> None:
        with self._changed:
            if not self._steps:
                self._free += 1
                self._changed.notify()
                return
            step = self._steps.popleft()
        self._begin(step)
