"""DynamoDB in memory, as far as this project asks it: tables with the key ``id``."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from lambda_celery.table.schema import FAILED_AT, KEY
from lambda_celery.testing.ageing import aged_item
from lambda_celery.testing.expressions import Value, holds, updated
from lambda_celery.testing.refusal import RefusedError

Item = Mapping[str, Value]


class DynamoDB:
    """Tables, each of which is there."""

    #: What changes nothing; the rest is lost where the process has died.
    READS = frozenset({"BatchGetItem", "GetItem", "Query", "Scan"})

    def __init__(self) -> None:
        self._tables: dict[str, dict[str, Item]] = {}

    def age(self, seconds: float) -> None:
        """Let time pass for all items."""
        for table in self._tables.values():
            for key, item in table.items():
                table[key] = aged_item(item, seconds)

    def get_item(self, *, TableName: str, Key: Item, **_: Any) -> dict[str, Any]:  # noqa: N803
        """Return an item, if it is there."""
        found = self._table(TableName).get(_key(Key))
        return {} if found is None else {"Item": dict(found)}

    def put_item(self, *, TableName: str, Item: Item, **options: Any) -> dict[str, Any]:  # noqa: N803
        """Write an item, on the condition that it has."""
        table, key = self._table(TableName), _key(Item)
        before = table.get(key)
        _check(before, options)
        table[key] = _stored(Item)
        return _returned(options, before, Item)

    def update_item(self, *, TableName: str, Key: Item, **options: Any) -> dict[str, Any]:  # noqa: N803
        """Change an item, on the condition that it has."""
        table, key = self._table(TableName), _key(Key)
        before = table.get(key)
        _check(before, options)
        after = updated(
            options.get("UpdateExpression"),
            before if before is not None else Key,
            options.get("ExpressionAttributeNames"),
            options.get("ExpressionAttributeValues"),
        )
        table[key] = _stored(after)
        return _returned(options, before, after)

    def delete_item(self, *, TableName: str, Key: Item, **options: Any) -> dict[str, Any]:  # noqa: N803
        """Delete an item, on the condition that it has."""
        table, key = self._table(TableName), _key(Key)
        before = table.get(key)
        _check(before, options)
        table.pop(key, None)
        return _returned(options, before, {})

    def batch_get_item(self, *, RequestItems: Mapping[str, Any], **_: Any) -> dict[str, Any]:  # noqa: N803
        """Return those items that are there."""
        found = {
            name: [
                dict(item)
                for each in asked["Keys"]
                if (item := self._table(name).get(_key(each))) is not None
            ]
            for name, asked in RequestItems.items()
        }
        return {"Responses": found, "UnprocessedKeys": {}}

    def batch_write_item(self, *, RequestItems: Mapping[str, Any], **_: Any) -> dict[str, Any]:  # noqa: N803
        """Write and delete items."""
        for name, requests in RequestItems.items():
            for each in requests:
                if "PutRequest" in each:
                    self.put_item(TableName=name, Item=each["PutRequest"]["Item"])
                else:
                    self.delete_item(TableName=name, Key=each["DeleteRequest"]["Key"])
        return {"UnprocessedItems": {}}

    def scan(self, *, TableName: str, **options: Any) -> dict[str, Any]:  # noqa: N803
        """Return all items that the filter lets by, in one page."""
        return _page(list(self._table(TableName).values()), options)

    def query(
        self,
        *,
        TableName: str,  # noqa: N803
        KeyConditionExpression: str,  # noqa: N803
        **options: Any,
    ) -> dict[str, Any]:
        """Return the items of the condition, by the time at which they have failed."""
        found = [
            each
            for each in self._table(TableName).values()
            if holds(KeyConditionExpression, each, *_of_expressions(options))
        ]
        found.sort(
            key=lambda each: Decimal(each.get(FAILED_AT, {}).get("N", 0)),
            reverse=not options.get("ScanIndexForward", True),
        )
        return _page(found, options)

    def _table(self, name: str) -> dict[str, Item]:
        return self._tables.setdefault(name, {})


def _key(item: Item) -> str:
    return str(item[KEY]["S"])


def _stored(item: Item) -> Item:
    # A request may have text for bytes; an answer has bytes.
    return {
        name: {"B": each["B"].encode()} if isinstance(each.get("B"), str) else each
        for name, each in item.items()
    }


def _of_expressions(options: Mapping[str, Any]) -> tuple[Any, Any]:
    return options.get("ExpressionAttributeNames"), options.get("ExpressionAttributeValues")


def _page(found: list[Item], options: Mapping[str, Any]) -> dict[str, Any]:
    kept = [
        dict(each)
        for each in found
        if holds(options.get("FilterExpression"), each, *_of_expressions(options))
    ]
    return {"Items": kept, "Count": len(kept), "ScannedCount": len(found)}


def _check(before: Item | None, options: Mapping[str, Any]) -> None:
    if holds(options.get("ConditionExpression"), before, *_of_expressions(options)):
        return
    told: dict[str, Any] = {}
    if before is not None and options.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD":
        told["Item"] = dict(before)
    raise RefusedError("ConditionalCheckFailedException", "The conditional request failed", **told)


def _returned(options: Mapping[str, Any], before: Item | None, after: Item) -> dict[str, Any]:
    match options.get("ReturnValues", "NONE"):
        case "ALL_OLD":
            return {"Attributes": dict(before)} if before else {}
        case "ALL_NEW":
            return {"Attributes": dict(after)}
        case "UPDATED_NEW":
            old = before or {}
            return {"Attributes": {n: each for n, each in after.items() if old.get(n) != each}}
    return {}
