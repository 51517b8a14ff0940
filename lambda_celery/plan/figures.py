"""AWS's figures, from the data file ``aws.json`` next to this module."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        value: the figure itself, in *unit*.
        what: what it says.
        source: the page that says so.
        read: the ISO date on which that page, or a stored copy of it, was read.
    """

    value: float
    unit: str
    what: str
    source: str
    read: str


@lru_cache(maxsize=1)
def figures() -> dict[str, Figure]:
    """Return all figures by name; the prices are those of us-east-1."""
    text = Path(__file__).with_name("aws.json").read_text(encoding="utf-8")
    return {name: Figure(**each) for name, each in json.loads(text)["figures"].items()}


def figure(name: str) -> float:
    """Return the value of a figure. Raises :exc:`KeyError` if there is none of that name."""
    return figures()[name].value
