"""Several tasks of a batch at a time, on threads.

A batch is cut into lanes: a FIFO queue's message group is one, whose messages run one after
the other, and any other message is one by itself. Lanes of asynchronous tasks run beside the
others, under a bound of their own.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial

from celery import Celery

from lambda_celery.celery_hooks.registry import async_names
from lambda_runtime.messages.delivery import Delivery
from lambda_runtime.messages.request import task_name
from lambda_runtime.python_hooks import abandon
from lambda_runtime.running.connections import close_database_connections

logger = logging.getLogger(__name__)

Lane = list[Delivery]


def lanes(deliveries: Iterable[Delivery]) -> list[Lane]:
    """Cut a batch into what can run at the same time."""
    cut: list[Lane] = []
    groups: dict[str, Lane] = {}
    for delivery in deliveries:
        group = delivery.fifo_group
        if group in groups:
            groups[group].append(delivery)
            continue
        cut.append([delivery])
        if group is not None:
            groups[group] = cut[-1]
    return cut


class Pool:
    """Runs lanes, *concurrency* at a time, and beside them *async_concurrency* asynchronous ones.

    With a *concurrency* of one, on the thread of the caller: nobody's code has to be
    thread-safe, and signals enforce time limits. Else on threads that stay for the life of the
    process, and with them what Celery keeps for each thread, such as the result back end's
    connections. An asynchronous task always has such a thread, to wait there for its coroutine.
    """

    def __init__(self, app: Celery, concurrency: int, async_concurrency: int) -> None:
        self._app = app
        self._threads = _Threads(app, concurrency, "task")
        self._async_threads = _Threads(app, async_concurrency, "async-task")

    def run(
        self,
        batch: list[Lane],
        run_lane: Callable[[Lane], None],
        seconds_left: Callable[[], float] = lambda: math.inf,
        may_leave: Callable[[], bool] = lambda: False,
    ) -> None:
        """Call *run_lane* for each lane of *batch*; return when all are through.

        Or when no *seconds_left*, if those that hang then *may_leave*: their threads are left to
        themselves. What it raises for one lane is raised when the others are through: an answer
        that leaves while they run says nothing true of them.
        """
        errors: list[BaseException] = []
        asynchronous, others = self._apart(batch)
        working = self._async_threads.start(asynchronous, run_lane, errors)
        if self._threads.count == 1:
            _run_all(deque(others), run_lane, errors)
        else:
            working += self._threads.start(others, run_lane, errors)
        left = seconds_left()
        hanging = wait(working, None if math.isinf(left) else max(left, 0)).not_done
        if hanging and not may_leave():
            wait(working)
        elif hanging:
            logger.error(
                "%d threads do not end with the invocation: what follows a task on them waits for "
                "something that does not answer. They are left to themselves.",
                len(hanging),
            )
            self._threads.renew()
            self._async_threads.renew()
        if errors:
            raise errors[0]

    def _apart(self, batch: list[Lane]) -> tuple[list[Lane], list[Lane]]:
        """Return the lanes of asynchronous tasks alone, and the others."""
        names = async_names(self._app)
        if not names:
            return [], batch
        apart: tuple[list[Lane], list[Lane]] = [], []
        for lane in batch:
            is_async = all(task_name(each) in names for each in lane)
            apart[0 if is_async else 1].append(lane)
        return apart


class _Threads:
    def __init__(self, app: Celery, count: int, name: str) -> None:
        self.count = count
        self._make = partial(
            ThreadPoolExecutor, count, thread_name_prefix=name, initializer=app.set_current
        )
        self._executor = self._make()
        self._waiting: list[deque[Lane]] = []

    def renew(self) -> None:
        """Have other threads, and leave those that are there to themselves."""
        for lanes in self._waiting:
            lanes.clear()  # else they would go on with these, one day
        self._executor.shutdown(wait=False, cancel_futures=True)
        abandon(self._executor)
        self._executor = self._make()

    def start(
        self, lanes: list[Lane], run_lane: Callable[[Lane], None], errors: list[BaseException]
    ) -> list[Future[None]]:
        waiting = deque(lanes)
        self._waiting = [waiting]
        return [
            self._executor.submit(_work, waiting, run_lane, errors)
            for _ in range(min(self.count, len(lanes)))
        ]


def _work(
    waiting: deque[Lane], run_lane: Callable[[Lane], None], errors: list[BaseException]
) -> None:
    try:
        _run_all(waiting, run_lane, errors)
    finally:
        # Django keeps one for each thread and alias, and nobody else would close them.
        close_database_connections()


def _run_all(
    waiting: deque[Lane], run_lane: Callable[[Lane], None], errors: list[BaseException]
) -> None:
    while True:
        try:
            lane = waiting.popleft()
        except IndexError:
            return
        try:
            run_lane(lane)
        except BaseException as exc:  # noqa: BLE001 - raised when all lanes are through
            errors.append(exc)
