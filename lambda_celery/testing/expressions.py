"""DynamoDB's expressions, as far as this project writes them: of attributes at an item's top.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.html. A statement is
read and carried out in one go.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from lambda_celery.testing.refusal import RefusedError

#: A value in DynamoDB's form: ``{"S": "text"}``.
Value = Mapping[str, Any]

_TOKEN = re.compile(r"\s*(<>|<=|>=|[=<>(),+-]|[#:]?\w+)")
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda one, other: bool(one < other),
    "<=": lambda one, other: bool(one <= other),
    ">": lambda one, other: bool(one > other),
    ">=": lambda one, other: bool(one >= other),
}
_CLAUSES = frozenset({"SET", "REMOVE", "ADD", "DELETE"})


class _Reader:
    """Reads an expression about *item*, from one token to the next."""

    def __init__(
        self, expression: str, item: Mapping[str, Value], names: Mapping[str, str], values: Any
    ) -> None:
        text = expression.strip()
        self.tokens: list[str] = []
        position = 0
        while position < len(text):
            if (found := _TOKEN.match(text, position)) is None:
                raise RefusedError(
                    "ValidationException", f"This is not read here: {text[position:]}"
                )
            self.tokens.append(found[1])
            position = found.end()
        self.item = item
        self._names = names
        self._values = values

    @property
    def next(self) -> str:
        """The token to come, a word in upper case; empty at the end."""
        return self.tokens[0].upper() if self.tokens else ""

    def take(self, *expected: str) -> str:
        """Return the token to come, which must be one of those *expected*, if there are any."""
        if not self.tokens or (expected and self.next not in expected):
            told = self.tokens[0] if self.tokens else "the end"
            raise RefusedError("ValidationException", f"This is not read here: {told}")
        return self.tokens.pop(0)

    def takes(self, token: str) -> bool:
        """Take the token to come if it is *token*; return whether it was."""
        if self.next != token:
            return False
        self.take()
        return True

    def name(self) -> str:
        """Read an attribute's name."""
        token = self.take()
        return self._names[token] if token.startswith("#") else token

    def operand(self) -> Value | None:
        """Read a value, or an attribute; ``None`` if the item does not have it."""
        if self.next.startswith(":"):
            value: Value = self._values[self.take()]
            return value
        if self.next == "SIZE":
            self.take()
            self.take("(")
            found = self.operand()
            self.take(")")
            return None if found is None else {"N": str(len(_plain(found)))}
        return self.item.get(self.name())


def holds(
    expression: str | None,
    item: Mapping[str, Value] | None,
    names: Mapping[str, str] | None = None,
    values: Mapping[str, Value] | None = None,
) -> bool:
    """Whether the condition *expression* is true of *item*; ``None`` is one that is not there."""
    if not expression:
        return True
    reader = _Reader(expression, item or {}, names or {}, values or {})
    is_true = _any(reader)
    if reader.tokens:
        raise RefusedError("ValidationException", f"This is not read here: {reader.tokens[0]}")
    return is_true


def _any(reader: _Reader) -> bool:
    is_true = _all(reader)
    while reader.takes("OR"):
        is_true = _all(reader) or is_true
    return is_true


def _all(reader: _Reader) -> bool:
    is_true = _one(reader)
    while reader.takes("AND"):
        is_true = _one(reader) and is_true
    return is_true


def _one(reader: _Reader) -> bool:
    if reader.takes("NOT"):
        return not _one(reader)
    if reader.takes("("):
        is_true = _any(reader)
        reader.take(")")
        return is_true
    function = reader.next
    if function in _FUNCTIONS and reader.tokens[1:2] == ["("]:
        reader.take()
        reader.take("(")
        is_true = _FUNCTIONS[function](reader)
        reader.take(")")
        return is_true
    one = reader.operand()
    if reader.takes("BETWEEN"):
        low = reader.operand()
        reader.take("AND")
        return _compared(">=", one, low) & _compared("<=", one, reader.operand())
    if reader.takes("IN"):
        reader.take("(")
        found = _compared("=", one, reader.operand())
        while reader.takes(","):
            found = _compared("=", one, reader.operand()) or found
        reader.take(")")
        return found
    return _compared(reader.take("=", "<>", *_COMPARISONS), one, reader.operand())


def _exists(reader: _Reader) -> bool:
    return reader.name() in reader.item


def _begins_with(reader: _Reader) -> bool:
    one = reader.operand()
    reader.take(",")
    other = reader.operand()
    if one is None or other is None or one.keys() != other.keys():
        return False
    return bool(_plain(one).startswith(_plain(other)))


def _contains(reader: _Reader) -> bool:
    one = reader.operand()
    reader.take(",")
    other = reader.operand()
    return one is not None and other is not None and _plain(other) in _plain(one)


_FUNCTIONS: dict[str, Callable[[_Reader], bool]] = {
    "ATTRIBUTE_EXISTS": _exists,
    "ATTRIBUTE_NOT_EXISTS": lambda reader: not _exists(reader),
    "BEGINS_WITH": _begins_with,
    "CONTAINS": _contains,
}


def _compared(how: str, one: Value | None, other: Value | None) -> bool:
    is_same = one is not None and other is not None and _typed(one) == _typed(other)
    if how in ("=", "<>"):
        return is_same == (how == "=")
    if one is None or other is None or one.keys() != other.keys():
        return False
    return _COMPARISONS[how](_plain(one), _plain(other))


def _typed(value: Value) -> tuple[str, Any]:
    (kind,) = value
    return kind, _plain(value)


def _plain(value: Value) -> Any:
    ((kind, plain),) = value.items()
    if kind == "N":
        return Decimal(plain)
    return frozenset(plain) if kind in ("SS", "BS", "NS") else plain


def updated(
    expression: str | None,
    item: Mapping[str, Value],
    names: Mapping[str, str] | None = None,
    values: Mapping[str, Value] | None = None,
) -> dict[str, Value]:
    """Return *item* as the update *expression* leaves it."""
    changed = dict(item)
    reader = _Reader(expression or "", item, names or {}, values or {})
    while reader.tokens:
        clause = reader.take(*_CLAUSES).upper()
        while True:
            name = reader.name()
            if clause == "SET":
                reader.take("=")
                changed[name] = _sum(reader)
            elif clause == "REMOVE":
                changed.pop(name, None)
            else:
                _change_set(changed, name, _there(reader.operand()), clause)
            if not reader.takes(","):
                break
    return changed


def _sum(reader: _Reader) -> Value:
    result = _term(reader)
    while reader.next in ("+", "-"):
        sign = 1 if reader.take() == "+" else -1
        result = {"N": str(Decimal(result["N"]) + sign * Decimal(_term(reader)["N"]))}
    return result


def _term(reader: _Reader) -> Value:
    if reader.next == "IF_NOT_EXISTS" and reader.tokens[1:2] == ["("]:
        reader.take()
        reader.take("(")
        found = reader.operand()
        reader.take(",")
        other = reader.operand()
        reader.take(")")
        return _there(other if found is None else found)
    return _there(reader.operand())


def _there(value: Value | None) -> Value:
    if value is None:
        raise RefusedError(
            "ValidationException", "An attribute of the expression is not in the item."
        )
    return value


def _change_set(item: dict[str, Value], name: str, value: Value, clause: str) -> None:
    ((kind, given),) = value.items()
    known = item.get(name, {}).get(kind)
    if kind == "N":
        item[name] = {"N": str(Decimal(known or 0) + Decimal(given))}
        return
    kept = [each for each in known or [] if each not in given]
    left = kept + list(given) if clause == "ADD" else kept
    if left:
        item[name] = {kind: left}
    else:
        item.pop(name, None)
