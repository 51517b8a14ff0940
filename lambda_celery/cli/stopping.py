"""Ending what goes on for long."""

from __future__ import annotations

import signal
import threading


class Stop:
    """Ctrl-C, within the context: it is asked for between two steps, and strikes in none of them.

    Half a step would be done again, and an exception at any line can be swallowed: where a weak
    reference calls back, for one. A second Ctrl-C does not wait.
    """

    def __enter__(self) -> Stop:
        self._asked = threading.Event()
        self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    @property
    def is_asked(self) -> bool:
        """Whether somebody wants it to end."""
        return self._asked.is_set()

    def within(self, seconds: float) -> bool:
        """Wait so many seconds, or until somebody wants an end; return whether that is so."""
        return self._asked.wait(max(0.0, seconds))

    def wait(self) -> None:
        """Wait until somebody wants an end."""
        self._asked.wait()

    def _ask(self, *_: object) -> None:
        if self._asked.is_set():
            raise KeyboardInterrupt
        self._asked.set()
