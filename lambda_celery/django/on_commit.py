"""Messages held back until Django's transaction commits."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial

from django.db import transaction

from lambda_celery.publishing.batch_block import send_held
from lambda_celery.publishing.held_messages import HeldMessages, Progress, holding


def batch_on_commit(
    using: str | None = None, *, progress: Progress | None = None
) -> AbstractContextManager[None]:
    """Hold the messages that the block publishes to SQS; send them when the transaction commits.

    It is :func:`lambda_celery.batch` with :func:`django.db.transaction.on_commit` at its end:
    what is rolled back is not sent, and outside of a transaction the block's end sends it.
    ``BatchPublishError`` is raised where the transaction ends; it has been committed then.

    :param using: the database, if it is not the default one.
    :param progress: as in :func:`lambda_celery.batch`.
    """

    def send_on_commit(held: HeldMessages) -> None:
        held.close()
        transaction.on_commit(partial(send_held, held, progress), using=using)

    return holding(send_on_commit)
