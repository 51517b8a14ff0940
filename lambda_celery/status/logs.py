"""The attempts of a task, from the log groups of the app's functions."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

from celery import Celery

from lambda_celery.check.deployed.deployment import Deployed
from lambda_celery.check.deployed.reading import Reader, Thing
from lambda_celery.conf import settings_of
from lambda_celery.status.attempts import Attempt, Attempts, attempt_in, chain
from lambda_celery.status.figures import span

#: How long to search in all: a log group may be large, and CloudWatch looks through it from the
#: oldest line on.
SEARCH_SECONDS = 20
#: So far back, the latest first, in seconds.
_AGES = (0, 900, 3600, 6 * 3600, 86400, 7 * 86400)


def attempts_of(app: Celery, task_id: str) -> Attempts:
    """Return the attempts of the task, and of all with the same root, of the last seven days.

    What cannot be read, and where the search was given up, is told in sentences.

    :raises ConfigurationError: the settings of *app* cannot be read.
    """
    settings = settings_of(app)
    deployed = Deployed(app, settings)
    left_out: list[str] = []
    groups = list(dict.fromkeys(_log_groups(deployed)))
    search = _Search(deployed.reader, groups, left_out)
    found = search.about(task_id)
    roots = {each.root_id for each in found if each.task_id == task_id} - {task_id}
    for root in roots:
        found += search.about(root)
    left_out += [each.sentence for each in deployed.reader.take_unseen()]
    told = chain(found, task_id)
    if not told and groups and not left_out:
        left_out.append(
            f"No line of the last {span(_AGES[-1])} tells of the task {task_id}. The function "
            "tells what has succeeded at the log level INFO, in lines of JSON."
        )
    return Attempts(told, tuple(dict.fromkeys(left_out)))


def _log_groups(deployed: Deployed) -> Iterator[str]:
    for function in deployed.functions():
        about = function.configuration.get("LoggingConfig") or {}
        yield about.get("LogGroup") or f"/aws/lambda/{function.name}"


class _Search:
    def __init__(self, reader: Reader, groups: Iterable[str], left_out: list[str]) -> None:
        self._reader = reader
        self._groups = list(groups)
        self._left_out = left_out
        self._ends_at = time.monotonic() + SEARCH_SECONDS

    def about(self, task_id: str) -> list[Attempt]:
        """Return the attempts of the task, and of those whose root it is."""
        now = time.time()
        found: list[Attempt] = []
        for younger, older in pairwise(_AGES):
            for group in self._groups:
                found += self._between(group, task_id, now - older, now - younger)
            if any(each.begins and each.task_id == task_id for each in found):
                break
            if time.monotonic() > self._ends_at and self._groups:
                self._left_out.append(
                    f"The log was searched for {SEARCH_SECONDS} s: attempts before the last "
                    f"{span(older)} may be missing."
                )
                break
        return found

    def _between(self, group: str, task_id: str, start: float, end: float) -> Iterator[Attempt]:
        quoted = json.dumps(task_id)
        token: dict[str, Any] = {}
        while True:
            answer = self._reader.look(
                "logs",
                "filter_log_events",
                Thing(f"log group {group}", group),
                "logs:FilterLogEvents",
                logGroupName=group,
                filterPattern=(
                    f'{{ ($.end = "*") && (($.task_id = {quoted}) || ($.root_id = {quoted})) }}'
                ),
                startTime=int(start * 1000),
                endTime=int(end * 1000),
                **token,
            )
            if answer is None:
                return
            if not answer.is_there:
                self._left_out.append(f"There is no log group {group} in this account and region.")
                return
            for each in answer.said.get("events", []):
                attempt = attempt_in(each["message"], each["timestamp"] / 1000)
                # To CloudWatch a * in the id stands for anything.
                if attempt is not None and task_id in {attempt.task_id, attempt.root_id}:
                    yield attempt
            following = answer.said.get("nextToken")
            if not following or time.monotonic() > self._ends_at:
                return
            token = {"nextToken": following}
