"""Completions that DynamoDB has refused: written again until the batch's end.

The work is done, so its message is deleted whatever becomes of the record. But a copy, or a process
that dies before it has answered, would have the work done twice.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

from lambda_celery import aws
from lambda_runtime.deadline import Deadline
from lambda_runtime.refusals import sentence
from lambda_runtime.table.claims import Ending, IdempotencyTable

logger = logging.getLogger(__name__)

#: How often it is tried again while other tasks run, and when they are through.
_PAUSE_SECONDS = 1.0
_LAST_PAUSE_SECONDS = 0.25
#: How long the answer waits for it when nothing else is to be done, and what it leaves.
_PATIENCE_SECONDS = 3.0
_ANSWER_SECONDS = 1.0


@dataclass(frozen=True)
class _Completion:
    key: str
    life_seconds: int
    ending: Ending


class Completions:
    """Writes down that publications have run."""

    def __init__(self, table: IdempotencyTable) -> None:
        self._table = table
        self._left: dict[str, _Completion] = {}
        self._lock = threading.Lock()
        self._again_at = 0.0

    def write(self, key: str, life_seconds: int, ending: Ending) -> None:
        """Write that *key* has run, now or later."""
        self.forget(key)  # this is newer
        self.try_again()
        completion = _Completion(key, life_seconds, ending)
        if (failure := self._written(completion)) is None:
            return
        logger.error("The idempotency record %s is out of date: %s", key, sentence(failure))
        if aws.misconfigured(failure):
            return  # it stays so
        with self._lock:
            self._left[key] = completion
            self._again_at = time.monotonic() + _PAUSE_SECONDS

    def forget(self, key: str) -> None:
        """Do not write what has been refused of *key*."""
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
        until = time.monotonic() + min(_PATIENCE_SECONDS, deadline.seconds() - _ANSWER_SECONDS)
        while self._left and time.monotonic() < until:
            self._again_at = 0.0
            self.try_again()
            if self._left:
                time.sleep(_LAST_PAUSE_SECONDS)
        for key in list(self._left):
            logger.error("The idempotency record %s stays out of date", key)
        self._left.clear()

    def _written(self, completion: _Completion) -> Exception | None:
        """Write *completion*; return what stood in the way, if anything."""
        try:
            self._table.complete(
                completion.key, life_seconds=completion.life_seconds, ending=completion.ending
            )
        except aws.AWS_ERRORS as exc:
            failure: Exception = exc
            return failure
        return None
