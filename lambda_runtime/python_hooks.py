"""All contact with CPython's private parts, each with a contract test."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.thread import _threads_queues


def has_threads(executor: ThreadPoolExecutor) -> bool:
    """Whether *executor* has started a thread. Submitting something to ask would start one."""
    return bool(executor._threads)


def abandon(executor: ThreadPoolExecutor) -> None:
    """Leave the threads of *executor* to themselves: the process's end does not wait for them."""
    executor.shutdown(wait=False)
    for each in executor._threads:
        # The process's end joins those that are in here.
        _threads_queues.pop(each, None)  # type: ignore[attr-defined]
