"""The idempotency table: its attributes, what kinds of items there are, DynamoDB's numbers.

The attributes are those of Powertools' idempotency utility, so that one table may serve both:
https://docs.aws.amazon.com/powertools/python/latest/utilities/idempotency/
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

#: The partition key, a string. There is no sort key.
KEY = "id"
#: When DynamoDB's TTL may delete the item, in epoch seconds.
EXPIRATION = "expiration"
#: Powertools' attributes of a claim: its state, and when its lock ends, in epoch milliseconds.
STATUS = "status"
LOCK_ENDS = "in_progress_expiration"
#: The state of a claim that has not been completed. Once it was released, its lock is 0.
IN_PROGRESS = "INPROGRESS"
#: Ours: how many attempts have been made, and for which message the last of them was.
ATTEMPTS = "attempts"
MESSAGE_ID = "message_id"
#: Ours, too: what a direct call was answered, so that it need not run again for a lost answer.
ANSWER = "answer"
#: The index of failures: its partition is one of some, by the task's id, and its sort key the time
#: in epoch milliseconds. Bulk actions are in a partition of their own, by when they began.
FAILURES_INDEX = "failures"
FAILURES_PARTITION = "failures"
FAILED_AT = "failed_at"
#: What the index holds of each, too.
FAILURES_PROJECTED = (
    "task", "task_id", "queue", "dead_letter_queue", "reason", "exception", "attempts", "size",
    "retried_at", EXPIRATION,
)  # fmt: skip

#: How the key of a failure's record begins.
FAILURE_PREFIX = "failure#"
#: How the key of a bulk action begins, and its partition of the index.
BULK_PREFIX = "bulk#"
BULK_PARTITION = "bulk"

#: Statements of BatchExecuteStatement, and items of BatchWriteItem.
MAXIMUM_WRITES = 25

#: Its definition, as CreateTable and CloudFormation take it.
TABLE_DEFINITION: Mapping[str, Any] = {
    "KeySchema": [{"AttributeName": KEY, "KeyType": "HASH"}],
    "AttributeDefinitions": [
        {"AttributeName": KEY, "AttributeType": "S"},
        {"AttributeName": FAILURES_PARTITION, "AttributeType": "S"},
        {"AttributeName": FAILED_AT, "AttributeType": "N"},
    ],
    "GlobalSecondaryIndexes": [
        {
            "IndexName": FAILURES_INDEX,
            "KeySchema": [
                {"AttributeName": FAILURES_PARTITION, "KeyType": "HASH"},
                {"AttributeName": FAILED_AT, "KeyType": "RANGE"},
            ],
            "Projection": {
                "ProjectionType": "INCLUDE",
                "NonKeyAttributes": list(FAILURES_PROJECTED),
            },
        }
    ],
}

#: The item that says that something is revoked.
ANY_REVOKED_KEY = "revoked"


def publication_key(task_name: str, digest: str) -> str:
    """Return the key of the claim on a publication."""
    return f"{task_name}#{digest}"


def payload_key(bucket: str, key: str) -> str:
    """Return the key under which the settling of an S3 body is remembered.

    It is the object's, not the pointer's: the same pointer can be spelt in many ways.
    """
    digest = _digest(f"{bucket}\0{key}")
    return f"payload#{digest}"


def parked_key(message_id: str) -> str:
    """Return the key under which it is remembered that this very message is parked."""
    return f"parked#{message_id}"


def failure_key(body: str) -> str:
    """Return the key under which it is written down that the message with this *body* is parked.

    The body is what a message, its redrive and its retry have in common, be it readable or not.
    """
    return f"{FAILURE_PREFIX}{_digest(body)[:32]}"


def bulk_key(name: str) -> str:
    """Return the key of the bulk action *name*."""
    return f"{BULK_PREFIX}{name}"


def revoked_key(task_id: str) -> str:
    """Return the key of the record that revokes *task_id*."""
    return f"revoked#{task_id}"


def revoked_stamp_key(stamp: str, value: object) -> str:
    """Return the key of the record that revokes what has *value* for the header *stamp*."""
    digest = _digest(f"{stamp}\0{value}")
    return f"revoked-stamp#{digest}"


def rate_key(bucket: str) -> str:
    """Return the key of a token bucket: of a task, by its name, or of an account of SES."""
    return f"rate#{bucket}"


def mailer_key(mailer: str) -> str:
    """Return the key of what is known of a mailer that takes no mails."""
    return f"mailer#{mailer}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
