"""The rules: a module for each theme, and in it a small function for each thing to be found.

A rule is a function over :class:`~lambda_celery.check.facts.Facts` that yields findings. Its
docstring is its paragraph in ``docs/check.md``.
"""

from lambda_celery.check.deployed import rules as deployed
from lambda_celery.check.model import registry
from lambda_celery.check.rules import (
    acknowledgement,
    broker,
    calling,
    cold_start,
    databases,
    durations,
    files,
    loops,
    packages,
    processes,
    reading,
    results,
    schedule,
    serialization,
    settings,
    state,
    transactions,
    worker,
)

__all__ = [
    "acknowledgement",
    "broker",
    "calling",
    "cold_start",
    "databases",
    "deployed",
    "durations",
    "files",
    "loops",
    "packages",
    "processes",
    "reading",
    "registry",
    "results",
    "schedule",
    "serialization",
    "settings",
    "state",
    "transactions",
    "worker",
]
