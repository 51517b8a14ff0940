"""The schedules that are there: listed, paused, continued, and run at once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from celery import Celery
from celery.beat import ScheduleEntry, Scheduler, SchedulingError
from celery.schedules import crontab

from lambda_celery.beat.expressions import schedule_expression, time_zone_name
from lambda_celery.beat.occurrences import is_for_sqs
from lambda_celery.beat.sync import NAME_PREFIX, entries_of, schedule_name
from lambda_celery.conf import Settings, settings_of
from lambda_celery.exceptions import ConfigurationError, LambdaCeleryError
from lambda_celery.schedules import scheduler


@dataclass(frozen=True)
class ExistingSchedule:
    """A schedule of the group that ``schedule sync`` has made.

    :ivar name: that of its entry in ``beat_schedule``; its own where it has none any longer.
    :ivar task: ``None`` if its message cannot be read.
    :ivar next_run: ``None`` if it is paused, and where its entry does not say when.
    """

    name: str
    schedule_name: str
    expression: str
    time_zone: str
    task: str | None
    is_paused: bool
    next_run: datetime | None

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return vars(self) | {"next_run": self.next_run.isoformat() if self.next_run else None}


def existing_schedules(app: Celery) -> list[ExistingSchedule]:
    """Return the schedules of the group that ``schedule sync`` has made, by their names.

    :raises ConfigurationError: a setting is missing, or AWS refuses.
    """
    settings = _settings(app)
    entries = _entries_by_schedule(app)
    with scheduler.explained(settings):
        names = scheduler.schedule_names(settings, NAME_PREFIX)
        found = [(name, scheduler.get_schedule(settings, name)) for name in names]
    made = [_existing(app, each, entries.get(name)) for name, each in found if each is not None]
    return sorted(made, key=lambda each: each.name)


def set_paused(app: Celery, name: str, *, paused: bool) -> bool:
    """Pause or continue the schedule of the entry *name*; return whether that changed anything.

    :param name: of the entry, or of the schedule itself.
    :raises ConfigurationError: there is no such schedule, a setting is missing, or AWS refuses.
    """
    settings = _settings(app)
    with scheduler.explained(settings):
        names = scheduler.schedule_names(settings, NAME_PREFIX)
        found = None
        if (chosen := name if name in names else schedule_name(name)) in names:
            found = scheduler.get_schedule(settings, chosen)
        if found is None:
            entries = _entries_by_schedule(app)
            known = (entries[each].name if each in entries else each for each in names)
            there_are = _listed(known) or "none: celery lambda schedule sync makes them"
            raise ConfigurationError(
                f"The schedule group {settings.schedule_group} has no schedule {name!r}. "
                f"There are {there_are}."
            )
        if scheduler.is_paused(found) == paused:
            return False
        scheduler.set_paused(settings, found, paused=paused)
    return True


def run_now(app: Celery, name: str) -> str:
    """Publish the task of the entry *name*, as beat would if it were due; return its task id.

    The group's schedule is not needed for that, nor changed by it.

    :param name: of the entry, or of its schedule.
    :raises LambdaCeleryError: there is no such entry, its task does not go to SQS, or it cannot
        be published.
    """
    entries = [each for each in entries_of(app) if is_for_sqs(app, each)]
    entry = next((each for each in entries if name in (each.name, schedule_name(each.name))), None)
    if entry is None:
        raise ConfigurationError(
            f"beat_schedule has no entry {name!r} whose task goes to SQS. "
            f"There are {_listed(each.name for each in entries) or 'none'}."
        )
    try:
        return str(Scheduler(app, lazy=True).apply_async(entry, advance=False).id)
    except SchedulingError as exc:
        if isinstance(exc.__context__, LambdaCeleryError):
            raise exc.__context__ from None
        raise ConfigurationError(f"The entry {name!r} cannot be published: {exc}") from exc


def _settings(app: Celery) -> Settings:
    settings = settings_of(app)
    settings.require("schedule_group", "the EventBridge Scheduler group of the project's schedules")
    return settings


def _entries_by_schedule(app: Celery) -> Mapping[str, ScheduleEntry]:
    return {schedule_name(each.name): each for each in entries_of(app)}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _existing(
    app: Celery, found: Mapping[str, Any], entry: ScheduleEntry | None
) -> ExistingSchedule:
    paused = scheduler.is_paused(found)
    return ExistingSchedule(
        entry.name if entry else found["Name"],
        found["Name"],
        found["ScheduleExpression"],
        found.get("ScheduleExpressionTimezone", "UTC"),
        next(_task_in(found["Target"].get("Input", "")), None),
        paused,
        _next_run(app, found, entry) if entry and not paused else None,
    )


def _task_in(body: str) -> Iterator[str]:
    try:
        yield str(json.loads(body)["headers"]["task"])
    except (ValueError, LookupError, TypeError):
        return  # somebody else's


def _next_run(app: Celery, found: Mapping[str, Any], entry: ScheduleEntry) -> datetime | None:
    """Return when the schedule fires next, if the entry says the same as it does.

    A rate counts from a moment that Scheduler does not tell.
    """
    when = entry.schedule
    if type(when) is not crontab:
        return None
    try:
        said = (schedule_expression(when), time_zone_name(app))
    except ConfigurationError:
        return None
    if said != (found["ScheduleExpression"], found.get("ScheduleExpressionTimezone")):
        return None
    now, until_then, _ = when.remaining_delta(app.now())
    due: datetime = now + until_then
    return due
