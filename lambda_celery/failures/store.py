"""The records of failed tasks in the idempotency table, by its index ``failures``."""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from lambda_celery import aws
from lambda_celery.conf import Settings
from lambda_celery.exceptions import ConfigurationError
from lambda_celery.failures.record import (
    Failure,
    from_item,
    milliseconds,
    partition_of,
    partitions,
    to_item,
)
from lambda_celery.table.schema import (
    EXPIRATION,
    FAILED_AT,
    FAILURE_PREFIX,
    FAILURES_INDEX,
    FAILURES_PARTITION,
    KEY,
)

#: A moment, in epoch milliseconds, that no failure is later than.
_END_OF_TIME = 10**15


class Failures:
    """What has failed for good, of all queues that share the settings' table.

    Each method raises :exc:`ConfigurationError` where AWS does not do as it is asked, with a
    sentence that says what to change.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._table = settings.require("idempotency_table", "the DynamoDB table of failed tasks")

    def put(self, failure: Failure, life_seconds: int) -> None:
        """Write *failure* down, for *life_seconds*; an earlier one of the message is no more.

        :raises botocore.exceptions.ClientError: and its kin, for the caller to tell.
        """
        self._dynamodb.put_item(
            TableName=self._table, Item=to_item(failure, int(time.time()) + life_seconds)
        )

    def put_unless_known(self, failure: Failure, life_seconds: int) -> bool:
        """Do as :meth:`put`, unless as much is written down by now; return whether it was not.

        Whoever parks a message writes more than can be read from it, and may do so just now.
        """
        item = to_item(failure, int(time.time()) + life_seconds)
        try:
            self._dynamodb.put_item(
                TableName=self._table,
                Item=item,
                ConditionExpression=f"attribute_not_exists({KEY}) OR {FAILED_AT} < :failed_at",
                ExpressionAttributeValues={":failed_at": item[FAILED_AT]},
            )
        except aws.ClientError as exc:
            if aws.error_code(exc) != "ConditionalCheckFailedException":
                raise
            return False
        return True

    def get(self, key: str) -> Failure | None:
        """Return all that is known of the failure *key*, if there is one."""
        if not key.startswith(FAILURE_PREFIX):
            return None
        with refusals_told(self._settings, "GetItem"):
            answer = self._dynamodb.get_item(
                TableName=self._table, Key={KEY: {"S": key}}, ConsistentRead=True
            )
        item = answer.get("Item")
        if not item or FAILURES_PARTITION not in item:
            return None
        return from_item(item) if int(item[EXPIRATION]["N"]) > time.time() else None

    def of_task(self, task_id: str) -> list[Failure]:
        """Return the failures of *task_id*: several if it was retried with other arguments."""
        found = self._of_partition(partition_of(task_id), newest_first=True)
        return [each for each in found if each.task_id == task_id]

    def all(
        self,
        *,
        newest_first: bool = True,
        since: datetime | None = None,
        until: datetime | None = None,
        page_rows: int | None = None,
    ) -> Iterator[Failure]:
        """Yield the failures by their time, page by page, without what only :meth:`get` tells.

        :param since: leaves out what has failed earlier.
        :param until: leaves out what has failed later.
        :param page_rows: how many of a partition are read at once; as many as AWS gives otherwise.
        """
        found = [
            self._of_partition(each, newest_first, since=since, until=until, page_rows=page_rows)
            for each in partitions()
        ]
        yield from heapq.merge(*found, key=lambda each: each.failed_at, reverse=newest_first)

    def count(self) -> Counter[tuple[str, str, str]]:
        """Return how many there are of each task, exception (else reason) and queue."""

        def count_partition(partition: str) -> Counter[tuple[str, str, str]]:
            return Counter(
                (each.task, each.exception or each.reason, each.queue)
                for each in self._of_partition(partition, newest_first=False)
                if each.retried_at is None
            )

        with ThreadPoolExecutor(len(partitions())) as threads:
            return sum(threads.map(count_partition, partitions()), Counter())

    def mark_retried(self, failure: Failure) -> bool:
        """Note that *failure* was sent back; return whether nobody has done so since it was read.

        Its record stays until the message has run, and is written anew if it fails again.
        """
        return self._changed(
            "UpdateItem",
            failure,
            UpdateExpression="SET retried_at = :now",
            condition=" AND attribute_not_exists(retried_at)",
            values={":now": {"N": str(milliseconds(datetime.now(UTC)))}},
        )

    def forget(self, failure: Failure) -> bool:
        """Delete the record of *failure*, unless it has failed again since it was read."""
        return self._changed("DeleteItem", failure)

    def forget_settled(self, key: str) -> None:
        """Delete the record *key*, whose message has been settled otherwise.

        :raises botocore.exceptions.ClientError: and its kin, for the caller to tell.
        """
        self._dynamodb.delete_item(TableName=self._table, Key={KEY: {"S": key}})

    def _changed(
        self,
        operation: str,
        failure: Failure,
        *,
        condition: str = "",
        values: Mapping[str, Any] | None = None,
        **parameters: Any,
    ) -> bool:
        method = {"UpdateItem": "update_item", "DeleteItem": "delete_item"}[operation]
        failed_at = str(milliseconds(failure.failed_at))
        with refusals_told(self._settings, operation):
            try:
                getattr(self._dynamodb, method)(
                    TableName=self._table,
                    Key={KEY: {"S": failure.id}},
                    ConditionExpression=f"{FAILED_AT} = :failed_at{condition}",
                    ExpressionAttributeValues={":failed_at": {"N": failed_at}, **(values or {})},
                    **parameters,
                )
            except aws.ClientError as exc:
                if aws.error_code(exc) != "ConditionalCheckFailedException":
                    raise
                return False
        return True

    def _of_partition(
        self,
        partition: str,
        newest_first: bool,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        page_rows: int | None = None,
    ) -> Iterator[Failure]:
        condition = f"{FAILURES_PARTITION} = :partition AND {FAILED_AT} BETWEEN :since AND :until"
        values = {
            ":partition": {"S": partition},
            ":since": {"N": str(milliseconds(since) if since is not None else 0)},
            ":until": {"N": str(milliseconds(until) if until is not None else _END_OF_TIME)},
        }
        parameters: dict[str, Any] = {"Limit": page_rows} if page_rows else {}
        while True:
            with refusals_told(self._settings, "Query"):
                answer = self._dynamodb.query(
                    TableName=self._table,
                    IndexName=FAILURES_INDEX,
                    KeyConditionExpression=condition,
                    # DynamoDB takes up to some days to delete what has expired.
                    FilterExpression=f"{EXPIRATION} > :now",
                    ExpressionAttributeValues=values | {":now": {"N": str(int(time.time()))}},
                    ScanIndexForward=not newest_first,
                    **parameters,
                )
            yield from map(from_item, answer["Items"])
            last = answer.get("LastEvaluatedKey")
            if not last:
                return
            parameters["ExclusiveStartKey"] = last

    @property
    def _dynamodb(self) -> Any:
        return aws.client("dynamodb", self._settings)


@contextmanager
def refusals_told(settings: Settings, operation: str) -> Iterator[None]:
    """Raise what DynamoDB refuses of *operation* as a :exc:`ConfigurationError`."""
    try:
        yield
    except aws.AWS_ERRORS as exc:
        table = settings.idempotency_table
        is_query = operation == "Query"
        if is_query and aws.error_code(exc) == "ValidationException":
            raise ConfigurationError(
                f"The table {table} has no index {FAILURES_INDEX}, by which failed tasks "
                "are found. Deploy the infrastructure of this version, or add the index as "
                "docs/operations/failed-tasks.md shows."
            ) from aws.cause(exc, settings)
        of_index = f"the index {FAILURES_INDEX} of " if is_query else ""
        raise refusal(exc, operation, f"{of_index}the table {table}") from aws.cause(exc, settings)


def refusal(exc: BaseException, operation: str, resource: str) -> ConfigurationError:
    """Return what says that DynamoDB refuses *operation* on *resource*."""
    refused = ConfigurationError(
        aws.explain(
            exc,
            action=f"dynamodb:{operation}",
            resource=resource,
            setting="idempotency_table",
        )
    )
    refused.is_transient = aws.is_transient(exc)
    return refused
