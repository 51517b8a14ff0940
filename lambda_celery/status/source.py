"""Where figures and attempts are had from."""

from __future__ import annotations

from typing import Protocol

from lambda_celery.status.attempts import Attempts
from lambda_celery.status.figures import Status


class Source(Protocol):
    """Tells what the app does. What it cannot read, it leaves out in a sentence."""

    def status(self) -> Status:
        """Return the figures as they are now."""

    def attempts(self, task_id: str) -> Attempts:
        """Return the attempts of the task, and of all with the same root."""
