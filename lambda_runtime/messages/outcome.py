"""What becomes of a message, apart from doing it: one value for each way out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

#: Why a message comes back whose copy is being run.
IN_PROGRESS = "in progress elsewhere"


class End(Enum):
    """What has become of a call, as far as one delivery of it goes."""

    SUCCEEDED = "succeeded"
    #: For good: Celery's FAILURE.
    FAILED = "failed"
    #: It ran, and runs again: as a message of its own, or because this one comes again.
    RETRIED = "retried"
    IGNORED = "ignored"
    #: It was settled before.
    DUPLICATE = "duplicate"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True)
class Deleted:
    """The message is settled: Lambda deletes it, and we its body in S3, if it has one there."""

    reason: str
    end: End
    #: Whether another message still needs that body.
    keep_payload: bool = False
    #: Whether the call has failed for good: the next with its own key is to run.
    has_failed: bool = False
    #: What the task raised, where its caller is told.
    exception: BaseException | None = None


@dataclass(frozen=True)
class Returned:
    """The message stays on its queue and is hidden for *delay_seconds*."""

    reason: str
    delay_seconds: int
    #: What a person has to change before any such message can be run or settled, if it is that.
    misconfiguration: str | None = None


@dataclass(frozen=True)
class Parked:
    """The message moves to the dead-letter queue, with the reason as message attributes."""

    reason: str
    exception: BaseException | None = None
    #: Whether the task has run to its end, so that until the message is parked no copy may run.
    has_run: bool = False
    #: The record that is to be forgotten once it is parked, so that a redrive can run it.
    record_key: str | None = None
    #: Celery's, with the arguments as they are shown, where the message could be read.
    headers: Mapping[str, Any] | None = None
    #: How often it was run, where that is known.
    attempts: int | None = None

    @property
    def has_failed(self) -> bool:
        """Whether the call has failed for good: the next with its own key is to run."""
        return not self.has_run


@dataclass(frozen=True)
class Forwarded:
    """The message is sent on as a new one, to arrive again at *eta*, or nearer to it."""

    eta: datetime
    #: The task's id, where *eta* is the task's own and may be far off.
    task_id: str | None = None
    #: X-Ray's header, where the body alone has it: EventBridge Scheduler sends no attributes.
    trace_header: str | None = None

    def seconds_ahead(self) -> int:
        """Return the seconds until it is due, rounded up."""
        return max(0, math.ceil((self.eta - datetime.now(UTC)).total_seconds()))


@dataclass(frozen=True)
class Postponed:
    """The message's last run ended with its process: it runs when all others are settled."""

    #: How many runs there have been.
    attempts: int


Outcome = Deleted | Returned | Parked | Forwarded
