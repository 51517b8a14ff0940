"""The chain of attempts of a task: what became of each delivery, across retries and canvas."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any


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
