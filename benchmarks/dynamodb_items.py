"""A DynamoDB table with the partition key ``id``, as far as idempotency records need one.

Condition expressions, update expressions and PartiQL are read for what such records are
written with: comparisons, AND, OR, NOT, and whether an attribute is there. What DynamoDB would
refuse is not looked for.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

Item = dict[str, dict[str, Any]]
Values = Mapping[str, dict[str, Any]]
Names = tuple[tuple[str, str], ...]
Condition = Callable[[Item, Values], bool]
#: A name, and where its value is found; ``None`` removes it.
Changes = list[tuple[str, str | None]]

MOST_STATEMENTS = 25

_NAME = r"#?[A-Za-z_][\w.-]*|\"[^\"]+\""
_OPERAND = rf"{_NAME}|:\w+|'[^']*'"
_ASSIGNMENT = re.compile(rf"({_NAME})\s*=\s*({_OPERAND})")
_PAIR = re.compile(rf"['\"]([^'\"]+)['\"]\s*:\s*({_OPERAND})")
_TERM = re.compile(
    rf"attribute_(?P<absent>not_)?exists\s*\(\s*(?P<asked>{_NAME})\s*\)"
    rf"|(?P<left>{_OPERAND})\s*(?P<sign><>|<=|>=|=|<|>)\s*(?P<right>{_OPERAND})"
    rf"|(?P<missing>{_NAME})\s+IS\s+(?P<there>NOT\s+)?MISSING"
    r"|\b(?P<word>AND|OR|NOT)\b"
)
_STATEMENT = re.compile(
    r"""(?xs)\s* (?:
        INSERT\s+INTO \s+\S+\s+ VALUE\s*\{(?P<inserted>.*)\}
      | (?P<verb>UPDATE|DELETE\s+FROM|SELECT\s.*?\sFROM) \s+\S+\s+ (?P<changes>.*?)
        WHERE\s+(?P<where>.*?) (?:\s+RETURNING\s.*)?
    )\s*$"""
)
_SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "<>": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


class RefusedError(Exception):
    """DynamoDB's answer to what it does not carry out."""

    def __init__(self, code: str, message: str, item: Item | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.item = item


class Items:
    """The items of all tables, by their ``id``: the name of a table makes no difference."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}

    def answer(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to *operation*, in lower case; raise :exc:`RefusedError`."""
        match operation:
            case "putitem":
                self._check(request["Item"], request)
                self._items[_id(request["Item"])] = request["Item"]
                return {}
            case "updateitem":
                self._check(request["Key"], request)
                changes = _update(request["UpdateExpression"], _names(request))
                item = self._items.get(_id(request["Key"]), request["Key"])
                values = request.get("ExpressionAttributeValues", {})
                self._items[_id(item)] = _changed(item, changes, values)
                return {}
            case "deleteitem":
                self._check(request["Key"], request)
                self._items.pop(_id(request["Key"]), None)
                return {}
            case "getitem":
                item = self._items.get(_id(request["Key"]), {})
                return {"Item": item} if item else {}
            case "batchexecutestatement":
                statements = request["Statements"]
                if not 1 <= len(statements) <= MOST_STATEMENTS:
                    raise RefusedError(
                        "ValidationException", f"A batch has 1 to {MOST_STATEMENTS} statements."
                    )
                return {"Responses": [self._answer_in_batch(each) for each in statements]}
        raise RefusedError("UnknownOperationException", f"This stand-in has no {operation}.")

    def _check(self, key: Item, request: Mapping[str, Any]) -> None:
        if not (text := request.get("ConditionExpression")):
            return
        found = self._items.get(_id(key), {})
        if not _condition(text, _names(request))(
            found, request.get("ExpressionAttributeValues", {})
        ):
            raise _failed("ConditionalCheckFailedException", request, found)

    def _answer_in_batch(self, request: Mapping[str, Any]) -> dict[str, Any]:
        values = {f":{n}": each for n, each in enumerate(request.get("Parameters", []))}
        try:
            found = _statement(request["Statement"])(self._items, request, values)
        except RefusedError as exc:
            error = {"Code": exc.code, "Message": str(exc)}
            return {"Error": error | ({"Item": exc.item} if exc.item else {})}
        return {"Item": found} if found else {}


def _id(item: Item) -> str:
    return str(item["id"]["S"])


def _names(request: Mapping[str, Any]) -> Names:
    return tuple(request.get("ExpressionAttributeNames", {}).items())


def _failed(code: str, request: Mapping[str, Any], found: Item) -> RefusedError:
    wanted = request.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD"
    return RefusedError(code, "The conditional request failed", found if wanted else None)


def _changed(item: Item, changes: Changes, values: Values) -> Item:
    made = dict(item)
    for name, operand in changes:
        if operand is None:
            made.pop(name, None)
        else:
            made[name] = {"S": operand[1:-1]} if operand[0] == "'" else values[operand]
    return made


# Expressions are read once each, since a few texts come again and again with other values.


@functools.lru_cache(maxsize=1000)
def _update(text: str, names: Names = ()) -> Changes:
    assigned, _, removed = text.partition("REMOVE")
    changes: Changes = [
        (_plain(name, names), operand) for name, operand in _ASSIGNMENT.findall(assigned)
    ]
    return changes + [(_plain(name, names), None) for name in re.findall(_NAME, removed)]


@functools.lru_cache(maxsize=1000)
def _condition(text: str, names: Names = ()) -> Condition:
    def python(term: re.Match[str]) -> str:
        part = term.groupdict()
        if part["word"]:
            return str(part["word"]).lower()
        if part["sign"]:
            left, right = (_value(part[side], names) for side in ("left", "right"))
            return f"compare({part['sign']!r}, {left}, {right})"
        absent = part["absent"] if part["asked"] else not part["there"]
        name = _plain(part["asked"] or part["missing"], names)
        return f"({name!r} {'not in' if absent else 'in'} item)"

    source = f"lambda item, values: {_TERM.sub(python, text)}"
    made: Condition = eval(source, {"compare": _compare})
    return made


def _plain(name: str, names: Names) -> str:
    return dict(names).get(name, name.strip('"'))


def _value(operand: str, names: Names) -> str:
    if operand[0] == "'":
        return repr({"S": operand[1:-1]})
    if operand[0] == ":":
        return f"values[{operand!r}]"
    return f"item.get({_plain(operand, names)!r})"


def _compare(sign: str, left: dict[str, Any] | None, right: dict[str, Any] | None) -> bool:
    if left is None or right is None or left.keys() != right.keys():
        return False
    ((kind, first),) = left.items()
    (second,) = right.values()
    return _SIGNS[sign](int(first), int(second)) if kind == "N" else _SIGNS[sign](first, second)


@functools.lru_cache(maxsize=1000)
def _statement(
    text: str,
) -> Callable[[dict[str, Item], Mapping[str, Any], Values], Item | None]:
    """Return what carries the PartiQL statement *text* out; its ``?`` are ``:0``, ``:1`` …"""
    marks = iter(range(text.count("?")))
    found = _STATEMENT.match(re.sub(r"\?", lambda _: f":{next(marks)}", text))
    if found is None:
        raise RefusedError("ValidationError", f"This stand-in cannot read: {text}")
    if found["inserted"] is not None:
        return functools.partial(_insert, _PAIR.findall(found["inserted"]))
    keys = [each for each in _ASSIGNMENT.findall(found["where"]) if each[0].strip('"') == "id"]
    verb = found["verb"].split()[0]
    return functools.partial(
        _where, verb, keys[:1], _update(found["changes"]), _condition(found["where"])
    )


def _insert(
    pairs: Changes, items: dict[str, Item], _request: Mapping[str, Any], values: Values
) -> None:
    item = _changed({}, pairs, values)
    if _id(item) in items:
        raise RefusedError("DuplicateItem", "Duplicate primary key exists in table")
    items[_id(item)] = item


def _where(
    verb: str,
    key: Changes,
    changes: Changes,
    condition: Condition,
    items: dict[str, Item],
    request: Mapping[str, Any],
    values: Values,
) -> Item | None:
    key_value = next(iter(_changed({}, key, values).values()))["S"]
    item = items.get(key_value, {})
    holds = bool(item) and condition(item, values)
    if verb == "SELECT" or (verb == "DELETE" and not item):
        return item if holds else None
    if not holds:
        raise _failed("ConditionalCheckFailed", request, item)
    if verb == "DELETE":
        del items[key_value]
    else:
        items[key_value] = _changed(item, changes, values)
    return None
