"""Messages held back, to be sent together at the end of a block."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol

from celery.exceptions import TaskPredicate

from lambda_celery.conf import Settings
from lambda_celery.message import OutgoingMessage

#: Called with how many messages are sent, and how many there are.
Progress = Callable[[int, int], None]
#: Called with the ids of tasks that are not sent.
OnDropped = Callable[[list[str]], None]


class Preparing(Protocol):
    """What a :class:`~lambda_celery.publishing.publisher.Publisher` knows of a queue's messages."""

    settings: Settings

    def limit_bytes(self, queue_url: str, sqs: Any = None) -> int:
        """Return the size of the largest message that the queue accepts."""

    def threshold_bytes(self, queue_url: str, sqs: Any = None) -> int:
        """Return the size above which a message for the queue goes to S3."""

    def prepared(
        self, queue_url: str, message: OutgoingMessage, sqs: Any
    ) -> OutgoingMessage | None:
        """Return what to send to the queue; ``None`` if a schedule sends it."""


class Outgoing(NamedTuple):
    """A message, and where to and by whom it is to be sent."""

    publisher: Preparing
    queue_url: str
    message: OutgoingMessage
    #: The boto3 client, where it is not the settings' own.
    sqs: Any = None


class HeldMessages:
    """The messages that were published within a block."""

    def __init__(self, outer: HeldMessages | None, templates: dict[Any, Any] | None = None) -> None:
        self._outer = outer
        self._messages: list[Outgoing] = []
        self._is_open = True
        #: What fills in further calls of a task, by the task.
        self.templates: dict[Any, Any] = {} if templates is None else templates
        # What runs in a copy of the block's context, such as asyncio.to_thread, is another thread.
        self._lock = threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether it holds what is published, or the block around it does."""
        return self._is_open or (self._outer is not None and self._outer.is_open)

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

    def drop(self, on_dropped: OnDropped | None) -> None:
        """Hold nothing more; tell *on_dropped* of the tasks that there were, if any."""
        ids = [each.message.task_id for each in self.close()]
        if on_dropped is not None and ids:
            on_dropped([each for each in ids if each is not None])

    def close_into_outer(self) -> list[Outgoing]:
        """Give the messages to the block around this one; return them if there is none any more."""
        messages = self.close()
        if messages and self._outer is not None and self._outer.hold(*messages):
            return []
        return messages


_current: ContextVar[HeldMessages | None] = ContextVar("lambda_celery_batch", default=None)


def open_batch() -> HeldMessages | None:
    """Return what this context's batch holds, where one is open.

    A copy of its context, as an asyncio task has one, may outlive it.
    """
    held = _current.get()
    return held if held is not None and held.is_open else None


def hold(message: Outgoing) -> bool:
    """Have the open batch of this context hold *message*; return whether there is one."""
    held = _current.get()
    return held is not None and held.hold(message)


@contextmanager
def caught(templates: dict[Any, Any] | None = None) -> Iterator[list[Outgoing]]:
    """Yield a list, which has what the block publishes at its end: nothing is sent.

    *templates* are as for :func:`holding`.
    """
    messages: list[Outgoing] = []
    with holding(lambda held: messages.extend(held.close()), templates=templates):
        yield messages


@contextmanager
def holding(
    at_end: Callable[[HeldMessages], None],
    on_dropped: OnDropped | None = None,
    templates: dict[Any, Any] | None = None,
) -> Iterator[None]:
    """Hold what the block publishes and call *at_end* with it; drop it if the block raises.

    *on_dropped* is told of what is dropped. *templates* are those of earlier blocks.
    """
    held = HeldMessages(_current.get(), templates)
    token = _current.set(held)
    try:
        yield
    except TaskPredicate:
        # self.retry() and self.replace() raise when they have published: the task ends in order.
        at_end(held)
        raise
    except BaseException:
        held.drop(on_dropped)
        raise
    else:
        at_end(held)
    finally:
        _current.reset(token)
        held.close()
