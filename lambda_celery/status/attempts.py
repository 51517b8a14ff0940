"""The chain of attempts of a task: what became of each delivery, across retries and canvas."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

#: What may become of a call, and of the message where nothing has become of the call. A line that
#: tells of another end is a task's own, which has a field of that name.
ENDS = frozenset(
    {
        "succeeded", "failed", "retried", "ignored", "duplicate", "expired", "revoked",
        "returned", "forwarded", "parked",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Attempt:
    """What became of one delivery of a message.

    :ivar time: when it ended.
    :ivar queue: SQS's name of the queue.
    :ivar root_id: of the task that all of its canvas began with; "" if the message names none.
    :ivar parent_id: of the task that has sent this one; "" if none did.
    :ivar end: the task's end (``succeeded``, ``failed``, ``retried``, ``ignored``, ``duplicate``,
        ``expired``, ``revoked``), or where there was none the message's (``returned``,
        ``forwarded``, ``parked``).
    :ivar retries: how many of Celery's retries came before; ``None`` if it is not known.
    :ivar receive_count: how often SQS has handed the message out; ``None`` if it is not known.
    :ivar duration_ms: how long the task ran; ``None`` if it did not.
    :ivar exception: what it raised; "" if nothing.
    :ivar request_id: of the invocation.
    :ivar message_id: of SQS.
    """

    time: datetime
    task_id: str
    task: str
    queue: str
    root_id: str
    parent_id: str
    end: str
    retries: int | None
    receive_count: int | None
    duration_ms: float | None
    exception: str
    request_id: str
    message_id: str

    @property
    def begins(self) -> bool:
        """Whether nothing of its task, and of those whose root that is, can have come before."""
        return self.retries == 0 and self.receive_count == 1


@dataclass(frozen=True)
class Attempts:
    """The attempts of all tasks that have the same root, by their time.

    :ivar left_out: a sentence for each thing that could not be read.
    """

    attempts: tuple[Attempt, ...] = ()
    left_out: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the attempts as one JSON object."""
        return {
            "attempts": [
                {**asdict(each), "time": each.time.isoformat(timespec="milliseconds")}
                for each in self.attempts
            ],
            "left_out": list(self.left_out),
        }


def attempt_in(line: str, seconds: float) -> Attempt | None:
    """Return the attempt that *line* of a function's log tells of, if it is such a line.

    :param seconds: when it was written, since 1970.
    """
    start = line.find("{")  # a line may have Lambda's time and request id in front
    if start < 0 or '"end"' not in line:
        return None
    try:
        said = json.loads(line[start:])
    except ValueError:
        return None
    if not isinstance(said, dict) or _text(said, "end") not in ENDS or not _text(said, "task_id"):
        return None
    return Attempt(
        datetime.fromtimestamp(seconds, UTC),
        _text(said, "task_id"),
        _text(said, "task_name"),
        _text(said, "queue"),
        # It is written where it is another task's.
        _text(said, "root_id") or _text(said, "task_id"),
        _text(said, "parent_id"),
        _text(said, "end"),
        _whole(said, "retries"),
        _whole(said, "receive_count"),
        _number(said, "duration_ms"),
        _text(said, "error"),
        _text(said, "function_request_id"),
        _text(said, "message_id"),
    )


def chain(found: Iterable[Attempt], task_id: str) -> tuple[Attempt, ...]:
    """Return those of *found* that have the same root as the task *task_id*, by their time.

    Of two that tell of the same delivery the later one counts.
    """
    ordered = sorted(found, key=lambda each: each.time)
    roots = {each.root_id for each in ordered if each.task_id == task_id} | {task_id}
    told: dict[tuple[str, str], Attempt] = {}
    for each in ordered:
        if each.root_id not in roots:
            continue
        key = each.message_id, each.request_id
        before = told.pop(key, each)
        told[key] = replace(
            each,
            duration_ms=before.duration_ms if each.duration_ms is None else each.duration_ms,
            exception=each.exception or before.exception,
        )
    return tuple(told.values())


def _text(said: Mapping[str, Any], name: str) -> str:
    value = said.get(name)
    return value if isinstance(value, str) else ""


def _number(said: Mapping[str, Any], name: str) -> float | None:
    value = said.get(name)
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def _whole(said: Mapping[str, Any], name: str) -> int | None:
    value = said.get(name)
    return value if isinstance(value, int) else None
