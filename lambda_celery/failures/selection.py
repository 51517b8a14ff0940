"""Which failed tasks are meant: by id, task, exception, queue and age."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase

from lambda_celery.exceptions import FailedTaskError
from lambda_celery.failures.record import Failure

_AGE = re.compile(r"(\d{1,6})\s*([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_age(text: str) -> timedelta:
    """Return the time that *text* writes, such as ``30s``, ``15m``, ``2h``, ``3d`` or ``1w``.

    :raises FailedTaskError: it is none.
    """
    found = _AGE.fullmatch(text.strip())
    if found is None:
        raise FailedTaskError(f"{text!r} is no age: write it as 30s, 15m, 2h, 3d or 1w.")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


@dataclass(frozen=True)
class Selection:
    """What a failure has to be like. What is not given does not matter.

    :ivar ids: its own id, or that of its task, is one of these.
    :ivar task: a glob for the task's name, such as ``shop.*``.
    :ivar exception: a glob for the type of the exception, or for the reason where there is none.
    :ivar queue: a glob for the name, or the ARN, of the SQS queue that it came from.
    :ivar older_than: it failed at least so long before *now*.
    :ivar newer_than: it failed at most so long before *now*.
    :ivar with_retried: also what was sent back and has not ended yet. With *ids*, that is meant.
    """

    ids: frozenset[str] = frozenset()
    task: str | None = None
    exception: str | None = None
    queue: str | None = None
    older_than: timedelta | None = None
    newer_than: timedelta | None = None
    with_retried: bool = False
    #: When the selection was made: while it is worked off, nothing comes to be old enough.
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def matches(self, failure: Failure) -> bool:
        """Whether *failure* is meant."""
        age = self.now - failure.failed_at
        return bool(
            (self.ids or self.with_retried or failure.retried_at is None)
            and (not self.ids or not self.ids.isdisjoint((failure.id, failure.task_id)))
            and _fits(self.task, failure.task)
            and _fits(self.exception, failure.exception or failure.reason)
            and _fits(self.queue, failure.queue, failure.queue.rpartition(":")[2])
            and (self.older_than is None or age >= self.older_than)
            and (self.newer_than is None or age <= self.newer_than)
        )


def _fits(glob: str | None, *texts: str) -> bool:
    return glob is None or any(fnmatchcase(text, glob) for text in texts)
