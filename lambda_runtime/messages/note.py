"""What an invocation notes of a delivery, for its metrics and its summary."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from lambda_celery.direct_calls import Answer
from lambda_runtime.messages.outcome import Deleted, End, Forwarded, Outcome, Parked, Returned


class Fate(Enum):
    """Where a message is when its invocation has ended."""

    DELETED = "deleted"
    RETURNED = "returned"
    FORWARDED = "forwarded"
    PARKED = "parked"


@dataclass(slots=True)
class Note:
    """What is known of one delivery. Whoever works on it writes here, one at a time."""

    #: Its task's name, once it has been read.
    task: str | None = None
    #: As Celery's headers have them.
    task_id: str | None = None
    root_id: str | None = None
    parent_id: str | None = None
    retries: int | None = None
    #: When it was due, in seconds since the epoch, if that is not when it was sent.
    since: float | None = None
    #: Whether it counts as a run of its task, and when that began, in seconds since the epoch.
    is_attempt: bool = False
    began_at: float | None = None
    run_seconds: float | None = None
    #: How long it has waited for the idempotency table.
    table_seconds: float | None = None
    #: What has become of the call, where that is known.
    end: End | None = None
    fate: Fate = Fate.DELETED
    #: Why it has come back, or is parked.
    reason: str = ""
    #: What its caller is told, of a direct call.
    answer: Answer | None = None

    def decided(self, outcome: Outcome) -> None:
        """Note what *outcome* means for the call."""
        match outcome:
            case Deleted():
                self.end = outcome.end
            case Parked():
                if self.is_attempt and not outcome.has_run:
                    self.end = End.FAILED
            case Returned() | Forwarded():
                if self.is_attempt:
                    self.end = End.RETRIED

    def stays(self, fate: Fate, reason: str = "") -> None:
        """Note that the message is not just deleted, and why."""
        self.fate, self.reason = fate, reason

    def table_took(self, seconds: float) -> None:
        """Add *seconds* to what the requests to the idempotency table took."""
        self.table_seconds = (self.table_seconds or 0.0) + seconds

    def take(self, other: Note) -> None:
        """Take over what another process has noted of the same delivery."""
        self.task, self.since = other.task, other.since
        self.task_id, self.retries = other.task_id, other.retries
        self.root_id, self.parent_id = other.root_id, other.parent_id
        self.is_attempt, self.began_at = other.is_attempt, other.began_at
        self.run_seconds, self.table_seconds = other.run_seconds, other.table_seconds
        self.end, self.fate, self.reason = other.end, other.fate, other.reason
        self.answer = other.answer
