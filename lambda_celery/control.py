"""Remote control of tasks that wait for Lambda: there is no worker to talk to, but a table."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError
from kombu.utils.functional import maybe_list

from lambda_celery.conf import settings_of
from lambda_celery.exceptions import LambdaCeleryError
from lambda_celery.table.revocations import revoke, stamp_keys
from lambda_celery.table.schema import revoked_key

logger = logging.getLogger(__name__)


class LambdaControl:
    """Mixin of :class:`celery.app.control.Control`.

    Tells Lambda first, and then the workers, in Celery's own way: which of them has the
    task cannot be told from its id.
    """

    app: Celery

    def revoke(self, task_id: Any, *args: Any, **kwargs: Any) -> Any:
        """Revoke a task, or a list of tasks, that has not started.

        :raises PublishError: the idempotency table cannot be written.
        """
        ids = [str(each) for each in maybe_list(task_id)]
        if self._tell_lambda([revoked_key(each) for each in ids]):
            self._cancel_schedules(ids)
        return self._tell_workers(super().revoke, task_id, *args, **kwargs)  # type: ignore[misc]

    def revoke_by_stamped_headers(
        self, headers: Mapping[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Revoke the tasks that are stamped with *headers* and have not started.

        :raises PublishError: the idempotency table cannot be written.
        """
        self._tell_lambda(list(stamp_keys(headers)))
        broadcast = super().revoke_by_stamped_headers  # type: ignore[misc]
        return self._tell_workers(broadcast, headers, *args, **kwargs)

    def _tell_lambda(self, keys: list[str]) -> bool:
        """Write *keys* to the table; return whether that is done.

        While Lambda Celery is switched off there may be no table, and what waits from before
        may still be called off.
        """
        settings = settings_of(self.app)
        if not settings.enabled and settings.idempotency_table is None:
            return False
        try:
            revoke(settings, keys)
        except LambdaCeleryError as exc:
            if settings.enabled:
                raise
            logger.warning("Workers are told of the revoke, but Lambda is not: %s", exc)
            return False
        return True

    def _cancel_schedules(self, task_ids: list[str]) -> None:
        settings = settings_of(self.app)
        if settings.schedule_group is not None:
            from lambda_celery.schedules.one_time import cancel_schedules

            for task_id in task_ids:
                cancel_schedules(settings, task_id)

    def _tell_workers(self, broadcast: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        # Without a broker, kombu would go on trying to reach one on this machine.
        if not (self.app.conf.broker_write_url or self.app.conf.broker_url):
            return None
        try:
            return broadcast(*args, **kwargs)
        except (OperationalError, OSError) as exc:
            logger.warning("Lambda is told of the revoke, but workers are not: %s", exc)
            return None
