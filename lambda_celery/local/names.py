"""The names by which a caller knows the function."""

from __future__ import annotations

import os
from pathlib import Path

from lambda_celery import aws
from lambda_celery.exceptions import ConfigurationError
from lambda_celery.infrastructure.computed import compute
from lambda_celery.infrastructure.inputs import Deployment
from lambda_celery.local.function import FUNCTION_NAME


def function_names(project: Path, configured: str | None = None) -> frozenset[str]:
    """Return the local function's own name, and those of the functions that it stands for.

    These are what ``pyproject.toml`` in *project* says is deployed, and what the variable
    ``AWS_LAMBDA_FUNCTION_NAME`` says; and the one that direct calls are *configured* to go to.
    """
    names = {FUNCTION_NAME, os.environ.get("AWS_LAMBDA_FUNCTION_NAME") or FUNCTION_NAME}
    if configured is not None:
        names.add(aws.function_parts(configured)[0])
    try:
        deployed = compute(Deployment.from_pyproject(project / "pyproject.toml"))
    except ConfigurationError:
        # There is none yet, or it is unfinished: `lambda check` says so.
        return frozenset(names)
    return frozenset(names | {each.name for each in deployed.functions.values()})
