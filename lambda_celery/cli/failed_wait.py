"""What has become of calls that were sent back, or again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from lambda_celery.cli.failed_runs import has_run, publication_key
from lambda_celery.failures import Done, FailedTasks
from lambda_celery.table.schema import failure_key
from lambda_celery.terminal import printable

_PAUSE_SECONDS = 1.0


@dataclass(frozen=True)
class End:
    """What has become of a call."""

    sentence: str
    is_good: bool

    def __str__(self) -> str:
        return printable(self.sentence)


class _Awaited:
    """A call that was published: what is to be looked at, to see what has become of it."""

    def __init__(self, tasks: FailedTasks, done: Done) -> None:
        self._tasks = tasks
        self._done = done
        self._record = failure_key(done.body)
        self._is_same_message = self._record == done.failure.id
        self._publication = publication_key(tasks.app, done.body)
        self.name = f"{done.failure.task} {done.task_id}".strip()

    def end(self) -> End | None:
        """Return what has become of it, if that can be told by now."""
        found = self._tasks.records.get(self._record)
        is_of_before = (
            self._is_same_message
            and found is not None
            and (found.failed_at == self._done.failure.failed_at)
        )
        if found is not None and not is_of_before:
            why = ": ".join(filter(None, (found.exception or found.reason, found.message)))
            return End(f"{self.name}: failed again. {why}", is_good=False)
        if has_run(self._tasks.app, self._publication):
            return End(f"{self.name}: ran to its end.", is_good=True)
        if self._is_same_message and found is None:
            return End(
                f"{self.name}: settled without a run that succeeded: it was revoked or has "
                "expired.",
                is_good=False,
            )
        return None


def wait_for(tasks: FailedTasks, every: Sequence[Done], timeout_seconds: float) -> list[End]:
    """Return what has become of *every* call, or after so many seconds that it still waits."""
    ends_at = time.monotonic() + timeout_seconds
    ends: list[End] = []
    for awaited in [_Awaited(tasks, done) for done in every]:
        while (end := awaited.end()) is None and time.monotonic() < ends_at:
            time.sleep(min(_PAUSE_SECONDS, max(0.0, ends_at - time.monotonic())))
        ends.append(
            end
            or End(
                f"{awaited.name}: not over after {timeout_seconds:g} s: it waits, runs, or failed "
                "and comes back.",
                is_good=False,
            )
        )
    return ends
