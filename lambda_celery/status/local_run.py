"""The figures of a local run, which another process on this machine serves with its page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from http.client import HTTPException
from typing import Any
from urllib.parse import quote
from urllib.request import ProxyHandler, build_opener

from lambda_celery.exceptions import LambdaCeleryError
from lambda_celery.status.attempts import Attempt, Attempts
from lambda_celery.status.figures import (
    Deployment,
    FunctionStatus,
    MappingStatus,
    QueueStatus,
    Status,
    TaskStatus,
)

#: It is on this machine, and looks at an emulator.
_SECONDS = 10
#: It must be no error of the network, and what the runner says.
_ERRORS = (OSError, HTTPException, ValueError, TypeError, KeyError)


class LocalRun:
    """Asks ``lambda local``."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._open = build_opener(ProxyHandler({})).open  # there is none on the way

    @classmethod
    def at(cls, port: int) -> LocalRun | None:
        """Return the run that serves its page at *port*; ``None`` if none does."""
        run = cls(f"http://127.0.0.1:{port}")
        with suppress(LambdaCeleryError):
            run.status()
            return run
        return None

    def status(self) -> Status:
        """Return the figures as they are now.

        :raises LambdaCeleryError: nobody answers, or somebody else.
        """
        said = self._ask("status")
        try:
            return _status(said)
        except _ERRORS as exc:
            raise self._other() from exc

    def attempts(self, task_id: str) -> Attempts:
        """Return the attempts of the task, and of all with the same root.

        :raises LambdaCeleryError: nobody answers, or somebody else.
        """
        said = self._ask(f"attempts/{quote(task_id, safe='')}")
        try:
            return Attempts(
                tuple(Attempt(**_with_time(each)) for each in said["attempts"]),
                tuple(said["left_out"]),
            )
        except _ERRORS as exc:
            raise self._other() from exc

    def _ask(self, what: str) -> dict[str, Any]:
        try:
            with self._open(f"{self._url}/api/{what}", timeout=_SECONDS) as answer:
                said = json.load(answer)
        except _ERRORS as exc:
            raise LambdaCeleryError(
                f"The local run at {self._url} does not answer: {exc}. "
                "Start `celery -A proj lambda local`."
            ) from exc
        if not isinstance(said, dict):
            raise self._other()
        return said

    def _other(self) -> LambdaCeleryError:
        return LambdaCeleryError(f"What answers at {self._url} is no local run of this version.")


def _status(said: Mapping[str, Any]) -> Status:
    started = said["started"]
    return Status(
        datetime.fromisoformat(said["time"]),
        tuple(_queues(said)),
        tuple(FunctionStatus(**_with_tuples(each)) for each in said["functions"]),
        tuple(said["left_out"]),
        tasks=tuple(TaskStatus(**_with_tuples(each)) for each in said["tasks"]),
        deployments=tuple(Deployment(**_with_time(each)) for each in said["deployments"]),
        started=datetime.fromisoformat(started) if started else None,
    )


def _queues(said: Mapping[str, Any]) -> Iterator[QueueStatus]:
    for each in said["queues"]:
        mappings = tuple(MappingStatus(**mapping) for mapping in each["mappings"])
        yield QueueStatus(**{**_with_tuples(each), "mappings": mappings})


def _with_time(said: Mapping[str, Any]) -> dict[str, Any]:
    return {**said, "time": datetime.fromisoformat(said["time"])}


def _with_tuples(said: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _tuple(value) for name, value in said.items()}


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, list) else value
