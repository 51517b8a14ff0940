"""Whether arguments are those of a task, as ``apply_async`` would say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from celery import Celery
from kombu.utils.json import dumps, loads

from lambda_celery.celery_hooks.apps import find_task
from lambda_celery.exceptions import FailedTaskError


def check_arguments(app: Celery, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse what the signature of the task *name* does not take.

    A task that is not registered in this process, or has ``typing=False``, is not checked.

    :raises FailedTaskError: they are not its arguments.
    """
    task = find_task(app, name)
    if task is None or not task.typing or not hasattr(task, "__header__"):
        return
    try:
        task.__header__(*args, **kwargs)
    except TypeError as exc:
        raise FailedTaskError(f"These are no arguments of {name}: {exc}.") from exc


def written(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return the arguments as a person edits them: JSON, with kombu's form of dates and the like.

    :raises FailedTaskError: JSON has no form for them.
    """
    try:
        return str(dumps({"args": list(args), "kwargs": dict(kwargs)}, indent=2)) + "\n"
    except TypeError as exc:
        raise FailedTaskError(
            f"The arguments cannot be edited, for they cannot be written as JSON: {exc}."
        ) from exc


def read(text: str) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments in what a person has edited.

    :raises FailedTaskError: it is not what :func:`written` writes.
    """
    try:
        edited = loads(text)
    except Exception as exc:  # kombu's hooks for typed values raise what they like
        raise FailedTaskError(f"What was edited is not JSON: {exc}.") from exc
    if not (
        isinstance(edited, dict)
        and edited.keys() == {"args", "kwargs"}
        and isinstance(edited["args"], list)
        and isinstance(edited["kwargs"], dict)
    ):
        raise FailedTaskError(
            'What was edited is not {"args": [...], "kwargs": {...}}: keep these two, a list and '
            "an object."
        )
    return edited["args"], edited["kwargs"]
