"""Create what the settings name (queues, table, bucket, schedule group) on an emulator."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from lambda_celery.aws import AWS_ERRORS, client, error_code, explain, queue_is_absent
from lambda_celery.conf import Settings, setting_names
from lambda_celery.exceptions import ConfigurationError
from lambda_celery.message import FIFO_SUFFIX, MAXIMUM_RETENTION_SECONDS, is_fifo
from lambda_celery.schedules.scheduler import ensure_group, explained
from lambda_celery.table.schema import EXPIRATION, TABLE_DEFINITION

#: The dead-letter queue keeps messages longer than any source queue can.
DEAD_LETTER_RETENTION_SECONDS = MAXIMUM_RETENTION_SECONDS

_NO_SUCH_BUCKET = {"404", "NoSuchBucket", "NotFound"}


def queue_name(queue_url: str) -> str:
    """Return the name of the queue: the last part of its URL's path."""
    return urlsplit(queue_url).path.rstrip("/").rpartition("/")[2]


def default_dead_letter_queue_name(name: str) -> str:
    """Return the name of the dead-letter queue of *name*, where no setting says another."""
    if is_fifo(name):
        return f"{name.removesuffix(FIFO_SUFFIX)}-dead-letters{FIFO_SUFFIX}"
    return f"{name}-dead-letters"


def provision(
    settings: Settings,
    *,
    function_timeout_seconds: int,
    maximum_batching_window_seconds: int = 0,
    max_receive_count: int = 5,
    visibility_timeout_seconds: int | None = None,
) -> None:
    """Create, or bring up to date, what *settings* name: queues, table, bucket, schedule group.

    Queues are known by the last part of their URLs; host and account are the endpoint's own.
    What *settings* does not name is not created, but each queue gets a dead-letter queue.

    Arguments:
        settings: names the resources, the endpoint and the region.
        function_timeout_seconds: the Lambda function's time-out.
        maximum_batching_window_seconds: the event source mapping's window.
        max_receive_count: receives before SQS moves a message to the dead-letter queue, where
            *settings* do not say it.
        visibility_timeout_seconds: the queues' visibility time-out; default: six times the
            function's time-out plus the window, as AWS advises.

    Raises:
        ConfigurationError: the endpoint refuses, or a FIFO queue is to be mixed with a
            dead-letter queue that is none.
    """
    if visibility_timeout_seconds is None:
        visibility_timeout_seconds = 6 * function_timeout_seconds + maximum_batching_window_seconds
    for url in settings.queue_urls:
        name = queue_name(url)
        dead_letter_name = default_dead_letter_queue_name(name)
        own = settings.of_queue(url)
        if own.dead_letter_queue_url:
            dead_letter_name = queue_name(own.dead_letter_queue_url)
        if is_fifo(name) != is_fifo(dead_letter_name):
            raise ConfigurationError(
                f"The queue {name} cannot have the dead-letter queue {dead_letter_name}: either "
                f"both are FIFO queues or neither. Change "
                f"{setting_names('dead_letter_queue_url')}."
            )
        dead_letter_arn = _provision_queue(
            settings,
            dead_letter_name,
            {"MessageRetentionPeriod": str(DEAD_LETTER_RETENTION_SECONDS)},
        )
        redrive_policy = {
            "deadLetterTargetArn": dead_letter_arn,
            "maxReceiveCount": own.max_receive_count or max_receive_count,
        }
        _provision_queue(
            settings,
            name,
            {
                "VisibilityTimeout": str(visibility_timeout_seconds),
                "RedrivePolicy": json.dumps(redrive_policy),
            },
        )
    if settings.idempotency_table:
        _provision_table(settings, settings.idempotency_table, TABLE_DEFINITION, EXPIRATION)
        _provision_failures_index(settings, settings.idempotency_table)
    if settings.payload_bucket:
        _provision_bucket(settings, settings.payload_bucket)
    if settings.schedule_group:
        with explained(settings):
            ensure_group(settings)


@contextmanager
def _explained(action: str, resource: str) -> Iterator[None]:
    try:
        yield
    except AWS_ERRORS as exc:
        raise ConfigurationError(explain(exc, action=action, resource=resource)) from exc


def _provision_queue(settings: Settings, name: str, attributes: dict[str, str]) -> str:
    """Return the ARN of the queue *name*, which has *attributes* afterwards."""
    sqs = client("sqs", settings)
    try:
        url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    except AWS_ERRORS as exc:
        if not queue_is_absent(exc):
            raise ConfigurationError(
                explain(exc, action="sqs:GetQueueUrl", resource=f"the queue {name}")
            ) from exc
        fifo = {"FifoQueue": "true"} if is_fifo(name) else {}
        with _explained("sqs:CreateQueue", f"the queue {name}"):
            url = sqs.create_queue(QueueName=name, Attributes=attributes | fifo)["QueueUrl"]
    else:
        with _explained("sqs:SetQueueAttributes", f"the queue {name}"):
            sqs.set_queue_attributes(QueueUrl=url, Attributes=attributes)
    with _explained("sqs:GetQueueAttributes", f"the queue {name}"):
        answer = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return str(answer["Attributes"]["QueueArn"])


def provision_results_table(settings: Settings, name: str) -> None:
    """Create the table *name* for :class:`lambda_celery.results.DynamoDBBackend`, if missing.

    Raises :exc:`ConfigurationError` if the endpoint refuses.
    """
    key = {
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    }
    _provision_table(settings, name, key, "ttl")


def _provision_table(
    settings: Settings, name: str, definition: Mapping[str, Any], ttl_attribute: str
) -> None:
    dynamodb = client("dynamodb", settings)
    with _explained("dynamodb:CreateTable", f"the table {name}"):
        with suppress(dynamodb.exceptions.ResourceInUseException):
            dynamodb.create_table(TableName=name, BillingMode="PAY_PER_REQUEST", **definition)
        dynamodb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
    with _explained("dynamodb:UpdateTimeToLive", f"the table {name}"):
        described: dict[str, Any] = dynamodb.describe_time_to_live(TableName=name)
        status = described.get("TimeToLiveDescription", {}).get("TimeToLiveStatus")
        if status not in {"ENABLED", "ENABLING"}:  # enabling it twice is an error
            dynamodb.update_time_to_live(
                TableName=name,
                TimeToLiveSpecification={"Enabled": True, "AttributeName": ttl_attribute},
            )


def _provision_failures_index(settings: Settings, name: str) -> None:
    """Add the index of failed tasks to the table, if an earlier version has made that."""
    dynamodb = client("dynamodb", settings)
    with _explained("dynamodb:UpdateTable", f"the table {name}"):
        described: dict[str, Any] = dynamodb.describe_table(TableName=name)["Table"]
        indexes = {each["IndexName"] for each in described.get("GlobalSecondaryIndexes") or ()}
        (index,) = TABLE_DEFINITION["GlobalSecondaryIndexes"]
        if index["IndexName"] not in indexes:
            dynamodb.update_table(
                TableName=name,
                AttributeDefinitions=TABLE_DEFINITION["AttributeDefinitions"],
                GlobalSecondaryIndexUpdates=[{"Create": index}],
            )


def _provision_bucket(settings: Settings, name: str) -> None:
    s3 = client("s3", settings)
    try:
        s3.head_bucket(Bucket=name)
        return
    except AWS_ERRORS as exc:
        if error_code(exc) not in _NO_SUCH_BUCKET:
            raise ConfigurationError(
                explain(exc, action="s3:ListBucket", resource=f"the bucket {name}")
            ) from exc
    region = s3.meta.region_name
    # S3 knows us-east-1 by the absence of a location, and refuses it as one.
    location = (
        {}
        if region in {None, "us-east-1", "aws-global"}
        else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    )
    with _explained("s3:CreateBucket", f"the bucket {name}"):
        s3.create_bucket(Bucket=name, **location)
