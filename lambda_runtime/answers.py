"""What the caller of a direct call is told of it, in the words of Celery's states."""

from __future__ import annotations

import json
import logging
import traceback
from typing import Any

from celery import Celery, states
from celery.exceptions import WorkerLostError
from kombu.exceptions import EncodeError

from lambda_celery import aws
from lambda_celery.conf import setting_names
from lambda_celery.direct_calls import (
    KEPT_BYTES,
    MAXIMUM_SYNCHRONOUS_BYTES,
    NOT_KEPT,
    WAIT,
    Answer,
    encoded,
    read_answer,
    record_of,
)
from lambda_celery.exceptions import PublishError
from lambda_celery.message import OutgoingMessage
from lambda_celery.payloads import PayloadStore
from lambda_runtime.messages.outcome import (
    IN_PROGRESS,
    Deleted,
    End,
    Forwarded,
    Outcome,
    Parked,
    Returned,
)
from lambda_runtime.running.attempt import Attempt

logger = logging.getLogger(__name__)

#: Of a traceback, its end.
_TRACEBACK_CHARACTERS = 16_384


class Answers:
    """Makes the answers to direct calls of *app*'s tasks."""

    def __init__(self, app: Celery, payloads: PayloadStore) -> None:
        self._app = app
        self._payloads = payloads

    def of_run(self, attempt: Attempt, outcome: Outcome) -> Answer:
        """Return what is told of a run with that *outcome*."""
        match outcome:
            case Deleted(end=End.SUCCEEDED) if attempt.body_finished:
                return self._success(attempt.returned)
            case Deleted(end=End.SUCCEEDED):
                return Answer(states.FAILURE, reason=NOT_KEPT)
            case Deleted(end=End.RETRIED):
                return _retry(attempt)
            case Deleted(end=End.IGNORED) if attempt.own_messages:
                return _retry(attempt)  # of Task.replace(), by another task
            case Deleted(end=End.IGNORED):
                return Answer(states.IGNORED, reason=outcome.reason)
            case Deleted() | Parked():
                return self.failure(outcome.exception, outcome.reason)
        return wait(outcome)

    def failure(self, exc: BaseException | None, reason: str) -> Answer:
        """Return what is told of a call that failed with *exc*, for that *reason*."""
        if exc is None:
            return Answer(states.FAILURE, reason=reason)
        serializer = self._app.conf.result_serializer
        told = "".join(traceback.format_exception(exc))[-_TRACEBACK_CHARACTERS:]
        try:
            result = encoded(self._app.backend.prepare_exception(exc, serializer), serializer)
        except Exception as failure:  # noqa: BLE001 - what a serialiser raises is its own affair
            logger.warning("An exception cannot be told to the caller: %r", failure)
            reason = f"{type(exc).__name__}: {exc}"
            return Answer(states.FAILURE, traceback=told, reason=reason)
        return Answer(states.FAILURE, result, told, reason)

    def lost(self) -> Answer:
        """Return what is told of a call that has ended with its process."""
        reason = "The process that ran the task has died."
        return self.failure(WorkerLostError(reason), reason)

    def fitted(self, answer: Answer, *, is_shared: bool) -> tuple[Answer, str]:
        """Return *answer* as Lambda takes it; and, as JSON, as the idempotency table does.

        What is too big goes to the payload bucket.

        :param is_shared: whether calls under other ids are given the same answer.
        """
        text = answer.to_text()
        size = len(text.encode())
        if size <= KEPT_BYTES:
            return answer, text
        if (pointer := self._stored(text)) is not None:
            answer = Answer(answer.state, pointer=pointer, is_shared=is_shared)
            return answer, answer.to_text()
        if size > MAXIMUM_SYNCHRONOUS_BYTES:
            reason = (
                f"The task has run to its end, but its result has {size} bytes, and Lambda gives "
                f"back {MAXIMUM_SYNCHRONOUS_BYTES}: set {setting_names('payload_bucket')} to an "
                "S3 bucket for results of this size."
            )
            answer = Answer(states.FAILURE, reason=reason)
            return answer, answer.to_text()
        return answer, Answer(states.FAILURE, reason=NOT_KEPT).to_text()

    def kept(self, text: str | None) -> Answer:
        """Return what is told of a call that has run before, and was answered with *text* then."""
        if text is None:
            return Answer(states.FAILURE, reason=NOT_KEPT)
        return read_answer(json.loads(text))

    def _success(self, returned: Any) -> Answer:
        try:
            return Answer(states.SUCCESS, encoded(returned, self._app.conf.result_serializer))
        except Exception as exc:  # noqa: BLE001 - what a serialiser raises is its own affair
            reason = f"The task has run to its end, but what it returned cannot be written: {exc}."
            return self.failure(EncodeError(reason), reason)

    def _stored(self, text: str) -> str | None:
        if self._payloads.bucket is None:
            return None
        try:
            pointer, _ = self._payloads.store(text, {})
        except (PublishError, *aws.AWS_ERRORS) as exc:
            logger.error("The answer to a direct call could not be stored in S3: %s", exc)
            return None
        return pointer


def wait(outcome: Returned | Forwarded) -> Answer:
    """Return what is told of a call that was not run: when to ask again."""
    if isinstance(outcome, Forwarded):
        return Answer(WAIT, reason="it is not its turn", seconds=outcome.seconds_ahead())
    state = states.STARTED if outcome.reason == IN_PROGRESS else WAIT
    return Answer(state, reason=outcome.reason, seconds=outcome.delay_seconds)


def unwanted(outcome: Deleted) -> Answer:
    """Return what is told of a call that has expired, or is revoked."""
    return Answer(states.REVOKED, reason=outcome.reason)


def unrunnable(outcome: Parked) -> Answer:
    """Return what is told of a call that cannot be run as it is."""
    return Answer(states.REJECTED, reason=outcome.reason)


def _retry(attempt: Attempt) -> Answer:
    if not attempt.own_messages:
        return Answer(states.RETRY, reason="The task has sent its retry to its queue.")
    message: OutgoingMessage = attempt.own_messages[-1]
    record = record_of(attempt.task_id, message)
    seconds = message.seconds_ahead()
    reason = f"its retry is to be called in {seconds:g} s"
    return Answer(states.RETRY, reason=reason, seconds=seconds, message=record)
