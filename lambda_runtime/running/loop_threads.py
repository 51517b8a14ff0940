"""The threads in which asynchronous tasks do what is synchronous, with the connections there.

Django's asynchronous methods do their work on a thread, with that thread's database connections.
Under ASGI each request has one of its own, and so has each body here, from its first such call to
its end: on a thread that all share, one body's transaction would take in what others write.
``asyncio.to_thread`` has the loop's executor.
"""

from __future__ import annotations

import concurrent.futures
import logging
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

from lambda_runtime.python_hooks import abandon
from lambda_runtime.running import connections

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: How long what a body has left behind may take to clean up.
CLEAN_UP_SECONDS = 1.0


class BodyThread(Executor):
    """The thread of one body: it is taken when the first call needs it."""

    def __init__(self, threads: Threads, label: str) -> None:
        self._threads = threads
        self._label = label
        self._executor: ThreadPoolExecutor | None = None
        self._has_ended = False

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Have *function* called on the thread.

        :raises RuntimeError: the body has ended, and with it the thread is another's.
        """
        with self._threads.changing:
            if self._has_ended:
                raise RuntimeError(f"{self._label} has ended: await what the task starts.")
            if self._executor is None:
                self._executor = self._threads.take()
            return self._executor.submit(function, *args, **kwargs)

    def end(self, *, is_complete: bool) -> None:
        """Let the thread go to the next body, when it is as the first one found it.

        :param is_complete: whether the body was not interrupted, by a failure or a limit.
        """
        with self._threads.changing:
            self._has_ended = True
            if self._executor is not None:
                # What it logs is the task's.
                tidy = partial(copy_context().run, _tidy, self._label, is_complete)
                self._threads.give_back(self._executor, tidy)


def _tidy(label: str, is_complete: bool) -> None:
    connections.tidy(label, is_complete=is_complete)
    connections.make_ready()


class Threads:
    """The threads of bodies: as many as have been needed at the same time."""

    def __init__(self) -> None:
        self.changing = threading.RLock()
        self._all: set[ThreadPoolExecutor] = set()
        self._free: list[ThreadPoolExecutor] = []

    def of_body(self, label: str) -> BodyThread | None:
        """Have this context's body, called *label*, use a thread of its own, if it uses Django."""
        if (sync := sys.modules.get("asgiref.sync")) is None or not connections.uses_django():
            return None
        thread = BodyThread(self, label)
        # As Django's ASGI handler enters it, whose end would wait for what blocks the thread.
        context = sync.ThreadSensitiveContext()
        sync.SyncToAsync.context_to_thread_executor[context] = thread
        sync.SyncToAsync.thread_sensitive_context.set(context)
        return thread

    def take(self) -> ThreadPoolExecutor:
        """Return one that nobody has, under the lock."""
        if self._free:
            return self._free.pop()
        made = ThreadPoolExecutor(1, thread_name_prefix="async-task-sync")
        self._all.add(made)
        return made

    def give_back(self, executor: ThreadPoolExecutor, tidy: Callable[[], None]) -> None:
        """Have *executor* taken again when it has come to *tidy*, under the lock."""
        if executor not in self._all:  # it has been left to itself
            return

        def free(_: Future[None]) -> None:
            with self.changing:
                if executor in self._all:
                    self._free.append(executor)

        executor.submit(tidy).add_done_callback(free)

    def close_connections(self) -> bool:
        """Close the connections of all; return whether one blocks, which is left to itself."""
        with self.changing:
            closing = {
                each.submit(connections.close_database_connections): each for each in self._all
            }
        # Not for ever: a body may have left something there that blocks.
        blocked = concurrent.futures.wait(closing, CLEAN_UP_SECONDS).not_done
        for each in blocked:
            executor = closing[each]
            with self.changing:
                self._all.discard(executor)
                if executor in self._free:
                    self._free.remove(executor)
            # It closes its connections if it ever goes on. (The threads of the loop's, which is a
            # daemon, are daemons as well: nothing else waits for them.)
            abandon(executor)
        return bool(blocked)


class LoopExecutor(ThreadPoolExecutor):
    """The loop's executor. Its threads keep their connections until an invocation's end."""

    def __init__(self) -> None:
        super().__init__(thread_name_prefix="async-task-to-thread")
        self._changing = threading.Lock()
        #: By thread: the connections of those that call nothing now.
        self._idle: dict[int, list[Any]] = {}
        #: How often connections have been closed.
        self._closings = 0

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Have *function* called on a thread."""
        return super().submit(self._call, partial(function, *args, **kwargs))

    def _call(self, function: Callable[[], T]) -> T:
        if not connections.uses_django():
            return function()
        with self._changing:
            self._idle.pop(threading.get_ident(), None)
            closings = self._closings
        connections.make_ready()
        is_complete = False
        try:
            result = function()
            is_complete = True
            return result
        finally:
            label = "What an asynchronous task does on a thread"
            connections.tidy(label, is_complete=is_complete)
            with self._changing:
                is_late = closings != self._closings  # its invocation has ended
                if not is_late and (made := connections.made()):
                    self._idle[threading.get_ident()] = made
            if is_late:
                connections.close_database_connections()

    def close_connections(self) -> None:
        """Close the connections of threads. One that is at work does so at its call's end."""
        with self._changing:
            self._closings += 1
            for made in self._idle.values():
                connections.close_of_other_thread(made)
            self._idle.clear()
