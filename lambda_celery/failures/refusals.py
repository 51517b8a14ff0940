"""What AWS refuses of what is done with failed tasks."""

from __future__ import annotations

from lambda_celery import aws
from lambda_celery.exceptions import FailedTaskError


def refused(
    exc: Exception, *, action: str, resource: str, setting: str | None = None
) -> FailedTaskError:
    """Return what says that AWS, which raised *exc*, refuses *action* on *resource*."""
    refusal = FailedTaskError(aws.explain(exc, action=action, resource=resource, setting=setting))
    refusal.is_misconfigured = aws.misconfigured(exc)
    refusal.is_transient = aws.is_transient(exc)
    return refusal
