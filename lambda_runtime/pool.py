"""Several tasks of a batch at a time, on threads.

A batch is cut into lanes: a FIFO queue's message group is one, whose messages run one after
the other, and any other message is one by itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from celery import Celery

from lambda_runtime.connections import close_database_connections
from lambda_runtime.delivery import Delivery

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
    """Runs lanes, *concurrency* at a time.

    With one, on the thread of the caller: nobody's code has to be thread-safe, and signals
    enforce time limits. Else on threads that stay for the life of the process, and with them
    what Celery keeps for each thread, such as the result back end's connections.
    """

    def __init__(self, app: Celery, concurrency: int) -> None:
        self._concurrency = concurrency
        self._threads = ThreadPoolExecutor(
            concurrency, thread_name_prefix="task", initializer=app.set_current
        )

    def run(self, batch: list[Lane], run_lane: Callable[[Lane], None]) -> None:
        """Call *run_lane* for each lane of *batch*; return when all are through."""
        if self._concurrency == 1:
            for lane in batch:
                run_lane(lane)
            return
        waiting = deque(batch)
        working = [
            self._threads.submit(_work, waiting, run_lane)
            for _ in range(min(self._concurrency, len(batch)))
        ]
        for each in working:
            each.result()


def _work(waiting: deque[Lane], run_lane: Callable[[Lane], None]) -> None:
    try:
        while True:
            try:
                lane = waiting.popleft()
            except IndexError:
                return
            run_lane(lane)
    finally:
        # Django keeps one for each thread and alias, and nobody else would close them.
        close_database_connections()
