"""Several tasks of a batch at a time, on threads.

A batch is cut into lanes: a FIFO queue's message group is one, whose messages run one after
the other, and any other message is one by itself. Lanes of asynchronous tasks run beside the
others, under a bound of their own.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any

from celery import Celery

from lambda_celery.celery_hooks.registry import async_names
from lambda_runtime.messages.delivery import Delivery
from lambda_runtime.messages.request import task_name
from lambda_runtime.python_hooks import abandon
from lambda_runtime.running.connections import close_database_connections
from lambda_runtime.running.pipeline import Pipeline, Way
from lambda_runtime.running.places import Places

logger = logging.getLogger(__name__)

Lane = list[Delivery]

#: How often it is asked whether threads may be left that hang at the invocation's end.
_LOOK_AGAIN_SECONDS = 0.05


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


def _start_on_loop(step: Callable[[], None]) -> None:
    """Have *step* called on the event loop's thread, in a greenlet."""
    from lambda_runtime.running import event_loop  # asyncio, for those who have such tasks

    event_loop.start(step)


def apart(app: Celery, batch: list[Lane]) -> tuple[list[Lane], list[Lane]]:
    """Return the lanes of *app*'s asynchronous tasks alone, and the others."""
    names = async_names(app)
    if not names:
        return [], batch
    found: tuple[list[Lane], list[Lane]] = [], []
    for lane in batch:
        is_async = all(task_name(each) in names for each in lane)
        found[0 if is_async else 1].append(lane)
    return found


class Pool:
    """Runs lanes, *concurrency* at a time, and beside them *async_concurrency* asynchronous ones.

    With a *concurrency* of one, on the thread of the caller: nobody's code has to be
    thread-safe, and signals enforce time limits. Else on threads that stay for the life of the
    process, and with them what Celery keeps for each thread, such as the result back end's
    connections. An asynchronous task has such a thread, too, to wait there for its coroutine,
    unless nothing else of it may take time.
    """

    def __init__(self, app: Celery, concurrency: int, async_concurrency: int) -> None:
        self._app = app
        self._threads = Threads(app, concurrency, "task")
        self._async_threads = Threads(app, async_concurrency, "async-task", is_async=True)

    def run(
        self,
        batch: list[Lane],
        run_lane: Callable[[Lane], None],
        take_up: Callable[[Lane, Way], None],
        seconds_left: Callable[[], float] = lambda: math.inf,
        may_leave: Callable[[], bool] = lambda: False,
    ) -> None:
        """Call *run_lane*, or *take_up* on threads, for each lane; return when all are through.

        Or when no *seconds_left*, if those that hang then *may_leave*: their threads are left to
        themselves. What it raises for one lane is raised when the others are through: an answer
        that leaves while they run says nothing true of them.
        """
        errors: list[BaseException] = []
        asynchronous, others = apart(self._app, batch)
        working = [self._async_threads.start(asynchronous, take_up, errors)]
        if self._threads.count == 1:
            _run_all(others, run_lane, errors)
        else:
            working.append(self._threads.start(others, take_up, errors))
        left = seconds_left()
        ends_at = math.inf if math.isinf(left) else time.monotonic() + left
        hanging = [each for each in working if not each.has_ended_by(ends_at)]
        while hanging and not may_leave():
            again_at = time.monotonic() + _LOOK_AGAIN_SECONDS
            hanging = [each for each in hanging if not each.has_ended_by(again_at)]
        if hanging:
            logger.error(
                "%d threads do not end with the invocation: what follows a task on them waits for "
                "something that does not answer. They are left to themselves.",
                sum(each.leave() for each in hanging),
            )
            self.renew()
        if errors:
            raise errors[0]

    def renew(self) -> None:
        """Have other threads, with connections of their own. Those that are idle end."""
        self._threads.renew()
        self._async_threads.renew()


class Threads:
    """Up to *count* threads, which stay."""

    def __init__(self, app: Celery, count: int, name: str, *, is_async: bool = False) -> None:
        """If they are for asynchronous tasks, *count* of those run, on threads or not."""
        self.count = count
        self._is_async = is_async
        # One more is for who watches whether there are enough.
        self._make = partial(
            ThreadPoolExecutor, count + 1, thread_name_prefix=name, initializer=app.set_current
        )
        self._executor = self._make()

    def renew(self) -> None:
        """Have other threads, and leave those that are there to themselves."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        abandon(self._executor)
        self._executor = self._make()

    def start(
        self, lanes: list[Lane], take_up: Callable[[Lane, Way], None], errors: list[BaseException]
    ) -> _Working:
        """Begin to take *lanes* up."""
        pipeline = Pipeline(lanes, take_up, self.count, errors, places=self._places())
        working = _Working(pipeline, self._executor)
        if lanes:
            working.begin()
        return working

    def _places(self) -> Places | None:
        return Places(self.count, _start_on_loop) if self._is_async else None

    def feed(self, take_up: Callable[[Any, Way], None], when_ended: Callable[[Any], None]) -> Feed:
        """Return what takes up lanes that come one by one; *when_ended* is told each of them.

        What it is given is what *take_up* and *when_ended* are given.
        """
        errors: list[BaseException] = []
        pipeline = Pipeline(
            [], take_up, self.count, errors,
            places=self._places(), when_ended=when_ended, is_fed=True,
        )  # fmt: skip
        return Feed(pipeline, _Working(pipeline, self._executor), errors)


class Feed:
    """Lanes that come one by one, on threads that begin with the first of them."""

    def __init__(
        self, pipeline: Pipeline[Any], working: _Working, errors: list[BaseException]
    ) -> None:
        self._pipeline = pipeline
        self._working = working
        self._errors = errors
        self._has_begun = False

    @property
    def room(self) -> int:
        """How many lanes it takes up at a time."""
        return self._pipeline.most_open

    def add(self, lane: Any) -> None:
        """Have *lane* taken up."""
        if not self._has_begun:
            self._has_begun = True
            self._working.begin()
        self._pipeline.add(lane)

    def close(self) -> None:
        """Return when the threads have ended; raise what was raised for a lane."""
        self._pipeline.close()
        self._working.has_ended_by(math.inf)
        if self._errors:
            raise self._errors[0]


class _Working:
    """The threads at work on one batch."""

    def __init__(self, pipeline: Pipeline[Any], executor: ThreadPoolExecutor) -> None:
        self._pipeline = pipeline
        self._executor = executor
        self._watching: Future[None] | None = None
        self._working: list[Future[None]] = []

    def begin(self) -> None:
        self._watching = self._executor.submit(self._pipeline.watch, self._start_thread)

    def has_ended_by(self, moment: float) -> bool:
        """Wait until *moment* (``time.monotonic``) for all threads to end; return if they have."""
        if self._watching is None:
            return True
        # Who watches is the first to end, and starts no thread after that.
        return _ended_by(moment, [self._watching]) and _ended_by(moment, self._working)

    def leave(self) -> int:
        """Have nothing more begin; return how many threads hang."""
        return self._pipeline.stop()

    def _start_thread(self) -> None:
        self._working.append(self._executor.submit(_work, self._pipeline))


def _ended_by(moment: float, futures: list[Future[None]]) -> bool:
    seconds = None if math.isinf(moment) else max(moment - time.monotonic(), 0.0)
    return not wait(futures, seconds).not_done


def _work(pipeline: Pipeline[Any]) -> None:
    try:
        pipeline.work()
    finally:
        # Django keeps one for each thread and alias, and nobody else would close them.
        close_database_connections()


def _run_all(
    lanes: Iterable[Lane], run_lane: Callable[[Lane], None], errors: list[BaseException]
) -> None:
    for lane in lanes:
        try:
            run_lane(lane)
        except BaseException as exc:  # noqa: BLE001 - raised when all lanes are through
            errors.append(exc)
