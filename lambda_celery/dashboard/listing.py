"""Which failed tasks a page lists: what its form's fields mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from lambda_celery.exceptions import FailedTaskError
from lambda_celery.failures import FailedTasks, Failure, Selection
from lambda_celery.failures.pages import Page, page_of

#: The fields of the form, each with its label.
FILTERS = {"q": "Search", "task": "Task", "exception": "Exception", "queue": "Queue"}


def listed(tasks: FailedTasks, values: Mapping[str, str], rows: int) -> Page:
    """Return the page that *values*, those of the form's fields, ask for.

    :raises LambdaCeleryError: AWS refuses, or it is no page.
    """
    after = values.get("after", "")
    searched = values.get("q", "").strip()
    if searched and not after:
        # An id is found however old it is.
        by_id = list(tasks.select(Selection(frozenset({searched}))))
        if by_id:
            return Page(by_id)
    selection = replace(_selection(values), with_retried=True)
    is_meant = _both(selection, searched.casefold()) if any(map(values.get, FILTERS)) else None
    return page_of(tasks.records, is_meant, after=after, rows=rows)


def selection_of(values: Mapping[str, str]) -> Selection:
    """Return which failures *values* mean, on every page.

    :raises FailedTaskError: a text is searched for, which a selection does not tell.
    """
    if values.get("q"):
        raise FailedTaskError(
            "What is searched for cannot be done with at once: use the fields for task, exception "
            "and queue."
        )
    return _selection(values)


def _selection(values: Mapping[str, str]) -> Selection:
    return Selection(
        task=values.get("task") or None,
        exception=values.get("exception") or None,
        queue=values.get("queue") or None,
    )


def _both(selection: Selection, searched: str) -> Callable[[Failure], bool]:
    def is_meant(failure: Failure) -> bool:
        texts = (
            failure.task_id, failure.task, failure.exception, failure.reason, failure.queue,
        )  # fmt: skip
        return selection.matches(failure) and (
            not searched or any(searched in text.casefold() for text in texts)
        )

    return is_meant
