"""Contact with AWS: clients, the fast request path, refusals as sentences.

What a queue, a table or a schedule is for does not belong here: it is said where they are used.
The main path enters at :func:`~lambda_celery.aws.clients.client`. All contact with botocore's
private parts is in :mod:`lambda_celery.aws.fast_requests` and :mod:`lambda_celery.aws.bounded`.
"""

from lambda_celery.aws.arns import function_parts, queue_arn
from lambda_celery.aws.bounded import ending_at, seconds_left
from lambda_celery.aws.clients import client, close_connections, region_of, using_session
from lambda_celery.aws.refusals import (
    AWS_ERRORS,
    ClientError,
    cause,
    denied,
    error_code,
    explain,
    is_throttled,
    is_transient,
    misconfigured,
    queue_is_absent,
)

__all__ = [
    "AWS_ERRORS",
    "ClientError",
    "cause",
    "client",
    "close_connections",
    "denied",
    "ending_at",
    "error_code",
    "explain",
    "function_parts",
    "is_throttled",
    "is_transient",
    "misconfigured",
    "queue_arn",
    "queue_is_absent",
    "region_of",
    "seconds_left",
    "using_session",
]
