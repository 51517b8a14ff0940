"""One run of one task: what was decided before it, and what is found out during it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from celery.exceptions import Reject

from lambda_celery.message import OutgoingMessage
from lambda_celery.publishing.marks import RunningCall
from lambda_runtime.messages.outcome import Deleted, Outcome
from lambda_runtime.running.limits.watchdog import Kept


@dataclass
class Attempt:
    """The attempt to run a task. Celery's request is not its place: that is published on."""

    #: What the run is of. The marks of the calls that it makes derive from its own.
    call: RunningCall
    last: bool
    backoff_seconds: int
    #: When all of it has to be over, what follows the body included (``time.monotonic``).
    ends_at: float = math.inf
    #: When the body has to be over, although it has swallowed its soft limit.
    body_ends_at: float = math.inf
    is_over: bool = False
    #: Whether its thread is left to itself: nothing is noted of it any more.
    is_abandoned: bool = False
    #: Called when it is not over by then, on another thread, if its body is through.
    when_late: Callable[[], None] | None = None
    #: What is entered around its body.
    watch: Callable[[], AbstractContextManager[None]] = nullcontext
    soft_time_limit: float | None = None
    hard_time_limit: float | None = None
    #: Whether the soft limit is the invocation's end, and not the task's own.
    ends_with_invocation: bool = False
    started: bool = False
    #: What the body returned, from the moment on at which it did.
    kept: Kept = field(default_factory=Kept)
    body_finished: bool = False
    #: What it returned then.
    returned: Any = None
    #: Whether the body returned or raised.
    body_ended: bool = False
    #: What the body raised that is no failure: ``Retry``, ``Ignore`` or ``Reject``.
    wish: BaseException | None = None
    #: Whether all is done that Celery does for a task that has returned.
    result_is_stored: bool = False
    #: What ``Task.retry()`` raised, if that was no retry: it has given up, or could not publish.
    retry_error: BaseException | None = None
    #: What storing the result raised.
    result_error: BaseException | None = None
    #: Why the chord that the task is a part of could not go on, where AWS or a broker is at fault.
    chord_error: BaseException | None = None
    #: Whether a message with the task's own id has left: a retry, or a replacement.
    sent_on: bool = False
    #: Such messages, where they have not left: the caller of a direct call is to call them.
    own_messages: list[OutgoingMessage] = field(default_factory=list)
    #: Whether the body's failure is a retry by the queue.
    comes_back: bool = False
    outcome: Outcome | None = None

    @property
    def must_not_run_again(self) -> bool:
        """Whether the body has done its work, and nothing but what follows it can be missing."""
        return (
            self.body_finished
            or self.sent_on
            or isinstance(self.outcome, Deleted)
            or (self.wish is not None and not is_requeued(self.wish))
        )

    def note_late(self) -> None:
        """Tell that what follows the body takes too long, if it must not run again."""
        if self.must_not_run_again and not self.is_over and self.when_late is not None:
            self.when_late()

    @property
    def ends_in_seconds(self) -> float:
        """In how many seconds all of it has to be over."""
        return max(self.ends_at - time.monotonic(), 0.01)

    @property
    def task_id(self) -> str:
        """The id of the task that is run."""
        return self.call.task_id


def is_requeued(wish: BaseException) -> bool:
    """Whether a task that raised *wish* is to be run once more."""
    return isinstance(wish, Reject) and bool(wish.requeue)


#: The attempt under way in each context.
current: ContextVar[Attempt | None] = ContextVar("lambda_runtime_attempt", default=None)
