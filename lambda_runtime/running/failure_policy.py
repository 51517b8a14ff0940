"""What becomes of the message of a task that raised. Decides, and records nothing."""

from __future__ import annotations

from celery import Task
from celery.app.task import Context
from celery.exceptions import SoftTimeLimitExceeded

from lambda_celery.celery_hooks.declared import declared
from lambda_runtime.messages.outcome import Deleted, End, Outcome, Parked, Returned
from lambda_runtime.running.attempt import Attempt

UNFINISHED = "ran to its end, but what follows it failed"


def outcome_of_failure(task: Task, request: Context, exc: Exception, attempt: Attempt) -> Outcome:
    """Return what becomes of the message of *task*, which raised *exc*."""
    if attempt.body_finished:
        # The mail is out: whatever this is, it must not lead to a second one by itself.
        # A part of a chord that is not counted would stop its chord, and nobody would know.
        if exc is attempt.result_error and not request.chord:
            return Deleted("succeeded, but its result could not be stored", End.SUCCEEDED)
        return Parked(UNFINISHED, exc, has_run=True)
    if attempt.sent_on:
        return Deleted("failed, after it had sent its own retry", End.RETRIED)
    # Before it has begun it is somebody else's failure, a result back end's, say. What the task
    # says of its own is not asked then: that may throw it away, and it has not run.
    if attempt.started and _acknowledges_failure(task):
        return Deleted("failed, and acks_on_failure_or_timeout is set", End.FAILED, has_failed=True)
    if attempt.last:
        return Parked("failed", exc)
    if attempt.ends_with_invocation and isinstance(exc, SoftTimeLimitExceeded):
        # No fault of the task's, whatever its max_retries say.
        return Returned("the invocation's time ran out", attempt.backoff_seconds)
    if attempt.started and _retries_used_up(task, request, exc, attempt):
        return Parked("failed", exc)
    return Returned("failed", attempt.backoff_seconds)


def _acknowledges_failure(task: Task) -> bool:
    """Whether the task says ``acks_on_failure_or_timeout=True``, or ``acks_on_failure=True``.

    Celery's default for both is true as well, and would throw failures away here.
    """
    return any(
        getattr(task, option, None) is True and declared(task, option) is True
        for option in ("acks_on_failure", "acks_on_failure_or_timeout")
    )


def _retries_used_up(task: Task, request: Context, exc: Exception, attempt: Attempt) -> bool:
    """Whether the task itself has given up: its ``retry()`` raised, or its count is full."""
    if exc is attempt.retry_error:
        return True
    return task.max_retries is not None and (request.retries or 0) >= task.max_retries
