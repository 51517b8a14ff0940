"""The list of failed tasks, a page at a time, for whoever shows it: nothing is counted for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from lambda_celery.exceptions import FailedTaskError
from lambda_celery.failures.record import Failure, milliseconds, moment
from lambda_celery.failures.store import Failures

#: What is looked at for one page: a rare failure must not cost the whole index.
MAXIMUM_LOOKED_AT = 5_000
#: Where that much may have to be looked at, this much of a partition is read at once.
_SEARCHED_ROWS = 1_000


@dataclass(frozen=True)
class Page:
    """A part of the list.

    :ivar after: the place where the next page begins; empty where there is none.
    :ivar is_cut: whether looking has ended before the page was full.
    """

    failures: list[Failure]
    after: str = ""
    is_cut: bool = False


def page_of(
    records: Failures,
    is_meant: Callable[[Failure], bool] | None = None,
    *,
    after: str = "",
    rows: int = 100,
) -> Page:
    """Return the *rows* newest failures, of those that are meant, after the place *after*.

    :raises FailedTaskError: *after* is no place.
    :raises ConfigurationError: AWS refuses.
    """
    place = _read(after) if after else None
    found: list[Failure] = []
    last: Failure | None = None
    looked_at = 0
    # One more than are shown says whether there is another page.
    page_rows = _SEARCHED_ROWS if is_meant else rows + 1
    every = records.all(until=place and place[0], page_rows=page_rows)
    for each in in_order(every):
        if place is not None and each.failed_at == place[0] and each.id <= place[1]:
            continue
        if last is not None and (len(found) == rows or looked_at == MAXIMUM_LOOKED_AT):
            return Page(found, _written(last), is_cut=len(found) < rows)
        last = each
        looked_at += 1
        if is_meant is None or is_meant(each):
            found.append(each)
    return Page(found)


def in_order(failures: Iterator[Failure]) -> Iterator[Failure]:
    """Yield *failures*, by id where they are of the same moment: a page begins at one of them."""
    for _, same in groupby(failures, key=lambda each: each.failed_at):
        yield from sorted(same, key=lambda each: each.id)


def _written(failure: Failure) -> str:
    return f"{milliseconds(failure.failed_at)}_{failure.id}"


def _read(place: str) -> tuple[datetime, str]:
    failed_at, _, failure_id = place.partition("_")
    try:
        return moment(int(failed_at)), failure_id
    except (ValueError, OverflowError, OSError):
        raise FailedTaskError(
            f"{place!r} is no place in the list of failed tasks: begin with its first page."
        ) from None
