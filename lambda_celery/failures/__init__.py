"""Failed tasks: a record of each dead letter, to be found without touching its queue.

The dead-letter queue is the truth, and has the message. The record is in the idempotency table,
with an index of its own: it is written when the function parks a message, and is gone when that
has come back and was settled.
"""

from lambda_celery.failures.record import Failure
from lambda_celery.failures.store import Failures

__all__ = ["Failure", "Failures"]
