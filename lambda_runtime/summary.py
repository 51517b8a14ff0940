"""One line in the log for each invocation: what has become of its messages."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence

from lambda_runtime.deadline import Deadline
from lambda_runtime.messages.delivery import Delivery
from lambda_runtime.messages.note import Fate
from lambda_runtime.messages.outcome import End

logger = logging.getLogger(__name__)

#: How many reasons are told by themselves, and how much of each: some name what they are about.
_MAXIMUM_REASONS = 5
_MAXIMUM_CHARACTERS = 100


def log(deliveries: Sequence[Delivery], deadline: Deadline) -> None:
    """Log what the notes of an invocation's *deliveries* say."""
    if not logger.isEnabledFor(logging.INFO):
        return
    notes = [each.note for each in deliveries]
    ends = Counter(each.end for each in notes)
    fates = Counter(each.fate for each in notes)
    ran = sum(each.run_seconds is not None for each in notes)
    reasons = _reasons(each.reason for each in notes if each.fate is Fate.RETURNED)
    ended = {end.value: ends[end] for end in End if ends[end]}
    parts = [f"{number} {name}" for name, number in ended.items()]
    if fates[Fate.RETURNED]:
        why = "; ".join(f"{reason}: {number}" for reason, number in reasons.items())
        parts.append(f"{fates[Fate.RETURNED]} came back ({why})")
    parts += [
        f"{fates[fate]} {fate.value}" for fate in (Fate.FORWARDED, Fate.PARKED) if fates[fate]
    ]
    seconds_left = round(deadline.seconds(), 1)
    about = {
        "received": len(notes),
        "ran": ran,
        **ended,
        **{fate.value: fates[fate] for fate in Fate if fate is not Fate.DELETED and fates[fate]},
        **({"returned_for": reasons} if reasons else {}),
        "seconds_left": seconds_left,
    }
    logger.info(
        "Batch of %d: %d ran%s. %s s are left.",
        len(notes), ran, "".join(f", {each}" for each in parts), seconds_left, extra=about,
    )  # fmt: skip


def _reasons(all_reasons: Iterable[str]) -> dict[str, int]:
    counted = Counter(each[:_MAXIMUM_CHARACTERS] for each in all_reasons)
    told = dict(counted.most_common(_MAXIMUM_REASONS))
    if (others := counted.total() - sum(told.values())) > 0:
        told["other reasons"] = others
    return told
