"""The lanes of a batch on several threads: claims are written ahead of runs, completions behind.

A lane that waits for nothing but its own claim takes three steps. Between them it waits for the
table, and its thread goes on with another lane::

    a thread   |- take up -|                |------- run -------|
    the table               |--- claim ----|                     |-- completion --|

What is under way goes before what is not taken up. A batch begins with few threads, for threads
that have work for the interpreter only take it from each other; others come when it is idle
although there is work.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from typing import Any, Generic, TypeVar

from lambda_runtime.running.places import Places

_Lane = TypeVar("_Lane")

#: Threads that a batch begins with.
_FIRST_THREADS = 2
#: How many lanes have their claims while others run, above those that can be run.
_AHEAD = 25
#: Longer ones would wait for too long with their claims.
_SHORT_RUN_SECONDS = 0.5
#: When it is first asked whether more threads are needed, and then how often.
_FIRST_LOOK_SECONDS = 0.003
_LOOK_SECONDS = 0.005
#: How many times as many there are then.
_GROWTH = 4
#: Below that part of the time that it may have, the interpreter is free.
_FREE_SHARE = 0.6
_LATE_SECONDS = 0.001
#: Memory with which a function has one vCPU
#: (https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html).
_MB_OF_ONE_VCPU = 1769
#: After that time without a step, a thread is needed whatever the others do.
_STUCK_SECONDS = 0.1


class Way:
    """The way of one lane."""

    __slots__ = ("_has_ended", "_lane", "_pipeline")

    def __init__(self, pipeline: Pipeline[Any], lane: Any) -> None:
        self._pipeline = pipeline
        self._lane = lane
        self._has_ended = False

    def later(self, step: Callable[[], None]) -> None:
        """Have *step* called on one of the threads, soon. Waits for nothing."""
        if not self._has_ended:
            self._pipeline._put(self, step)

    def call(self, step: Callable[[], None]) -> None:
        """Call *step* here. If it raises something, the way ends."""
        try:
            step()
        except BaseException as exc:  # noqa: BLE001 - raised when all lanes are through
            self._pipeline.errors.append(exc)
            self.end()

    def at_a_place(self) -> AbstractContextManager[None]:
        """Return a context with a place for a run, if places are counted."""
        places = self._pipeline.places
        return nullcontext() if places is None else places.taken()

    def on_loop(self, step: Callable[[], None]) -> None:
        """Have *step* called on the event loop's thread, when there is a place. Does not wait."""
        assert self._pipeline.places is not None
        self._pipeline.places.start(partial(self.call, step))

    def end(self) -> None:
        """Tell that the lane is through."""
        if not self._has_ended:
            self._has_ended = True
            self._pipeline._end(self._lane)


class Pipeline(Generic[_Lane]):
    """Takes *lanes* up, and has them go on, until all of their ways have ended."""

    def __init__(
        self,
        lanes: Sequence[_Lane],
        take_up: Callable[[_Lane, Way], None],
        most_threads: int,
        errors: list[BaseException],
        *,
        places: Places | None = None,
        when_ended: Callable[[_Lane], None] | None = None,
        is_fed: bool = False,
    ) -> None:
        """Call *take_up* for each lane; what that and a later step raise is put into *errors*.

        :param places: for the runs of asynchronous tasks, which have threads or none.
        :param when_ended: told each lane whose way has ended.
        :param is_fed: whether more lanes may come, by :meth:`add`, until :meth:`close`.
        """
        self._take_up = take_up
        self._most_threads = most_threads
        self.errors = errors
        self.places = places
        self._when_ended = when_ended
        self._is_fed = is_fed
        self._new = deque(lanes)
        self._steps: deque[tuple[Way, Callable[[], None]]] = deque()
        self._left = len(self._new)
        self._open = 0
        self._most_open = most_threads
        #: Threads at work, and those of them that wait for some.
        self._working = 0
        self._idle = 0
        self._steps_begun = 0
        self._changed = threading.Condition(threading.Lock())
        #: Set when all ways have ended.
        self.is_over = threading.Event()

    @property
    def most_open(self) -> int:
        """How many lanes it takes up at a time, as its runs are now."""
        return self._most_open

    def add(self, lane: _Lane) -> None:
        """Have *lane* taken up, too."""
        with self._changed:
            self._new.append(lane)
            self._left += 1
            self._notify()

    def close(self) -> None:
        """Tell that no more lanes come."""
        with self._changed:
            self._is_fed = False
            self._see_whether_over()

    def work(self) -> None:
        """Take lanes up and let them go on: what each thread does, to the end."""
        with self._changed:
            self._working += 1
        try:
            while (item := self._next()) is not None:
                way, step, has_claim = item
                started = time.monotonic()
                way.call(step)
                if has_claim:
                    is_short = time.monotonic() - started < _SHORT_RUN_SECONDS
                    self._most_open = self._most_threads + (_AHEAD if is_short else 0)
        finally:
            with self._changed:
                self._working -= 1

    def watch(self, start_thread: Callable[[], None]) -> None:
        """Start threads, and wake those that are there, as they are needed; to the end."""
        threads = 0
        first = self._most_threads if self._is_fed else min(self._most_threads, len(self._new))
        for _ in range(min(_FIRST_THREADS, first)):
            start_thread()
            threads += 1
        look, steps = _FIRST_LOOK_SECONDS, 0
        looked_at = stepped_at = time.monotonic()
        worked = time.process_time()
        while not self.is_over.wait(look):
            now, cpu = time.monotonic(), time.process_time()
            # Who comes late has waited for the interpreter, or for the processor.
            is_late = now - looked_at > look + _LATE_SECONDS
            has_worked = cpu - worked > (now - looked_at) * _FREE_SHARE * _vcpu_share()
            is_free = not (is_late or has_worked)
            if self._steps_begun != steps:
                stepped_at, steps = now, self._steps_begun
            if is_free or now - stepped_at >= _STUCK_SECONDS:
                more = self._wake(threads)
                for _ in range(min(more, self._most_threads - threads)):
                    start_thread()
                    threads += 1
            look = _LOOK_SECONDS
            looked_at, worked = time.monotonic(), time.process_time()

    def _wake(self, threads: int) -> int:
        """Wake threads that wait, for the work that does; return how many are missing."""
        with self._changed:
            waiting = len(self._steps)
            if self._open < self._most_open:
                waiting += min(len(self._new), self._most_open - self._open)
            wanted = min(waiting, max(threads - self._idle, 1) * (_GROWTH - 1))
            woken = min(wanted, self._idle)
            self._rouse(woken)
            return wanted - woken

    def stop(self) -> int:
        """Have nothing more begin; return how many threads are at work.

        Those that hang are left to themselves.
        """
        with self._changed:
            at_work = self._working - self._idle
            self._new.clear()
            self._steps.clear()
            self._left = 0
            self._is_fed = False
            self._see_whether_over()
        return at_work

    def _see_whether_over(self) -> bool:
        if self._left > 0 or self._is_fed:
            return False
        self._rouse(self._idle)
        self.is_over.set()
        return True

    def _notify(self) -> None:
        # One that is awake comes by itself. If that takes long, who watches wakes another one:
        # to wake one for each step would have them take the interpreter from each other.
        if self._idle and self._idle == self._working:
            self._rouse(1)

    def _rouse(self, count: int) -> None:
        # From now on they are at work: it takes a while until they have the interpreter.
        self._idle -= count
        self._changed.notify(count)

    def _next(self) -> tuple[Way, Callable[[], None], bool] | None:
        with self._changed:
            while self._left > 0 or self._is_fed:
                if self._steps:
                    self._steps_begun += 1
                    return (*self._steps.popleft(), True)
                if self._new and self._open < self._most_open:
                    self._steps_begun += 1
                    self._open += 1
                    lane = self._new.popleft()
                    way = Way(self, lane)
                    return way, partial(self._take_up, lane, way), False
                self._idle += 1
                self._changed.wait()
        return None

    def _put(self, way: Way, step: Callable[[], None]) -> None:
        with self._changed:
            if self._left > 0:
                self._steps.append((way, step))
                self._notify()

    def _end(self, lane: _Lane) -> None:
        with self._changed:
            self._left -= 1
            self._open -= 1
            if not self._see_whether_over() and self._new:
                self._notify()
        if self._when_ended is not None:
            self._when_ended(lane)


@cache
def _vcpu_share() -> float:
    """Return which part of one vCPU this process may have at most."""
    memory = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
    return min(1.0, int(memory) / _MB_OF_ONE_VCPU) if memory.isdigit() else 1.0
