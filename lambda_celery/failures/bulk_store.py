"""The items of bulk actions in the idempotency table."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from lambda_celery import aws
from lambda_celery.conf import Settings
from lambda_celery.failures.bulk_action import (
    ABORTED,
    RUNNING,
    BulkAction,
    changing,
    from_item,
    to_item,
)
from lambda_celery.failures.store import refusals_told
from lambda_celery.table.schema import (
    BULK_PARTITION,
    BULK_PREFIX,
    EXPIRATION,
    FAILURES_INDEX,
    FAILURES_PARTITION,
    KEY,
    bulk_key,
)


class BulkStore:
    """The bulk actions of all apps that share the settings' table.

    Each method raises :exc:`ConfigurationError` where AWS does not do as it is asked.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._table = settings.require("idempotency_table", "the DynamoDB table of failed tasks")

    def create(self, action: BulkAction) -> bool:
        """Write *action* down, and return whether there was none of its name."""
        with refusals_told(self._settings, "PutItem"):
            return (
                self._met(
                    "put_item",
                    Item=to_item(action),
                    ConditionExpression=f"attribute_not_exists({KEY}) OR {EXPIRATION} < :now",
                    ExpressionAttributeValues={":now": {"N": str(int(time.time()))}},
                )
                is not None
            )

    def get(self, name: str) -> BulkAction | None:
        """Return the action *name*, if there is one."""
        with refusals_told(self._settings, "GetItem"):
            answer = self._dynamodb.get_item(
                TableName=self._table, Key={KEY: {"S": bulk_key(name)}}, ConsistentRead=True
            )
        item = answer.get("Item")
        return from_item(item) if item and int(item[EXPIRATION]["N"]) > time.time() else None

    def names(self) -> list[str]:
        """Return the names of all actions, the newest first."""
        found: list[str] = []
        parameters: dict[str, Any] = {}
        while True:
            with refusals_told(self._settings, "Query"):
                answer = self._dynamodb.query(
                    TableName=self._table,
                    IndexName=FAILURES_INDEX,
                    KeyConditionExpression=f"{FAILURES_PARTITION} = :bulk",
                    ExpressionAttributeValues={":bulk": {"S": BULK_PARTITION}},
                    ScanIndexForward=False,
                    **parameters,
                )
            found += [each[KEY]["S"].removeprefix(BULK_PREFIX) for each in answer["Items"]]
            last = answer.get("LastEvaluatedKey")
            if not last:
                return found
            parameters["ExclusiveStartKey"] = last

    def note(self, action: BulkAction) -> str | None:
        """Write down how far *action* is, as its turn sees it; return the state that it is in.

        ``None`` if it is another one's turn, and nothing was written. What somebody has ended
        meanwhile stays ended.
        """
        values = changing(action)
        del values["state"]
        item = self._changed(action.name, values, {"turn": action.turn})
        return str(item["state"]["S"]) if item is not None else None

    def change(self, action: BulkAction, before: BulkAction) -> bool:
        """Write all of *action* that changes, and return whether it was as *before*."""
        where = {"turn": before.turn, "state": before.state}
        return self._changed(action.name, changing(action), where) is not None

    def abort(self, name: str) -> BulkAction | None:
        """End the action *name*, if it is running; return it as it is then."""
        item = self._changed(name, {"state": {"S": ABORTED}}, {"state": RUNNING})
        return from_item(item) if item is not None else None

    def _changed(
        self, name: str, attributes: Mapping[str, Any], where: Mapping[str, str]
    ) -> Mapping[str, Any] | None:
        """Set *attributes* of the item *name* and return all, if it has what stands in *where*."""
        with refusals_told(self._settings, "UpdateItem"):
            answer = self._met(
                "update_item",
                Key={KEY: {"S": bulk_key(name)}},
                UpdateExpression="SET " + ", ".join(f"#{each} = :{each}" for each in attributes),
                ConditionExpression=" AND ".join(f"#{each} = :is_{each}" for each in where),
                ExpressionAttributeNames={f"#{each}": each for each in {*attributes, *where}},
                ExpressionAttributeValues={
                    **{f":{each}": value for each, value in attributes.items()},
                    **{f":is_{each}": {"S": value} for each, value in where.items()},
                },
                ReturnValues="ALL_NEW",
            )
        return answer["Attributes"] if answer is not None else None

    def _met(self, method: str, **parameters: Any) -> dict[str, Any] | None:
        """Return the answer of *method*; ``None`` where its condition is not met."""
        try:
            answer: dict[str, Any] = getattr(self._dynamodb, method)(
                TableName=self._table, **parameters
            )
        except aws.ClientError as exc:
            if aws.error_code(exc) != "ConditionalCheckFailedException":
                raise
            return None
        return answer

    @property
    def _dynamodb(self) -> Any:
        return aws.client("dynamodb", self._settings)
