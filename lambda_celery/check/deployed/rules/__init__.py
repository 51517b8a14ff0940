"""The rules of ``--deployed``: importing this enters them. The last tells what was in order."""

from lambda_celery.check.deployed.rules import (  # noqa: I001 - the order of the report
    queues,
    mappings,
    functions,
    environment,
    storage,
    schedules,
    roles,
    alarms,
    seen,
)

__all__ = [
    "alarms",
    "environment",
    "functions",
    "mappings",
    "queues",
    "roles",
    "schedules",
    "seen",
    "storage",
]
