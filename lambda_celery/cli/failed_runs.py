"""Whether a call has run: what the function has written into the idempotency table."""

from __future__ import annotations

import time
from contextlib import suppress

from celery import Celery

from lambda_celery import aws
from lambda_celery.conf import settings_of
from lambda_celery.exceptions import LambdaCeleryError
from lambda_celery.failures.store import refusal
from lambda_celery.payloads import PayloadStore, is_pointer
from lambda_celery.table.schema import EXPIRATION, KEY

#: What Powertools' record of a run to its end has for a result.
_DATA, _DONE = "data", "null"


def publication_key(app: Celery, body: str) -> str | None:
    """Return the key of the record for the call in the SQS *body*; ``None`` if none can be made.

    A key is made as by the function: the task must be registered here, its arguments readable.
    """
    from lambda_runtime.messages.delivery import Delivery
    from lambda_runtime.messages.publication import publication_of
    from lambda_runtime.messages.request import read_request

    settings = settings_of(app)
    with suppress(LambdaCeleryError, *aws.AWS_ERRORS):
        if is_pointer(body):
            body = PayloadStore(settings).fetch(body).text
        delivery = Delivery.from_record({"messageId": "-", "body": body})
        return publication_of(read_request(app, settings, delivery, body, "-")).key
    return None


def has_run(app: Celery, key: str | None) -> bool:
    """Whether the call with that publication *key* ran to its end, and would not run again.

    :raises ConfigurationError: DynamoDB refuses.
    """
    if key is None:
        return False
    settings = settings_of(app)
    try:
        answer = aws.client("dynamodb", settings).get_item(
            TableName=settings.idempotency_table, Key={KEY: {"S": key}}, ConsistentRead=True
        )
    except aws.AWS_ERRORS as exc:
        raise refusal(exc, "GetItem", f"the table {settings.idempotency_table}") from aws.cause(
            exc, settings
        )
    item = answer.get("Item", {})
    is_kept = int(item.get(EXPIRATION, {}).get("N", 0)) > time.time()
    return is_kept and item.get(_DATA, {}).get("S") == _DONE
