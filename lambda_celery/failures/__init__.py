"""Failed tasks: a record of each dead letter, to be found without touching its queue.

The dead-letter queue is the truth, and has the message. The record is in the idempotency table,
with an index of its own: it is written when the function parks a message, and is gone when that
has come back and was settled. What is done with failed tasks enters at
:class:`~lambda_celery.failures.actions.FailedTasks`; what the function does with many of them, at
:class:`~lambda_celery.failures.bulk.BulkActions`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lambda_celery.failures.actions import Done, FailedTasks
    from lambda_celery.failures.bulk import BulkActions
    from lambda_celery.failures.bulk_action import BulkAction
    from lambda_celery.failures.lost import LostRun, scan_lost
    from lambda_celery.failures.record import Failure
    from lambda_celery.failures.selection import Selection
    from lambda_celery.failures.store import Failures

__all__ = [
    "BulkAction",
    "BulkActions",
    "Done",
    "FailedTasks",
    "Failure",
    "Failures",
    "LostRun",
    "Selection",
    "scan_lost",
]

#: Imported when they are asked for: a cold start has no time for what only people use.
_MODULES = {
    "BulkAction": "bulk_action",
    "BulkActions": "bulk",
    "Done": "actions",
    "FailedTasks": "actions",
    "Failure": "record",
    "Failures": "store",
    "LostRun": "lost",
    "Selection": "selection",
    "scan_lost": "lost",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
