"""A child's side: it runs lanes, and tells at once what becomes of each message.

With a concurrency of one, tasks run on its main thread, where signals enforce time limits. A thread
reads what the parent says. When the parent is gone, nobody answers for what runs here: the child
ends at once, as it would with its environment.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from queue import SimpleQueue
from typing import NoReturn

from celery import Celery

from lambda_celery import aws
from lambda_celery.conf import Settings
from lambda_celery.publishing.publisher import Publisher
from lambda_runtime import batch_end
from lambda_runtime.batch import Batch
from lambda_runtime.celery_hooks import bootstrap
from lambda_runtime.deadline import ANSWER_SECONDS, Deadline
from lambda_runtime.decision import Decision, Killed
from lambda_runtime.log import TRACE_VARIABLE, TaskFields
from lambda_runtime.messages.delivery import Delivery
from lambda_runtime.messages.outcome import Forwarded, Returned
from lambda_runtime.messages.settlement import Settlement
from lambda_runtime.messages.source_queues import SourceQueues
from lambda_runtime.processes.frames import (
    READ_BYTES,
    Begin,
    Begun,
    End,
    Ended,
    Later,
    Limited,
    Order,
    Reader,
    Report,
    Run,
    Settled,
    Through,
    Unlimited,
    encoded,
)
from lambda_runtime.python_hooks import run_after_forkers
from lambda_runtime.running.connections import Connections
from lambda_runtime.running.pipeline import Way
from lambda_runtime.running.threads import Feed, Threads

logger = logging.getLogger(__name__)


def serve(
    channel: socket.socket, app: Celery, settings: Settings, hostname: str, fields: TaskFields
) -> NoReturn:
    """Run what comes over *channel*, in a process that was forked for it, until the parent ends.

    Never returns: it raises, or the process ends.
    """
    run_after_forkers()  # kombu's among them: connections in pools are the parent's
    bootstrap.start_child(app)
    _Child(channel, app, settings, hostname, fields).serve()


class _Child:
    """What a child keeps from one invocation to the next."""

    def __init__(
        self,
        channel: socket.socket,
        app: Celery,
        settings: Settings,
        hostname: str,
        fields: TaskFields,
    ) -> None:
        self._channel = channel
        self._writing = threading.Lock()
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._fields = fields
        self._publisher = Publisher(settings)
        self._queues = SourceQueues(settings)
        self._decision = Decision(
            app, settings, self._queues, self._publisher.payloads, hostname, self._watched
        )
        self._connections = Connections(app)
        self._threads = Threads(app, settings.concurrency, "task")
        self._async_threads = Threads(app, settings.loop_concurrency, "async-task", is_async=True)
        self._under_way: _Invocation | None = None

    def serve(self) -> NoReturn:
        """Do what is to be done on the main thread, for ever."""
        threading.Thread(target=self._read, name="lambda-celery-orders", daemon=True).start()
        while True:
            self._inbox.get()()

    def _read(self) -> None:
        reader = Reader()
        try:
            while data := self._channel.recv(READ_BYTES):
                for order in reader.feed(data):
                    self._obey(order)
        except ConnectionError:
            pass  # the parent is gone, too
        except BaseException:
            logger.exception("A process that runs tasks cannot go on")
        os._exit(0)

    def _obey(self, order: Order) -> None:
        match order:
            case Begin():
                has_begun = threading.Event()
                self._inbox.put(partial(self._begin, order, has_begun))
                has_begun.wait()
            case Run(is_async=True):
                self._invocation.asynchronous.add(order)
            case Run() if self._threads.count > 1:
                self._invocation.others.add(order)
            case Run():
                self._inbox.put(partial(self._run, order))
            case End():
                self._inbox.put(self._end)

    @property
    def _invocation(self) -> _Invocation:
        assert self._under_way is not None  # the parent begins one before all else
        return self._under_way

    def _begin(self, begin: Begin, has_begun: threading.Event) -> None:
        deadline = begin.deadline
        self._fields.request_id = getattr(begin.context, "aws_request_id", None)
        os.environ.pop(TRACE_VARIABLE, None)
        if begin.trace_id is not None:
            os.environ[TRACE_VARIABLE] = begin.trace_id
        self._connections.before_batch()
        self._queues.ask_again()
        batch = Batch(
            self._decision,
            _Reporter(self._publisher, self._queues, deadline, self._report),
            self._queues, self._publisher.payloads, deadline, self._fields,
        )  # fmt: skip
        self._under_way = _Invocation(
            begin,
            batch,
            asynchronous=self._async_threads.feed(self._take_up, self._ended),
            others=self._threads.feed(self._take_up, self._ended),
        )
        self._invocation.calls.enter_context(aws.ending_at(deadline.epoch - ANSWER_SECONDS))
        has_begun.set()

    def _run(self, run: Run) -> None:
        """Run a lane on this thread, the main one."""
        self._invocation.batch.run_lane(run.lane, run.is_alone, run.killed)
        self._tell_through(run, 1)

    def _take_up(self, run: Run, way: Way) -> None:
        """Take a lane up on one of several threads."""
        batch = self._invocation.batch
        if run.is_alone or run.killed is not None:
            batch.run_lane(run.lane, run.is_alone, run.killed)
            way.end()
        else:
            batch.take_up(run.lane, way)

    def _ended(self, run: Run) -> None:
        invocation = self._invocation
        feed = invocation.asynchronous if run.is_async else invocation.others
        self._tell_through(run, feed.room)

    def _tell_through(self, run: Run, room: int) -> None:
        for attempts, lane in self._invocation.batch.take_postponed():
            self._report(Later(lane[0].message_id, attempts))
        self._report(Through(run.number, room))

    def _end(self) -> None:
        invocation = self._invocation
        deadline = invocation.begin.deadline
        with invocation.calls:
            invocation.asynchronous.close()
            invocation.others.close()
            self._decision.completions.finish(deadline)
            self._connections.after_batch()
        batch_end.finish(self, invocation.begin.context, deadline)
        sys.stdout.flush()
        self._report(Ended())

    @contextmanager
    def _watched(self, delivery: Delivery, killed: Killed) -> Iterator[None]:
        """Have the parent kill this process if *delivery* outlives its hard limit."""
        self._report(Limited(delivery.message_id, killed))
        try:
            yield
        finally:
            self._report(Unlimited(delivery.message_id))

    def _report(self, report: Report) -> None:
        frame = encoded(report)
        with self._writing:
            self._channel.sendall(frame)


class _Invocation:
    """What a child keeps for one invocation."""

    def __init__(self, begin: Begin, batch: Batch, asynchronous: Feed, others: Feed) -> None:
        self.begin = begin
        self.batch = batch
        self.asynchronous = asynchronous
        self.others = others
        #: What ends with it: that calls to AWS do.
        self.calls = ExitStack()


class _Reporter(Settlement):
    """Tells the parent, who answers to Lambda, which messages stay on their queue."""

    def __init__(
        self,
        publisher: Publisher,
        queues: SourceQueues,
        deadline: Deadline,
        report: Callable[[Report], None],
    ) -> None:
        super().__init__(publisher, queues, deadline)
        self._report = report

    def begin(self, delivery: Delivery) -> None:
        """Tell that a lane has come to *delivery*."""
        self._report(Begun(delivery.message_id))

    def hand_back(self, delivery: Delivery, returned: Returned) -> None:
        """Tell that the message stays on its queue."""
        self._report(Settled(delivery.message_id, returned, delivery.note))

    def send_on(self, delivery: Delivery, outcome: Forwarded) -> None:
        """Tell that the message is to be sent on: the parent does that, with others."""
        self._report(Settled(delivery.message_id, outcome, delivery.note))

    def let_go(self, delivery: Delivery) -> None:
        """Tell that the message is settled."""
        self._report(Settled(delivery.message_id, None, delivery.note))

    def delete_settled(self, at_least: int = 1) -> None:
        """Delete nothing: the parent does, as soon as it has been told."""
