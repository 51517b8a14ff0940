"""A result back end on DynamoDB: Celery's, with a supplied table and chords that count once.

Chosen by ``result_backend = "lambda-dynamodb://@eu-west-1/results"``, or, where a package has
lost its entry points, ``"lambda_celery.results:DynamoDBBackend+dynamodb://…"``. Task results
have the format of Celery's own ``dynamodb://``, which can read them.

A chord's parts are counted as a set of parts, for a part can run twice: its process died
after the count. The item of a chord::

    part:   |- ADD itself to parts -|- all there? claim -|- read results, publish body -|- close -|
            |  not once it is closed, or claimed by another part                        |

Every step can be repeated by the same part, and by no other. The part whose process dies on
the way comes again, with its message, and goes on; a body that is published twice has one
task id and one list of arguments.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from celery.exceptions import BackendGetMetaError, BackendStoreError

from lambda_celery import aws
from lambda_celery.celery_hooks.dynamodb_results import SuppliedTableBackend
from lambda_celery.conf import settings_of

#: DynamoDB's limit for an item is 400 KB, of which ours needs a little itself.
MAXIMUM_VALUE_BYTES = 400 * 1024 - 1024
#: BatchGetItem's limit.
_KEYS_A_READ = 100
#: How often DynamoDB may answer with nothing, and the first pause, which doubles.
_FRUITLESS_READS = 6
_PAUSE_SECONDS = 0.05
#: Enough that two of a chord's parts are never taken for one.
_PART_BYTES = 8


class DynamoDBBackend(SuppliedTableBackend):
    """Keeps results in a table that has the partition key ``id`` (string) and TTL on ``ttl``.

    The table is neither described nor created. Every item expires: after the URL's
    ``ttl_seconds``, else after ``result_expires`` or ``result_chord_expires``, whichever is
    longer. Region and endpoint are those of Lambda Celery's settings where the URL has none.

    :raises BackendStoreError: a result, or the list of a chord's parts, is too big for an item.
    """

    supports_native_join = True

    def make_client(self, credentials: Mapping[str, str | None]) -> Any:
        """Return the client of this process for the table's region and endpoint."""
        settings = settings_of(self.app)
        if self.endpoint_url is not None:
            settings = replace(settings, endpoint_url=self.endpoint_url)
        # Results are binary, which is none of what is called directly.
        return aws.client(
            "dynamodb", settings, region=self.aws_region, fast=False, patient=True, **credentials
        )

    def get(self, key: Any) -> Any:
        # Consistent: a part that starts at once must find its group, and the last part the
        # result that another has stored a moment ago.
        found = self.client.get_item(
            TableName=self.table_name, Key=self.key(str(key)), ConsistentRead=True
        )
        return self.entry(found["Item"])[1] if "Item" in found else None

    def mget(self, keys: Iterable[Any]) -> list[Any]:
        names = [str(key) for key in keys]
        found: dict[str, Any] = {}
        unique = list(dict.fromkeys(names))
        for start in range(0, len(unique), _KEYS_A_READ):
            found |= self._read_batch(unique[start : start + _KEYS_A_READ])
        return [found.get(name) for name in names]

    def _read_batch(self, names: list[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        keys = [self.key(name) for name in names]
        request: dict[str, Any] = {self.table_name: {"Keys": keys, "ConsistentRead": True}}
        fruitless = 0
        while request:  # what exceeds 16 MB, or DynamoDB's patience, is left for the next read
            answer = self.client.batch_get_item(RequestItems=request)
            items = answer["Responses"].get(self.table_name, [])
            found.update(map(self.entry, items))
            request = answer.get("UnprocessedKeys") or {}
            if request and not items:
                fruitless += 1
                if fruitless == _FRUITLESS_READS:
                    raise BackendGetMetaError("DynamoDB is throttled: results could not be read.")
                time.sleep(_PAUSE_SECONDS * 2**fruitless)
        return found

    def set(self, key: Any, value: Any) -> None:
        size = len(value.encode() if isinstance(value, str) else value)
        if size > MAXIMUM_VALUE_BYTES:
            raise BackendStoreError(
                f"{key!r} is {size:,} bytes, and DynamoDB takes {MAXIMUM_VALUE_BYTES:,}: return "
                "less from the task, split the chord, set result_compression, or keep results "
                "in Redis."
            )
        super().set(key, value)

    def delete(self, key: Any) -> None:
        if key.startswith(self.chord_keyprefix):
            self._close_chord(key)
        else:
            super().delete(key)

    def forget_chord(self, group_id: str) -> None:
        """Close the chord: a last part that comes again must not miss the group of an open one."""
        self._close_chord(self.get_key_for_chord(group_id))

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        """Note of how many parts the chord is; its last part is not published before."""
        self._update_chord(
            self.get_key_for_chord(group_id),
            {"chord_size": {"N": str(chord_size)}},
            "REMOVE claimed_by",
        )

    def on_chord_part_return(self, request: Any, state: str, result: Any, **kwargs: Any) -> None:
        """Count the part of *request*; with the last one, publish the chord's body."""
        if request.group and self._completes_chord(request):
            # Celery counts on from here, one of one.
            request.chord = {**request.chord, "chord_size": 1}
            super().on_chord_part_return(request, state, result, **kwargs)

    def incr(self, key: Any) -> int:
        """Return 1: the parts have been counted when Celery asks."""
        return 1

    def _completes_chord(self, request: Any) -> bool:
        """Count the part of *request*; return whether it is the one to end its chord."""
        key = self.get_key_for_chord(request.group)
        # A signature that is used twice in a header has one task id in two places.
        place = f"{request.id}:{request.group_index}"
        part = hashlib.blake2b(place.encode(), digest_size=_PART_BYTES).digest()
        try:
            chord = self._update_chord(key, {}, part=part)
            size = chord.get("chord_size")
            if size is None or len(chord["parts"]["BS"]) < int(size["N"]):
                return False
            self._update_chord(key, {"claimed_by": {"B": part}}, part=part)
        except aws.ClientError as exc:
            if aws.error_code(exc) != "ConditionalCheckFailedException":
                raise
            return False  # another part has ended the chord, or is about to
        return True

    def _close_chord(self, key: Any) -> None:
        # A part that comes after this is not the one that claimed it, and ends nothing.
        self._update_chord(key, {"claimed_by": {"B": b"closed"}}, "REMOVE parts, chord_size")

    def _update_chord(
        self,
        key: Any,
        values: dict[str, Any],
        clause: str = "",
        *,
        part: bytes | None = None,
    ) -> dict[str, Any]:
        """Set *values* in the chord's item and return it.

        With *part*: add that to the parts, unless another part has claimed the chord.
        """
        values = {**values, **self.expiry()}
        assignments = ", ".join(f"#{name} = :{name}" for name in values)
        request: dict[str, Any] = {
            "UpdateExpression": f"SET {assignments} {clause}" if assignments else clause,
            "ExpressionAttributeNames": {f"#{name}": name for name in values},
            "ExpressionAttributeValues": {f":{name}": value for name, value in values.items()},
        }
        if part is not None:
            request["UpdateExpression"] += " ADD parts :parts"
            request["ConditionExpression"] = (
                "attribute_not_exists(claimed_by) OR claimed_by = :part"
            )
            request["ExpressionAttributeValues"] |= {":parts": {"BS": [part]}, ":part": {"B": part}}
        answer = self.client.update_item(
            TableName=self.table_name,
            Key=self.key(str(key)),
            ReturnValues="ALL_NEW",
            **{name: value for name, value in request.items() if value},
        )
        return dict(answer["Attributes"])
