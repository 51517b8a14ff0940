"""What is done with many failed tasks by the function itself, and how that is written down."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from lambda_celery.exceptions import FailedTaskError
from lambda_celery.failures.record import milliseconds, moment
from lambda_celery.failures.selection import Selection
from lambda_celery.table.schema import (
    BULK_PARTITION,
    BULK_PREFIX,
    EXPIRATION,
    FAILED_AT,
    FAILURES_PARTITION,
    KEY,
    bulk_key,
)

#: What can be done: methods of FailedTasks.
VERBS = ("retry", "send_again", "discard")

#: The states of an action. What is stopped met something that a person has to mend.
RUNNING, STOPPED, ABORTED, DONE = "running", "stopped", "aborted", "done"

#: How long the item is kept after its last change.
LIFE_SECONDS = 30 * 86_400

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class BulkAction:
    """Something that is done with many failed tasks, oldest first, in slices.

    :ivar name: by which it is looked at, aborted and resumed.
    :ivar verb: ``retry``, ``send_again`` or ``discard``.
    :ivar selection: which failures are meant.
    :ivar until: what failed later is left out: when the last failed that was counted.
    :ivar per_second: how many at most.
    :ivar counted: how many there were when it began.
    :ivar on_queue: the Celery queue whose function works it off.
    :ivar to_queue: the Celery queue, or the URL of the one, that they are sent to, if another.
    :ivar begun_by: whoever began it, as he is called there.
    :ivar state: ``running``, ``stopped``, ``aborted`` or ``done``.
    :ivar done: with how many it was done.
    :ivar refused: with how many it could not be done: they are still listed.
    :ivar left: how many dead letters are still on their queue, of those that it was done with.
    :ivar sentence: why, for the last one; or why it has stopped.
    :ivar worked_at: when a slice has last told how far it is, or it was resumed.
    :ivar position: the time, and the id, of the failure that was looked at last.
    :ivar turn: the id of the one task that may go on with it.
    """

    name: str
    verb: str
    selection: Selection
    until: datetime
    per_second: float
    counted: int
    on_queue: str
    begun_at: datetime
    turn: str
    to_queue: str | None = None
    begun_by: str = ""
    state: str = RUNNING
    done: int = 0
    refused: int = 0
    left: int = 0
    sentence: str = ""
    worked_at: datetime | None = None
    position: tuple[datetime, str] | None = None

    @property
    def is_running(self) -> bool:
        """Whether it is to go on."""
        return self.state == RUNNING


def check_name(name: str) -> None:
    """Refuse a *name* that cannot be one.

    :raises FailedTaskError: it has other characters, or too many.
    """
    if not _NAME.fullmatch(name):
        raise FailedTaskError(
            f"{name!r} is no name of a bulk action: use up to 64 letters, digits, dots, dashes and "
            "underscores."
        )


def to_item(action: BulkAction) -> dict[str, Any]:
    """Return the item of *action*, when it begins."""
    return {
        KEY: {"S": bulk_key(action.name)},
        FAILURES_PARTITION: {"S": BULK_PARTITION},
        FAILED_AT: {"N": str(milliseconds(action.begun_at))},
        "verb": {"S": action.verb},
        "selection": {"S": _selection_text(action.selection)},
        "until": {"N": str(milliseconds(action.until))},
        "per_second": {"N": f"{action.per_second:.6f}"},
        "counted": {"N": str(action.counted)},
        "on_queue": {"S": action.on_queue},
        **({"to_queue": {"S": action.to_queue}} if action.to_queue is not None else {}),
        "begun_by": {"S": action.begun_by},
        **changing(action),
    }


def changing(action: BulkAction) -> dict[str, Any]:
    """Return the attributes of *action* that change while it is worked off."""
    texts = {"state": action.state, "turn": action.turn, "sentence": action.sentence[:1000]}
    numbers = {
        "done": action.done,
        "refused": action.refused,
        "left": action.left,
        EXPIRATION: int(time.time()) + LIFE_SECONDS,
    }
    if action.worked_at is not None:
        numbers["worked_at"] = milliseconds(action.worked_at)
    if action.position is not None:
        numbers["position"], texts["position_id"] = (
            milliseconds(action.position[0]),
            action.position[1],
        )
    return {
        **{name: {"S": text} for name, text in texts.items()},
        **{name: {"N": str(number)} for name, number in numbers.items()},
    }


def from_item(item: Mapping[str, Mapping[str, Any]]) -> BulkAction:
    """Return the action in *item*."""

    def text(name: str) -> str:
        return str(item.get(name, {}).get("S", ""))

    def number(name: str) -> int:
        return int(item[name]["N"])

    return BulkAction(
        name=text(KEY).removeprefix(BULK_PREFIX),
        verb=text("verb"),
        selection=_selection(text("selection")),
        until=moment(number("until")),
        per_second=float(item["per_second"]["N"]),
        counted=number("counted"),
        on_queue=text("on_queue"),
        begun_at=moment(number(FAILED_AT)),
        turn=text("turn"),
        to_queue=text("to_queue") or None,
        begun_by=text("begun_by"),
        state=text("state"),
        done=number("done"),
        refused=number("refused"),
        left=number("left"),
        sentence=text("sentence"),
        worked_at=moment(number("worked_at")) if "worked_at" in item else None,
        position=(moment(number("position")), text("position_id")) if "position" in item else None,
    )


def _selection_text(selection: Selection) -> str:
    return json.dumps(
        {
            "task": selection.task,
            "exception": selection.exception,
            "queue": selection.queue,
            "older_than": _seconds(selection.older_than),
            "newer_than": _seconds(selection.newer_than),
            "now": selection.now.isoformat(),
        }
    )


def _selection(text: str) -> Selection:
    values = json.loads(text)
    ages = {
        name: timedelta(seconds=values[name]) if values[name] is not None else None
        for name in ("older_than", "newer_than")
    }
    now = datetime.fromisoformat(values["now"]).astimezone(UTC)
    return Selection(**{**values, **ages, "now": now})


def _seconds(age: timedelta | None) -> float | None:
    return age.total_seconds() if age is not None else None
