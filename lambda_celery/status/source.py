"""Where figures and attempts are had from."""

from __future__ import annotations

import threading
from typing import Protocol

from celery import Celery

from lambda_celery.status import logs
from lambda_celery.status.attempts import Attempts
from lambda_celery.status.figures import Status
from lambda_celery.status.gathering import Gatherer


class Source(Protocol):
    """Tells what the app does. What it cannot read, it leaves out in a sentence."""

    def status(self) -> Status:
        """Return the figures as they are now."""

    def attempts(self, task_id: str) -> Attempts:
        """Return the attempts of the task, and of all with the same root."""


class OnAWS:
    """Asks SQS, Lambda and CloudWatch.

    :raises ConfigurationError: the settings of the app name no queue.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._gatherer = Gatherer(app, has_durations=True)
        self._lock = threading.Lock()  # several may look at the page

    def status(self) -> Status:
        """Return the figures as they are now."""
        with self._lock:
            return self._gatherer.gather()

    def attempts(self, task_id: str) -> Attempts:
        """Return the attempts of the task, and of all with the same root."""
        return logs.attempts_of(self._app, task_id)


def source_of(app: Celery) -> Source:
    """Return where the figures of *app* are had from.

    :raises ConfigurationError: its settings name no queue.
    """
    return OnAWS(app)
