"""Messages held back until Django's transaction commits."""

from __future__ import annotations

from contextlib import AbstractContextManager

from django.db import transaction

from lambda_celery.publishing.batch_block import send_held
from lambda_celery.publishing.held_messages import HeldMessages, OnDropped, Progress, holding


def batch_on_commit(
    using: str | None = None,
    *,
    progress: Progress | None = None,
    on_dropped: OnDropped | None = None,
) -> AbstractContextManager[None]:
    """Hold the messages that the block publishes to SQS; send them when the transaction commits.

    It is :func:`lambda_celery.batch` with :func:`django.db.transaction.on_commit` at its end:
    what is rolled back is not sent, and outside of a transaction the block's end sends it.
    ``BatchPublishError`` is raised where the transaction ends; it has been committed then.

    :param using: the database, if it is not the default one.
    :param progress: as in :func:`lambda_celery.batch`.
    :param on_dropped: as in :func:`lambda_celery.batch`; called after a rollback, too.
    """

    def send_on_commit(held: HeldMessages) -> None:
        transaction.on_commit(_Sending(held, progress, on_dropped), using=using)

    return holding(send_on_commit, on_dropped)


class _Sending:
    """Sends what is held; tells that it is dropped, if Django forgets it: it was rolled back."""

    def __init__(
        self, held: HeldMessages, progress: Progress | None, on_dropped: OnDropped | None
    ) -> None:
        held.close()
        self._held: HeldMessages | None = held
        self._progress = progress
        self._on_dropped = on_dropped

    def __call__(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            send_held(held, self._progress)

    def __del__(self) -> None:
        # Django has no hook for a rollback: it drops what it was to call.
        if self._held is not None:
            self._held.drop(self._on_dropped)
