"""Messages held back, to be sent together at the end of a block."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from celery.exceptions import TaskPredicate

if TYPE_CHECKING:  # both load boto3, which importing a task must not
    from lambda_celery.message import OutgoingMessage
    from lambda_celery.publishing.publisher import Publisher

#: Called with how many messages are sent, and how many there are.
Progress = Callable[[int, int], None]


class Outgoing(NamedTuple):
    """A message, and where to and by whom it is to be sent."""

    publisher: Publisher
    queue_url: str
    message: OutgoingMessage
    #: The boto3 client, where it is not the settings' own.
    sqs: Any = None


class HeldMessages:
    """The messages that were published within a block."""

    def __init__(self, outer: HeldMessages | None) -> None:
        self._outer = outer
        self._messages: list[Outgoing] = []
        self._is_open = True
        # What runs in a copy of the block's context, such as asyncio.to_thread, is another thread.
        self._lock = threading.Lock()

    def hold(self, *messages: Outgoing) -> bool:
        """Keep *messages* and return whether that is done: not after the block's end."""
        with self._lock:
            if self._is_open:
                self._messages.extend(messages)
                return True
        return self._outer is not None and self._outer.hold(*messages)

    def close(self) -> list[Outgoing]:
        """Hold nothing more; return what there is."""
        with self._lock:
            self._is_open = False
            return self._messages

    def pass_on(self, progress: Progress | None = None) -> None:
        """Give the messages to the block around this one; send them if there is none any more.

        :raises BatchPublishError: AWS did not take some of them.
        """
        messages = self.close()
        if not messages or (self._outer is not None and self._outer.hold(*messages)):
            return
        from lambda_celery.publishing.bulk_sender import BulkSender

        with BulkSender() as sender:
            if progress is not None:
                sender.report(progress, len(messages))
            for each in messages:
                sender.add(each)


_current: ContextVar[HeldMessages | None] = ContextVar("lambda_celery_batch", default=None)


def hold(message: Outgoing) -> bool:
    """Have the open batch of this context hold *message*; return whether there is one."""
    held = _current.get()
    return held is not None and held.hold(message)


@contextmanager
def holding(at_end: Callable[[HeldMessages], None]) -> Iterator[None]:
    """Hold what the block publishes and call *at_end* with it; drop it if the block raises."""
    held = HeldMessages(_current.get())
    token = _current.set(held)
    try:
        yield
    except TaskPredicate:
        # self.retry() and self.replace() raise when they have published: the task ends in order.
        at_end(held)
        raise
    else:
        at_end(held)
    finally:
        _current.reset(token)
        held.close()


@contextmanager
def batch(*, progress: Progress | None = None) -> Iterator[None]:
    """Hold the messages that the block publishes to SQS, and send them together at its end.

    Everything that publishes tasks takes part: ``delay``, groups, chunks, chains, other
    people's code. Ten messages share a request, several requests run at a time, and
    bodies that are too big for SQS are uploaded side by side. FIFO queues get their messages in
    order, one request after the other. (But one that SQS refuses for a moment, out of ten, is
    sent again behind the others of its request.)

    If the block raises, nothing is sent. (Celery's ``Retry``, ``Ignore`` and ``Reject`` are no
    failures: then it is. And a running task's own retry does not wait for the block's end.)

    A batch within a batch is part of it, and is sent by it. Only what is published in the
    block's own context takes part: not what threads do that it starts, but asyncio tasks and
    ``asyncio.to_thread``, as far as they publish before it ends. Sending blocks its thread.

    :param progress: called in this thread, as messages are sent, with how many are sent and how
        many there are. Within another batch, that one's is called.
    :raises BatchPublishError: AWS did not take some messages, although they were
        retried; it lists them. The others are sent.
    """
    with holding(lambda held: held.pass_on(progress)):
        yield
