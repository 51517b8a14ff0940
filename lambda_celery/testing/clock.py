"""The clock of the queue, which a test moves on. That of the process is left alone."""

from __future__ import annotations

import time


class Clock:
    """The process's time, and what a test has let pass besides."""

    def __init__(self) -> None:
        #: What has been let pass, in seconds.
        self.passed_seconds = 0.0

    def now(self) -> float:
        """Return the queue's time, in seconds since the epoch."""
        return time.time() + self.passed_seconds
