"""Failed tasks: a record of each dead letter, to be found without touching its queue.

The dead-letter queue is the truth, and has the message. The record is in the idempotency table,
with an index of its own: it is written when the function parks a message, and is gone when that
has come back and was settled. What is done with failed tasks enters at
:class:`~lambda_celery.failures.actions.FailedTasks`.
"""

from lambda_celery.failures.actions import Done, FailedTasks
from lambda_celery.failures.record import Failure
from lambda_celery.failures.selection import Selection
from lambda_celery.failures.store import Failures

__all__ = ["Done", "FailedTasks", "Failure", "Failures", "Selection"]
