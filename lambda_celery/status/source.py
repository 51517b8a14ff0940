"""Where figures and attempts are had from."""

from __future__ import annotations

import os
import threading
from typing import Protocol

from celery import Celery

from lambda_celery.aws.loopback import loopback_port
from lambda_celery.conf import settings_of
from lambda_celery.status import logs
from lambda_celery.status.attempts import Attempts
from lambda_celery.status.figures import Status
from lambda_celery.status.gathering import Gatherer
from lambda_celery.status.local_run import LocalRun


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

    def __init__(self, app: Celery, *, has_durations: bool) -> None:
        self._app = app
        self._gatherer = Gatherer(app, has_durations)
        self._lock = threading.Lock()  # several may look at the page

    def status(self) -> Status:
        """Return the figures as they are now."""
        with self._lock:
            return self._gatherer.gather()

    def attempts(self, task_id: str) -> Attempts:
        """Return the attempts of the task, and of all with the same root."""
        return logs.attempts_of(self._app, task_id)


def source_of(app: Celery, *, has_durations: bool = True) -> Source:
    """Return where the figures of *app* are had from: AWS, or a local run of it.

    It is the local run where the endpoint is on this machine and one answers there.

    :param has_durations: whether to ask CloudWatch how long single runs took, too.
    :raises ConfigurationError: its settings cannot be read, or name no queue.
    """
    port = emulator_port(app)
    if port is not None and (run := LocalRun.at(port + 1)) is not None:
        return run
    return OnAWS(app, has_durations=has_durations)


def emulator_port(app: Celery) -> int | None:
    """Return the port of the endpoint of *app*; ``None`` where that is not on this machine."""
    endpoint = settings_of(app).endpoint_url or os.environ.get("AWS_ENDPOINT_URL")
    return loopback_port(endpoint) if endpoint else None
