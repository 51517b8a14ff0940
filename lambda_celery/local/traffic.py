"""What goes on in a local run, for the page and for ``lambda status``: as AWS would tell it."""

from __future__ import annotations

import json
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from celery import Celery

from lambda_celery.check.deployed.deployment import Deployed
from lambda_celery.conf import Settings
from lambda_celery.local.event_source_mapping import BatchReport
from lambda_celery.local.function import FUNCTION_NAME
from lambda_celery.local.runtime_api import Outcome
from lambda_celery.status.attempts import Attempt, Attempts, attempt_in, chain
from lambda_celery.status.figures import (
    DURATION_BOUNDS_MS,
    Deployment,
    FunctionStatus,
    MappingStatus,
    QueueStatus,
    Status,
    TaskStatus,
)
from lambda_celery.status.queues import Queues, look, unseen

_MINUTES = 60
#: The latest of them are kept.
MAXIMUM_ATTEMPTS = 10_000
_MAXIMUM_DEPLOYMENTS = 100
#: More a process does not tell apart, but there may be several of it.
_MAXIMUM_TASKS = 1000


@dataclass
class _Runs:
    """What happened in one minute."""

    counts: dict[str, float] = field(default_factory=dict)
    milliseconds: float = 0.0
    longest_ms: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(DURATION_BOUNDS_MS) + 1))

    def count(self, name: str, number: float = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + number

    def took(self, milliseconds: float) -> None:
        self.milliseconds += milliseconds
        self.longest_ms = max(self.longest_ms, milliseconds)
        self.buckets[bisect_left(DURATION_BOUNDS_MS, milliseconds)] += 1

    @property
    def mean_ms(self) -> float | None:
        runs = sum(self.buckets)
        return self.milliseconds / runs if runs else None


class _Hour:
    """The last sixty minutes, of which the current one is the last."""

    def __init__(self) -> None:
        self._minutes: dict[int, _Runs] = {}

    def at(self, seconds: float) -> _Runs:
        minute = int(seconds // 60)
        if minute not in self._minutes:
            self._minutes[minute] = _Runs()
            for old in [each for each in self._minutes if each <= minute - _MINUTES]:
                del self._minutes[old]
        return self._minutes[minute]

    def minutes(self, now: float) -> list[_Runs]:
        last = int(now // 60)
        nothing = _Runs()
        return [self._minutes.get(m, nothing) for m in range(last - _MINUTES + 1, last + 1)]


class Traffic:
    """Keeps what a local run has told of the last hour. Any thread may use it.

    :param app: whose queues are looked at.
    :param settings: its settings, which point to the endpoint of the run.
    :param maximum_concurrency: of the mappings.
    """

    def __init__(self, app: Celery, settings: Settings, maximum_concurrency: int) -> None:
        self._app = app
        self._settings = settings
        self._maximum_concurrency = maximum_concurrency
        self._lock = threading.Lock()
        self._looking = threading.Lock()
        self._tasks: dict[tuple[str, str], _Hour] = {}
        self._function = _Hour()
        self._waiting: dict[str, _Hour] = {}
        self._attempts: deque[Attempt] = deque(maxlen=MAXIMUM_ATTEMPTS)
        self._deployments: deque[Deployment] = deque(maxlen=_MAXIMUM_DEPLOYMENTS)
        self._queues = Queues(settings)

    def take(self, line: str) -> None:
        """Take note of a *line* of the function's feed; what it does not know, it leaves alone."""
        if (attempt := attempt_in(line, time.time())) is not None:
            with self._lock:
                self._attempts.append(attempt)
            return
        try:
            said = json.loads(line)
        except ValueError:
            return
        if isinstance(said, dict) and isinstance(said.get("TaskName"), str):
            with self._lock:
                self._measured(said)

    def note_batch(self, report: BatchReport) -> None:
        """Take note of an invocation by a mapping."""
        self._invoked(report.result.error is not None, report.result.duration_seconds)

    def note_call(self, outcome: Outcome, seconds: float) -> None:
        """Take note of an invocation by a caller."""
        self._invoked(outcome.error is not None, seconds)

    def note_deployment(self) -> None:
        """Take note that from now on the function runs the code that is there now."""
        with self._lock:
            self._deployments.append(Deployment(datetime.now(UTC), FUNCTION_NAME, "$LATEST"))

    def status(self) -> Status:
        """Return the figures as they are now. The queues are looked at for it."""
        with self._looking:
            left_out: list[str] = []
            queues = tuple(self._look_at_queues(left_out))
        now = time.time()
        first = (int(now // 60) - _MINUTES + 1) * 60
        with self._lock:
            return Status(
                datetime.fromtimestamp(now, UTC),
                queues,
                (self._function_status(now),),
                tuple(dict.fromkeys(left_out)),
                tasks=tuple(
                    _task_status(queue, task, hour.minutes(now))
                    for (queue, task), hour in self._tasks.items()
                ),
                deployments=tuple(self._deployments),
                started=datetime.fromtimestamp(first, UTC),
            )

    def attempts(self, task_id: str) -> Attempts:
        """Return the attempts of the task, and of all with the same root."""
        with self._lock:
            found = list(self._attempts)
        told = chain(found, task_id)
        if told:
            return Attempts(told)
        return Attempts(
            left_out=(
                f"This run keeps the last {MAXIMUM_ATTEMPTS:,} attempts that have ended. What runs "
                "now, and what was killed, is none of them.",
            )
        )

    def _invoked(self, has_failed: bool, seconds: float) -> None:
        with self._lock:
            runs = self._function.at(time.time())
            runs.count("invocations")
            runs.count("errors", has_failed)
            runs.took(seconds * 1000)

    def _measured(self, said: Mapping[str, Any]) -> None:
        key = str(said.get("QueueName")), said["TaskName"]
        if key not in self._tasks and len(self._tasks) >= _MAXIMUM_TASKS:
            return
        runs = self._tasks.setdefault(key, _Hour()).at(time.time())
        for name in ("TasksSucceeded", "TasksFailed", "TasksRetried"):
            runs.count(name, sum(said.get(name, ())))
        for milliseconds in said.get("TaskDuration", ()):
            runs.took(milliseconds)

    def _look_at_queues(self, left_out: list[str]) -> list[QueueStatus]:
        deployed = Deployed(self._app, self._settings)
        # The emulator has no mappings: this process is what takes from the queues.
        mapping = MappingStatus("local", "Enabled", FUNCTION_NAME, self._maximum_concurrency)
        found = []
        for url, thing in deployed.queue_things():
            queue = look(deployed, url, thing, left_out)
            now = time.time()
            hour = self._waiting.setdefault(url, _Hour())
            if queue is not None:
                waiting = float(queue.attributes["ApproximateNumberOfMessages"])
                hour.at(now).counts["waiting"] = waiting
            by_minute = tuple(each.counts.get("waiting", 0.0) for each in hour.minutes(now))
            found.append(
                self._queues.status(
                    deployed, url, queue, now, waiting_by_minute=by_minute, mappings=(mapping,)
                )
            )
        left_out += unseen(deployed)
        return found

    def _function_status(self, now: float) -> FunctionStatus:
        minutes = self._function.minutes(now)
        return FunctionStatus(
            FUNCTION_NAME,
            invocations=_counts(minutes, "invocations"),
            errors=_counts(minutes, "errors"),
            duration_ms=_latest_mean(minutes),
            duration_maximum_ms=max(each.longest_ms for each in minutes) or None,
        )


def _task_status(queue: str, task: str, minutes: list[_Runs]) -> TaskStatus:
    return TaskStatus(
        task,
        queue,
        _counts(minutes, "TasksSucceeded"),
        _counts(minutes, "TasksFailed"),
        _counts(minutes, "TasksRetried"),
        duration_ms=_latest_mean(minutes),
        durations=tuple(tuple(map(float, each.buckets)) for each in minutes),
    )


def _counts(minutes: list[_Runs], name: str) -> tuple[float, ...]:
    return tuple(float(each.counts.get(name, 0)) for each in minutes)


def _latest_mean(minutes: list[_Runs]) -> float | None:
    means = (each.mean_ms for each in reversed(minutes))
    return next((each for each in means if each is not None), None)
