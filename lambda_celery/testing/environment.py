"""An environment of Lambda's, played by this process: the real handler, one message at a time."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from celery import Celery, signals

from lambda_celery.celery_hooks.amqp import routing_of
from lambda_celery.celery_hooks.in_tests import as_in_worker, body_replaced
from lambda_celery.conf import Settings
from lambda_celery.testing.django_connections import hidden, kept_open
from lambda_runtime.batch import Batch
from lambda_runtime.deadline import Deadline
from lambda_runtime.invocation import Handler
from lambda_runtime.messages.delivery import Delivery
from lambda_runtime.messages.note import Note
from lambda_runtime.running.limits.watchdog import WAKE
from lambda_runtime.running.threads import Lane

#: What Celery's Django fixup goes by; a function sets it for good.
_SKIP_CHECKS = "CELERY_SKIP_CHECKS"


@dataclass
class Run:
    """What is known of an invocation with one message."""

    #: What the handler has returned.
    answer: Any
    note: Note


@dataclass
class _Context:
    ends_at: float
    aws_request_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self.ends_at - time.time()) * 1000))


class _OnThisThread:
    """Runs lanes on the test's thread, asynchronous ones too: there is its transaction."""

    dies_with_its_tasks = True

    def run(self, batch: Batch, lanes: list[Lane]) -> None:
        for lane in lanes:
            batch.run_lane(lane)

    def run_alone(self, batch: Batch, lane: Lane) -> None:
        batch.run_lane(lane, is_alone=True)


class _ObservedHandler(Handler):
    deliveries: list[Delivery]

    def __init__(self, app: Celery, settings: Settings) -> None:
        super().__init__(app, settings)
        self._place = _OnThisThread()

    def keep_what_is_loaded(self) -> None:
        """Keep nothing: a test's process has garbage of other tests."""

    def tell(self, deliveries: list[Delivery], deadline: Deadline) -> None:
        super().tell(deliveries, deadline)
        self.deliveries = deliveries


class Environment:
    """The handler of *app*, as a cold start makes it."""

    def __init__(self, app: Celery, settings: Settings) -> None:
        self._app = app
        routing = routing_of(app)
        was_in_function = routing is not None and routing.is_in_function
        with _starting(), hidden(), as_in_worker():
            self._handler = _ObservedHandler(app, settings)
        if routing is not None:
            routing.is_in_function = was_in_function  # it is while it runs

    def invoke(
        self,
        event: Mapping[str, Any],
        *,
        seconds: float,
        task: str,
        around: Callable[[Callable[..., Any]], Any],
    ) -> Run:
        """Call the handler with an *event* of one message; return what has become of that.

        :param seconds: the function's time-out.
        :param task: the name of the message's task.
        :param around: makes of the task's body what is run in its place.
        :raises ConfigurationError: as the handler does.
        """
        with ExitStack() as stack:
            for each in (kept_open(), as_in_worker(), self._in_function(), _signal_given_back()):
                stack.enter_context(each)
            if task in self._app.tasks:
                stack.enter_context(body_replaced(self._app.tasks[task], around))
            answer = self._handler(event, _Context(time.time() + seconds))
        (delivery,) = self._handler.deliveries
        return Run(answer, delivery.note)

    @contextmanager
    def _in_function(self) -> Iterator[None]:
        routing = routing_of(self._app)
        if routing is None:
            yield
            return
        before, routing.is_in_function = routing.is_in_function, True
        try:
            yield
        finally:
            routing.is_in_function = before


@contextmanager
def _signal_given_back() -> Iterator[None]:
    """Give the signal of time limits back to who has it in the test's process, as debuggers do."""
    before = signal.getsignal(WAKE)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread() and before is not None:
            signal.signal(WAKE, before)


@contextmanager
def _starting() -> Iterator[None]:
    """Leave logging, and the environment's variables, to the test."""
    before = os.environ.get(_SKIP_CHECKS)
    signals.setup_logging.connect(_leave_alone, weak=False)
    try:
        yield
    finally:
        signals.setup_logging.disconnect(_leave_alone)
        if before is None:
            os.environ.pop(_SKIP_CHECKS, None)


def _leave_alone(**_: Any) -> None:
    """Configure no logging, as who receives this signal does."""
