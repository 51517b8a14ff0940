"""Celery's DynamoDB result back end, with a table that is supplied and a chord that is counted
elsewhere: what is overridden of it, and what of its items' form is needed, under public names."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from celery.backends.base import KeyValueStoreBackend
from celery.backends.dynamodb import DynamoDBBackend


class SuppliedTableBackend(DynamoDBBackend):
    """Keeps results as Celery's ``dynamodb://`` does; neither describes nor creates the table."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._credentials: dict[str, str | None] = {}
        super().__init__(*args, **kwargs)
        if self._has_ttl() is None and (life := self._chord_result_expires):
            self.time_to_live_seconds: int = int(life)

    def make_client(self, credentials: Mapping[str, str | None]) -> Any:
        """Return a client of DynamoDB with what the URL has of *credentials*."""
        raise NotImplementedError

    def forget_chord(self, group_id: str) -> None:
        """Do what has to be done before the group *group_id* of a chord is deleted."""

    def key(self, name: str) -> dict[str, Any]:
        """Return the key of the item *name*, as a request has it."""
        return {self._key_field.name: {self._key_field.data_type: name}}

    def entry(self, item: Mapping[str, Any]) -> tuple[str, Any]:
        """Return the name and the value in *item*, as an answer has it."""
        fields = self._item_to_dict({"Item": item})
        return fields[self._key_field.name], fields[self._value_field.name]

    def expiry(self) -> dict[str, Any]:
        """Return the attribute by which an item that is written now expires, if it does."""
        if not self._has_ttl():
            return {}
        expires_at = str(int(time.time()) + self.time_to_live_seconds)
        return {self._ttl_field.name: {self._ttl_field.data_type: expires_at}}

    def _get_client(
        self, access_key_id: str | None = None, secret_access_key: str | None = None
    ) -> Any:
        if access_key_id is not None:
            self._credentials = {
                "aws_access_key_id": access_key_id,
                "aws_secret_access_key": secret_access_key,
            }
        return self.make_client(self._credentials)

    def _delete_group(self, group_id: str) -> None:
        self.forget_chord(group_id)
        super()._delete_group(group_id)

    def _apply_chord_incr(self, header_result_args: Any, body: Any, **kwargs: Any) -> None:
        # Without the reset of its own count, which nothing reads.
        KeyValueStoreBackend._apply_chord_incr(self, header_result_args, body, **kwargs)
