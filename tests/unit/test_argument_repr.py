"""The short form of arguments in messages is Celery's, to the letter."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import Any

import pytest
from celery.utils.saferepr import saferepr

from lambda_celery.publishing.argument_repr import flat_repr

PLAIN = ["", "a@b.org", "it's", 'say "hi"', "\n\\", "ü", "x" * 90, 0, -1, 1.5, 1e300, True, None]
OTHER = [b"bytes", Decimal("1.5"), (1,), [1], {"a": 1}, {1, 2}, range(3), 1j, object]


def calls() -> list[Any]:
    parts = [*PLAIN, *OTHER]
    pairs = list(itertools.product(parts, repeat=2))
    return [
        (), [], {}, *((each,) for each in parts), *([each] for each in parts),
        *pairs, *map(list, pairs), *({"key": one, "it's": two} for one, two in pairs),
        {1: "number", None: "none"}, ("x" * 500, "y"), tuple(range(400)),
    ]  # fmt: skip


@pytest.mark.parametrize("maximum_length", [0, 1, 7, 8, 9, 20, 95, 110, 1024])
@pytest.mark.parametrize("maximum_levels", [0, 1, 3])
def test_it_is_what_celery_writes(maximum_length: int, maximum_levels: int) -> None:
    for value in calls():
        expected = saferepr(value, maximum_length, maxlevels=maximum_levels)
        assert flat_repr(value, maximum_length, maximum_levels) == expected, value
