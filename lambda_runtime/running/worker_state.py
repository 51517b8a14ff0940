"""``celery.worker.state``, as a worker keeps it: what is active, and how many there have been."""

from __future__ import annotations

import threading

from celery.worker import state
from celery.worker.request import Request

#: A worker keeps it on one thread.
_keeping = threading.Lock()


class Counted:
    """A context in which *request* is active. It is counted, and so is how its run ended."""

    with_success = False

    def __init__(self, request: Request) -> None:
        self._request = request

    def __enter__(self) -> Counted:
        with _keeping:
            state.task_accepted(self._request)
        return self

    def __exit__(self, *_: object) -> None:
        with _keeping:
            state.task_ready(self._request, successful=self.with_success)
