"""Completions that DynamoDB has refused: written again until the batch's end.

The work is done, so its message is deleted whatever becomes of the record. But a copy, or a process
that dies before it has answered, would have the work done twice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from lambda_celery import aws
from lambda_runtime.deadline import Deadline
from lambda_runtime.refusals import sentence
from lambda_runtime.table.claims import Ending, IdempotencyTable

logger = logging.getLogger(__name__)

#: How often it is tried again while other tasks run, and when they are through.
_PAUSE_SECONDS = 1.0
_LAST_PAUSE_SECONDS = 0.25


@dataclass(frozen=True)
class Completion:
    """That a publication has run, and how long that is to be remembered."""

    key: str
    life_seconds: int
    ending: Ending
    #: What a caller who asks once more is told.
    answer: str | None = None


class Completions:
    """Writes down that publications have run."""

    def __init__(self, table: IdempotencyTable) -> None:
        self._table = table
        self._left: dict[str, Completion] = {}
        self._lock = threading.Lock()
        self._again_at = 0.0

    def write(self, completion: Completion) -> None:
        """Write that a publication has run, now or later."""
        self.forget(completion.key)  # this is newer
        self.try_again()
        if self._left:  # the table has just refused others, and each costs its patience
            with self._lock:
                self._left[completion.key] = completion
            return
        if (failure := self._written(completion)) is None:
            return
        logger.error(
            "The idempotency record %s is out of date: %s", completion.key, sentence(failure)
        )
        if aws.misconfigured(failure):
            return  # it stays so
        with self._lock:
            self._left[completion.key] = completion
            self._again_at = time.monotonic() + _PAUSE_SECONDS

    def write_behind(self, completion: Completion, then: Callable[[bool], None]) -> None:
        """Write that a publication has run, together with others.

        *then* is told, on another thread, whether that is done. If not, :meth:`write` it.
        """
        self.forget(completion.key)
        self._table.complete_behind(
            completion.key,
            life_seconds=completion.life_seconds,
            ending=completion.ending,
            then=then,
        )

    @property
    def are_left(self) -> bool:
        """Whether some were refused, and are to be tried again."""
        return bool(self._left)

    def forget(self, key: str) -> None:
        """Do not write what has been refused of *key*."""
        if not self._left:
            return
        with self._lock:
            self._left.pop(key, None)

    def try_again(self) -> None:
        """Write what was refused, if that is some time ago."""
        if not self._left or time.monotonic() < self._again_at:
            return
        with self._lock:
            self._again_at = time.monotonic() + _PAUSE_SECONDS
            left = list(self._left.values())
        for completion in left:
            if self._written(completion) is not None:
                return  # the others would be refused, too
            with self._lock:
                self._left.pop(completion.key, None)

    def finish(self, deadline: Deadline) -> None:
        """Write what was refused, while there is time; and forget what could not be written."""
        until = deadline.patience_ends()
        while self._left and time.monotonic() < until:
            self._again_at = 0.0
            self.try_again()
            if self._left:
                time.sleep(_LAST_PAUSE_SECONDS)
        for key in list(self._left):
            logger.error("The idempotency record %s stays out of date", key)
        self._left.clear()

    def _written(self, completion: Completion) -> Exception | None:
        """Write *completion*; return what stood in the way, if anything."""
        try:
            self._table.complete(
                completion.key,
                life_seconds=completion.life_seconds,
                ending=completion.ending,
                answer=completion.answer,
            )
        except Exception as exc:  # noqa: BLE001 - of somebody's hook, too: the work is done
            return exc
        return None
