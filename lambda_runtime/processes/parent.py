"""The parent's side: it hands lanes to its children, and replaces those that die.

One thread does it all: a lane goes to whichever child has room, what the children tell is read as
it comes, and no child is waited for longer than the invocation lasts. A child that dies takes
along what it had begun, and nothing else.
"""

from __future__ import annotations

import logging
import os
import select
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

from celery import Celery

from lambda_celery.conf import Settings
from lambda_runtime.batch import Batch
from lambda_runtime.deadline import ANSWER_SECONDS, Deadline
from lambda_runtime.log import TRACE_VARIABLE
from lambda_runtime.processes.child_process import ChildProcess, Dealt
from lambda_runtime.processes.frames import (
    Begin,
    Begun,
    ChildContext,
    End,
    Ended,
    Later,
    Limited,
    Report,
    Run,
    Settled,
    Through,
    Unlimited,
)
from lambda_runtime.processes.lines import share_standard_output
from lambda_runtime.running.threads import Lane, apart

logger = logging.getLogger(__name__)

#: How long a hard limit is left to strike by itself, and once more if it is swallowed.
_GRACE_SECONDS = 1.5
#: How often it is asked whether a child that says nothing is still there.
_LOOK_SECONDS = 0.1
#: After so many of an invocation's children that end before they run anything, no more are forked.
_MOST_FAILED_STARTS = 3


class Processes:
    """Runs lanes in *count* children, which stay for the life of this process."""

    dies_with_its_tasks = False

    def __init__(
        self,
        app: Celery,
        settings: Settings,
        serve: Callable[[Any], NoReturn],
        before_fork: Callable[[], None],
    ) -> None:
        """Fork children that *serve* what comes over a socket.

        :param before_fork: called before each: no other thread may hold a lock then.
        """
        self._app = app
        self._settings = settings
        self._serve = serve
        self._before_fork = before_fork
        self._children: list[ChildProcess] = []
        self._begin: Begin | None = None
        self._failed_starts = 0
        self._counted = 0
        #: For whole lines among those of the children.
        self.standard_output = share_standard_output()

    def begin(self, deadline: Deadline, context: Any) -> None:
        """Begin an invocation. With the first, the children are forked.

        Not before: a handler is made while its module is imported, and in a child that was forked
        then, every other thread would wait for ever for the end of that import.
        """
        trace_id = os.environ.get(TRACE_VARIABLE)
        self._begin = Begin(deadline, ChildContext(context, deadline), trace_id)
        self._failed_starts = 0
        for each in self._children:
            each.is_in_invocation = False
        self._fork_missing()

    def run(self, batch: Batch, lanes: list[Lane]) -> None:
        """Run the *lanes* of *batch*. What hangs at the invocation's end is left unsettled."""
        asynchronous, others = apart(self._app, lanes)
        self._run(batch, [self._order(each, False) for each in others], [
            self._order(each, True) for each in asynchronous
        ])  # fmt: skip

    def run_alone(self, batch: Batch, lane: Lane) -> None:
        """Run *lane*, which may kill its process, but not this one."""
        is_async = bool(apart(self._app, [lane])[0])
        order = replace(self._order(lane, is_async), is_alone=True)
        self._run(batch, *(([], [order]) if is_async else ([order], [])))

    def begin_end(self) -> None:
        """Tell those that have worked that the invocation ends."""
        for child in self._children:
            if child.is_in_invocation:
                child.send(End())

    def await_end(self, deadline: Deadline) -> None:
        """Wait until those have done all that belongs to the invocation; end who does not."""
        while self._working() and deadline.seconds() > ANSWER_SECONDS / 2:
            self._wait(min(_LOOK_SECONDS, deadline.seconds()))
            for child in list(self._children):
                if any(isinstance(each, Ended) for each in child.reports()):
                    child.is_in_invocation = False
                child.look()
                if child.end:
                    self._children.remove(child)
        for child in self._working():
            logger.error("A process does not end what follows a batch, and is killed.")
            child.kill()
            self._children.remove(child)

    def end(self) -> None:
        """End the children, outside of an invocation: the next one has others."""
        while self._children:
            self._children.pop().kill()

    def _working(self) -> list[ChildProcess]:
        return [each for each in self._children if each.is_in_invocation]

    def _order(self, lane: Lane, is_async: bool) -> Run:
        self._counted += 1
        return Run(self._counted, lane, is_async)

    def _run(self, batch: Batch, others: list[Run], asynchronous: list[Run]) -> None:
        work = _Work(batch, {False: deque(others), True: deque(asynchronous)})
        try:
            self._work(work)
        except BaseException:  # an answer that leaves while they run says nothing true of them
            self._end_working(work)
            raise
        if any(each.dealt for each in self._children):
            logger.error(
                "Processes do not end with the invocation, and are killed: a task in each waits "
                "for something that does not answer, and cannot be interrupted."
            )
            self._end_working(work)

    def _work(self, work: _Work) -> None:
        deadline = work.batch.deadline
        while work.is_left and deadline.seconds_for_threads() > 0:
            if any(work.pending.values()):
                self._fork_missing()
                self._deal(work)
            if not self._children:
                break
            self._wait(self._patience(deadline))
            self._read_all(work)
            for child in self._outlived():
                child.kill()
                self._bury(child, work)

    def _end_working(self, work: _Work) -> None:
        working = [each for each in self._children if each.dealt]
        for child in working:
            child.kill()
            self._children.remove(child)
        for child in working:
            self._read(child, work)  # what it has told last

    def _fork_missing(self) -> None:
        while (
            len(self._children) < self._settings.processes
            and self._failed_starts < _MOST_FAILED_STARTS
        ):
            self._before_fork()
            room = {False: self._settings.concurrency, True: self._settings.loop_concurrency}
            try:
                self._children.append(ChildProcess(self._serve, self._children, room))
            except OSError as exc:
                self._failed_starts += 1
                logger.error("A process could not be forked: %s", exc)

    def _deal(self, work: _Work) -> None:
        """Give each child as much as it has room for, in turn."""
        for is_async, pending in work.pending.items():
            while pending:
                child = max(self._children, key=lambda each: each.capacity(is_async), default=None)
                if child is None or child.capacity(is_async) <= 0:
                    break
                if not child.is_in_invocation:
                    assert self._begin is not None
                    child.send(self._begin)
                    child.is_in_invocation = True
                run = pending.popleft()
                child.dealt[run.number] = work.dealt[run.number] = Dealt(run)
                child.send(run)

    def _patience(self, deadline: Deadline) -> float:
        due = [at for child in self._children for at, _ in child.limits.values()]
        until = min(due, default=float("inf")) - time.monotonic()
        return max(0.0, min(_LOOK_SECONDS, until, deadline.seconds_for_threads()))

    def _wait(self, seconds: float) -> None:
        """Wait for one of the children to tell something, and send them what they take."""
        poll = select.poll()
        for child in self._children:
            poll.register(child.socket, child.awaited)
        poll.poll(max(seconds, 0.0) * 1000)
        for child in self._children:
            child.flush()

    def _read_all(self, work: _Work) -> None:
        for child in list(self._children):
            self._read(child, work)
            child.look()
            if child.end:
                self._bury(child, work)

    def _read(self, child: ChildProcess, work: _Work) -> None:
        for report in child.reports():
            if isinstance(report, Begun):
                self._failed_starts = 0
            work.note(child, report)

    def _outlived(self) -> list[ChildProcess]:
        """Return those that are to be killed now, for a task in them has outlived its hard limit.

        Not while there is anything else in them: that would be lost with it.
        """
        now = time.monotonic()
        for child in self._children:
            child.is_doomed |= any(at <= now for at, _ in child.limits.values())
        return [each for each in self._children if each.is_doomed and len(each.dealt) <= 1]

    def _bury(self, child: ChildProcess, work: _Work) -> None:
        """Have what *child* had, which has ended, go on without it."""
        self._read(child, work)  # what it has told last
        self._children.remove(child)
        if not child.has_worked:
            self._failed_starts += 1
            logger.error("A process %s before it has run anything.", child.end)
        for dealt in child.dealt.values():
            work.go_on_without(child, dealt)


class _Work:
    """The lanes that are to be run, and what is known of them."""

    def __init__(self, batch: Batch, pending: dict[bool, deque[Run]]) -> None:
        self.batch = batch
        #: By whether they are asynchronous, those that no child has.
        self.pending = pending
        self.dealt: dict[int, Dealt] = {}

    @property
    def is_left(self) -> bool:
        """Whether anything is still to be run."""
        return bool(self.dealt) or any(self.pending.values())

    def note(self, child: ChildProcess, report: Report) -> None:
        """Take note of what *child* tells."""
        match report:
            case Begun(message_id):
                child.has_worked = True
                child.begun.add(message_id)
                dealt, position = _find(child, message_id)
                self.batch.settlement.begin(dealt.left[position])
            case Limited(message_id, killed):
                due = time.monotonic() + killed.seconds + _GRACE_SECONDS
                child.limits[message_id] = due, report
            case Unlimited(message_id):
                child.limits.pop(message_id, None)
                child.is_doomed = False
            case Settled(message_id, back, note):
                child.begun.discard(message_id)
                dealt, position = _find(child, message_id)
                delivery = dealt.left.pop(position)
                delivery.note.take(note)
                with self.batch.fields.of(delivery):
                    self.batch.finish(delivery, back)
            case Later(message_id, attempts):
                child.begun.discard(message_id)
                dealt, position = _find(child, message_id)
                self.batch.postpone(dealt.left[position:], attempts)
                del dealt.left[position:]
            case Through(number, room):
                dealt = child.dealt.pop(number)
                del self.dealt[number]
                child.room[dealt.run.is_async] = room
            case Ended():
                child.is_in_invocation = False

    def go_on_without(self, child: ChildProcess, dealt: Dealt) -> None:
        """Have what is left of a lane go on, of which *child* has died."""
        run, left = dealt.run, dealt.left
        del self.dealt[run.number]
        if not left:
            return
        first = left[0]
        if first.message_id not in child.begun:
            # Of a group that it was at work on: the message before is settled.
            killed = run.killed if len(left) == len(run.lane) else None
            self.pending[run.is_async].appendleft(replace(run, lane=left, killed=killed))
        elif child.is_doomed and first.message_id in child.limits:
            _, limited = child.limits[first.message_id]
            again = replace(run, lane=left, killed=limited.killed)
            self.pending[run.is_async].appendleft(again)
        else:
            logger.error(
                "Message %s comes back, because the process of its task %s.",
                first.message_id, child.end,
            )  # fmt: skip
            self.batch.lost(left)


def _find(child: ChildProcess, message_id: str) -> tuple[Dealt, int]:
    """Return where the message is among those that are left of *child*'s lanes."""
    for dealt in child.dealt.values():
        for position, delivery in enumerate(dealt.left):
            if delivery.message_id == message_id:
                return dealt, position
    raise AssertionError(f"{message_id} is with no such child.")
