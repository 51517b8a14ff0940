"""Records of what is on a dead-letter queue and has none.

SQS itself moves a message there whose process died at the last receive, or whose function did not
start: nobody has written a record then. What was parked, and not recorded, has none either.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from celery import Celery

from lambda_celery import aws
from lambda_celery.conf import Settings, setting_names, settings_of
from lambda_celery.exceptions import FailedTaskError, UnreadableMessageError
from lambda_celery.failures.dead_letters import DeadLetters
from lambda_celery.failures.record import (
    EXCEPTION_ATTRIBUTE,
    REASON_ATTRIBUTE,
    RECEIVE_COUNT_ATTRIBUTE,
    Failure,
    moment,
    texts_of,
)
from lambda_celery.failures.rewriting import Call
from lambda_celery.failures.sending import plain_attributes, queue_url_of
from lambda_celery.failures.store import Failures
from lambda_celery.message import MAXIMUM_RETENTION_SECONDS, OutgoingMessage
from lambda_celery.payloads import PayloadStore, is_pointer
from lambda_celery.table.schema import failure_key

HAS_RUN = "its task has run since: it may be discarded"
MOVED = "SQS moved it: its process died, or the function did not start"
_UNKNOWN = "nothing says why it is on the dead-letter queue"
#: What anybody may have written there is no number without an end.
_COUNT = re.compile(r"[0-9]{1,9}")
#: A message is recorded after it was sent to the dead-letter queue. Clocks differ.
_CLOCKS = timedelta(seconds=1)


@dataclass(frozen=True)
class Synced:
    """What was found on a dead-letter queue."""

    queue_url: str
    looked_at: int
    recorded: int

    def __str__(self) -> str:
        counts = f"messages looked at: {self.looked_at}, recorded now: {self.recorded}"
        return f"{self.queue_url}: {counts}."


def sync(app: Celery, has_run: Callable[[str], bool] | None = None) -> list[Synced]:
    """Write a record for each dead letter that has none, and say what was found on which queue.

    No record is deleted: it may be that of a message that is being received by somebody else.

    :param has_run: says of an SQS body whether its task has run to its end.
    :raises FailedTaskError: no dead-letter queue is known, or AWS refuses.
    """
    settings = settings_of(app)
    records = Failures(settings)
    known = {each.id: each.failed_at for each in records.all()}
    return [
        _synced(app, records, known, url, sources, has_run)
        for url, sources in _dead_letter_queues(settings).items()
    ]


def _synced(
    app: Celery,
    records: Failures,
    known: Mapping[str, datetime],
    url: str,
    sources: list[str],
    has_run: Callable[[str], bool] | None,
) -> Synced:
    settings = settings_of(app)
    told = _attributes(settings, url).get("MessageRetentionPeriod")
    life_seconds = int(told) if told else MAXIMUM_RETENTION_SECONDS
    looked_at = recorded = 0
    with closing(DeadLetters(settings, url)) as letters:
        for message in letters:
            looked_at += 1
            key, sent = failure_key(message["Body"]), _sent_at(message)
            if key in known and sent <= known[key] + _CLOCKS:
                continue
            # The index comes a moment after its table.
            found = records.get(key)
            if found is not None and sent <= found.failed_at + _CLOCKS:
                continue
            failure = _failure(app, message, url, sources)
            if has_run is not None and has_run(message["Body"]):
                failure = replace(failure, reason=HAS_RUN, exception="", message="")
            try:
                recorded += records.put_unless_known(failure, life_seconds)
            except aws.AWS_ERRORS as exc:
                resource = f"the table {settings.idempotency_table}"
                raise FailedTaskError(
                    aws.explain(exc, action="dynamodb:PutItem", resource=resource)
                ) from aws.cause(exc, settings)
    return Synced(url, looked_at, recorded)


def _failure(app: Celery, message: Mapping[str, Any], url: str, sources: list[str]) -> Failure:
    about = message.get("Attributes", {})
    attributes = plain_attributes(message.get("MessageAttributes", {}))
    moved_from = about.get("DeadLetterQueueSourceArn")
    said = {} if moved_from else attributes
    headers, unreadable = _read(app, message["Body"])
    exception, _, text = _text_of(said, EXCEPTION_ATTRIBUTE).partition(": ")
    reason = _text_of(said, REASON_ATTRIBUTE) or unreadable or (MOVED if moved_from else _UNKNOWN)
    count = _text_of(said, RECEIVE_COUNT_ATTRIBUTE)
    told = texts_of(headers, redact=settings_of(app).redact_arguments)
    told["trace_id"] = told["trace_id"] or about.get("AWSTraceHeader", "")
    return Failure(
        id=failure_key(message["Body"]),
        queue=moved_from or (sources[0] if len(sources) == 1 else ""),
        dead_letter_queue=url,
        reason=reason,
        exception=exception,
        message=text,
        failed_at=_sent_at(message),
        attempts=int(count) if _COUNT.fullmatch(count) else 0,
        size=OutgoingMessage(message["Body"], attributes).size_bytes,
        message_group_id=about.get("MessageGroupId", ""),
        body=message["Body"],
        attributes=attributes,
        **told,
    )


def _read(app: Celery, body: str) -> tuple[Mapping[str, Any], str]:
    """Return the headers in *body*, and why there are none."""
    settings = settings_of(app)
    try:
        if is_pointer(body):
            body = PayloadStore(settings).fetch(body).text
        return Call(app, settings, body).headers, ""
    except UnreadableMessageError as exc:
        return {}, str(exc)
    except aws.AWS_ERRORS as exc:
        return {}, aws.explain(exc, action="s3:GetObject", resource="the message's body")


def _text_of(attributes: Mapping[str, Any], name: str) -> str:
    return str(attributes.get(name, {}).get("StringValue", ""))


def _sent_at(message: Mapping[str, Any]) -> datetime:
    return moment(int(message.get("Attributes", {}).get("SentTimestamp", 0)))


def _dead_letter_queues(settings: Settings) -> dict[str, list[str]]:
    """Return the URLs of the dead-letter queues, each with the ARNs of the queues before it."""
    found: dict[str, list[str]] = {}
    for url in settings.queue_urls:
        attributes = _attributes(settings, url)
        dead_letters = settings.of_queue(url).dead_letter_queue_url
        if dead_letters is None and "RedrivePolicy" in attributes:
            arn = json.loads(attributes["RedrivePolicy"]).get("deadLetterTargetArn", "")
            dead_letters = queue_url_of(settings, arn)
        if dead_letters is not None:
            found.setdefault(dead_letters, []).append(attributes.get("QueueArn", ""))
    if not found:
        raise FailedTaskError(
            "No queue of the settings has a dead-letter queue: give it a redrive policy, or set "
            f"{setting_names('dead_letter_queue_url')}."
        )
    return found


def _attributes(settings: Settings, url: str) -> dict[str, str]:
    try:
        answer = aws.client("sqs", settings).get_queue_attributes(
            QueueUrl=url, AttributeNames=["All"]
        )
    except aws.AWS_ERRORS as exc:
        raise FailedTaskError(
            aws.explain(exc, action="sqs:GetQueueAttributes", resource=url)
        ) from aws.cause(exc, settings)
    return dict(answer.get("Attributes", {}))
