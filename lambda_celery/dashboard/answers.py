"""What the page's script asks for, as objects that JSON can write."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from glob import escape
from typing import TYPE_CHECKING, Any

from celery import Celery

from lambda_celery.dashboard.listing import listed
from lambda_celery.exceptions import ConfigurationError, LambdaCeleryError
from lambda_celery.failures import FailedTasks, Failure

if TYPE_CHECKING:
    from lambda_celery.status.source import Source

#: Rows of a page, and failures that one request does something with.
ROWS = 100
#: More are too many for a browser: a group may be of a hundred thousand tasks.
ATTEMPTS = 1000
#: One request begins no more after so long: proxies give up after half a minute.
MOST_SECONDS = 15
#: Several pages that are open at the same time cost one look.
_LOOK_SECONDS = 1.5
#: A look that takes long asks much of AWS: it is worth so many times as long.
_WORTH = 3
#: What can be done with a failure: methods of ``FailedTasks``.
VERBS = ("retry", "discard")


class Answers:
    """Answers for *app*, with the figures of *source*. Any thread may ask.

    A method raises a :exc:`~lambda_celery.exceptions.LambdaCeleryError` where AWS refuses.
    """

    def __init__(self, app: Celery, source: Source) -> None:
        self._app = app
        self._source = source
        self._lock = threading.Lock()
        self._look_again_at = 0.0
        self._status: dict[str, Any] = {}

    def status(self) -> dict[str, Any]:
        """Return the figures of now, or of a moment ago."""
        # A source remembers what it saw before: one look at a time. Who has something to show does
        # not wait for it: it may take long, and all threads of a server.
        if not self._lock.acquire(blocking=not self._status):
            return self._status
        try:
            began = time.monotonic()
            if began >= self._look_again_at:
                self._status = self._source.status().as_json()
                ended = time.monotonic()
                self._look_again_at = ended + max(_LOOK_SECONDS, _WORTH * (ended - began))
            return self._status
        finally:
            self._lock.release()

    def attempts(self, task_id: str) -> dict[str, Any]:
        """Return the attempts of a task, and of those that have the same root: the latest."""
        found = self._source.attempts(task_id)
        if (earlier := len(found.attempts) - ATTEMPTS) > 0:
            found = replace(
                found,
                attempts=found.attempts[earlier:],
                left_out=(*found.left_out, f"There are {earlier:,} more, before these."),
            )
        return found.as_json()

    def failed(self, values: Mapping[str, str]) -> dict[str, Any]:
        """Return a page of the list of failed tasks: the fields are those of ``listing``."""
        with FailedTasks(self._app) as tasks:
            page = listed(tasks, values, rows=ROWS)
        return {
            "failures": [_row(each) for each in page.failures],
            "after": page.after,
            "is_cut": page.is_cut,
        }

    def counts(self) -> dict[str, Any]:
        """Return how many have failed of each task, exception and queue. It reads all records."""
        with FailedTasks(self._app) as tasks:
            counts = tasks.records.count()
        return {
            "total": counts.total(),
            "counts": [
                {
                    "task": task,
                    "exception": exception,
                    "queue": queue_name(queue),
                    "number": number,
                    # Names may have what a pattern gives a meaning.
                    "filter": {"task": escape(task), "exception": escape(exception)},
                }
                for (task, exception, queue), number in counts.most_common()
            ],
        }

    def failure(self, failure_id: str) -> dict[str, Any]:
        """Return all that is known of a failure, but its message: that is not redacted.

        :raises FailedTaskError: there is none.
        """
        with FailedTasks(self._app) as tasks:
            failure = tasks.get(failure_id)
        return {
            **_row(failure),
            "fields": [(label, *_plain(value)) for label, value in fields_of(failure)],
            "traceback": failure.traceback,
            "has_message": failure.body is not None,
        }

    def do(self, verb: str, ids: Sequence[str]) -> dict[str, Any]:
        """Do one of :data:`VERBS` with the failures *ids*, and return what has become of them.

        :raises LambdaCeleryError: there is no such verb, or they are too many.
        """
        if verb not in VERBS:
            raise LambdaCeleryError(f"{verb} is nothing that can be done with a failed task.")
        if len(ids) > ROWS:
            raise LambdaCeleryError(
                f"{len(ids)} are too many for one request: choose {ROWS} at most, or use "
                "celery -A proj lambda failed."
            )
        done: list[str] = []
        refused: list[str] = []
        ends_at = time.monotonic() + MOST_SECONDS
        with FailedTasks(self._app) as tasks:
            for each in dict.fromkeys(ids):
                if time.monotonic() > ends_at:
                    break
                try:
                    done.append(str(getattr(tasks, verb)(tasks.get(each))))
                except LambdaCeleryError as exc:
                    refused.append(str(exc))
                    if is_for_all(exc):
                        break
        left = len(set(ids)) - len(done) - len(refused)
        if left:
            refused.append(f"{left} were left as they are: choose them again.")
        return {"done": done, "refused": refused}


def is_for_all(exc: LambdaCeleryError) -> bool:
    """Whether what is refused to one failed task by *exc* is refused to each of them."""
    return isinstance(exc, ConfigurationError) or getattr(exc, "is_misconfigured", False)


def fields_of(failure: Failure) -> list[tuple[str, Any]]:
    """Return what a page about *failure* shows in lines, as far as it is known."""
    every = [
        ("Task", failure.task),
        ("Id", failure.task_id),
        ("Reason", failure.reason),
        ("Exception", failure.exception),
        ("Message", failure.message),
        ("Failed at", failure.failed_at),
        ("Sent back at", failure.retried_at),
        ("Attempts", failure.attempts),
        ("Retries of Celery's", failure.retries),
        ("Positional arguments", failure.args),
        ("Keyword arguments", failure.kwargs),
        ("Queue", failure.queue),
        ("Dead-letter queue", failure.dead_letter_queue),
        ("Id of the root task", failure.root_id),
        ("Id of the parent task", failure.parent_id),
        ("Version of the function", failure.version),
        ("Trace id", failure.trace_id),
        ("Bytes of the message", failure.size),
    ]
    return [(label, value) for label, value in every if value not in ("", None)]


def queue_name(arn: str) -> str:
    """Return SQS's name of the queue *arn*."""
    return arn.rpartition(":")[2]


def _row(failure: Failure) -> dict[str, Any]:
    return {
        "id": failure.id,
        "task": failure.task,
        "task_id": failure.task_id,
        "exception": failure.exception or failure.reason,
        "queue": queue_name(failure.queue),
        "failed_at": failure.failed_at.isoformat(timespec="seconds"),
        "attempts": failure.attempts,
        "is_retried": failure.retried_at is not None,
    }


def _plain(value: Any) -> tuple[Any, bool]:
    """Return *value* as JSON has it, and whether it is a moment."""
    is_moment = isinstance(value, datetime)
    return value.isoformat(timespec="seconds") if is_moment else value, is_moment
