"""One line in the log for each invocation: what has become of its messages."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from lambda_runtime.deadline import Deadline
from lambda_runtime.messages.delivery import Delivery
from lambda_runtime.messages.note import Fate
from lambda_runtime.messages.outcome import End

logger = logging.getLogger(__name__)

#: How many reasons are told by themselves, and how much of each: some name what they are about.
_MAXIMUM_REASONS = 5
_MAXIMUM_CHARACTERS = 100
_ENDS = tuple(End)


def log(deliveries: Sequence[Delivery], deadline: Deadline) -> None:
    """Log what the notes of an invocation's *deliveries* say."""
    if not logger.isEnabledFor(logging.INFO):
        return
    ran = 0
    ends: dict[End | None, int] = {}
    fates: dict[Fate, int] = {}
    why: list[str] = []
    for delivery in deliveries:
        note = delivery.note
        ran += note.run_seconds is not None
        ends[note.end] = ends.get(note.end, 0) + 1
        fates[note.fate] = fates.get(note.fate, 0) + 1
        if note.fate is Fate.RETURNED:
            why.append(note.reason)
    seconds_left = round(deadline.seconds(), 1)
    about: dict[str, Any] = {"received": len(deliveries), "ran": ran}
    parts = ""
    for end in _ENDS:
        if number := ends.get(end):
            about[end.value] = number
            parts += f", {number} {end.value}"
    if returned := fates.get(Fate.RETURNED):
        about[Fate.RETURNED.value] = returned
        about["returned_for"] = reasons = _reasons(why)
        told = "; ".join(f"{reason}: {number}" for reason, number in reasons.items())
        parts += f", {returned} came back ({told})"
    for fate in (Fate.FORWARDED, Fate.PARKED):
        if number := fates.get(fate):
            about[fate.value] = number
            parts += f", {number} {fate.value}"
    about["seconds_left"] = seconds_left
    logger.info(
        "Batch of %d: %d ran%s. %s s are left.",
        len(deliveries), ran, parts, seconds_left, extra=about,
    )  # fmt: skip


def _reasons(all_reasons: Iterable[str]) -> dict[str, int]:
    counted = Counter(each[:_MAXIMUM_CHARACTERS] for each in all_reasons)
    told = dict(counted.most_common(_MAXIMUM_REASONS))
    if (others := counted.total() - sum(told.values())) > 0:
        told["other reasons"] = others
    return told
