"""``beat_schedule`` as schedules of EventBridge Scheduler: a plan, and carrying it out.

The schedules of the group whose names begin with ``beat-`` are ours: those that are in no
entry any longer are deleted.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from celery import Celery
from celery.beat import ScheduleEntry, Scheduler

from lambda_celery.beat.expressions import schedule_expression, time_zone_name
from lambda_celery.beat.occurrences import is_for_sqs, occurrence_message
from lambda_celery.conf import Settings, settings_of
from lambda_celery.exceptions import LambdaCeleryError
from lambda_celery.schedules import scheduler

NAME_PREFIX = "beat-"
_SLUG_LENGTH = 40
_DIGEST_LENGTH = 12


class Action(Enum):
    """What becomes of an entry, or of a schedule."""

    CREATE = "create"
    UPDATE = "update"
    UNCHANGED = "unchanged"
    DELETE = "delete"
    STAYS = "stays with beat"
    REFUSED = "refused"


@dataclass(frozen=True)
class Step:
    """One line of the plan."""

    action: Action
    #: The name of the entry, or of a schedule that has none any longer.
    subject: str
    #: The schedule expression, or the sentence why there is none.
    detail: str = ""
    schedule_name: str = ""
    definition: dict[str, Any] | None = None

    def __str__(self) -> str:
        return f"{self.action.value:<15}  {self.subject}" + (self.detail and f": {self.detail}")


def schedule_name(entry_name: str) -> str:
    """Return the name of the schedule for the entry *entry_name*: readable, and its own."""
    slug = re.sub(r"[^0-9a-zA-Z_.-]+", "-", entry_name)[:_SLUG_LENGTH]
    digest = hashlib.sha256(entry_name.encode()).hexdigest()[:_DIGEST_LENGTH]
    return f"{NAME_PREFIX}{slug}-{digest}"


def plan(app: Celery) -> list[Step]:
    """Return what is to be done so that the group's schedules are those of *app*; does nothing.

    Raises :exc:`ConfigurationError` if a setting is missing or AWS refuses.
    """
    settings = settings_of(app)
    settings.require("schedule_group", "the EventBridge Scheduler group of the project's schedules")
    settings.require("schedule_role_arn", "the role by which EventBridge Scheduler may send to SQS")
    time_zone = time_zone_name(app)
    entries = sorted(entries_of(app), key=lambda entry: str(entry.name))
    with scheduler.explained(settings):
        existing = set(scheduler.schedule_names(settings, NAME_PREFIX))
        steps = [_step(app, entry, time_zone, existing) for entry in entries]
        wanted = {step.schedule_name for step in steps}
        return steps + [
            Step(Action.DELETE, name, schedule_name=name) for name in sorted(existing - wanted)
        ]


def apply(settings: Settings, steps: Iterable[Step]) -> None:
    """Carry out *steps*, and create the schedule group if it is missing.

    Raises :exc:`ConfigurationError` if AWS refuses.
    """
    with scheduler.explained(settings):
        scheduler.ensure_group(settings)
        for step in steps:
            if step.action is Action.DELETE:
                scheduler.delete_schedule(settings, step.schedule_name)
            elif step.action is Action.CREATE:
                scheduler.create_schedule(settings, step.schedule_name, step.definition or {})
            elif step.action is Action.UPDATE:
                scheduler.update_schedule(settings, step.schedule_name, step.definition or {})


def entries_of(app: Celery) -> Iterable[ScheduleEntry]:
    """Return the entries of ``beat_schedule``, with those that ``add_periodic_task`` has added."""
    app.loader.import_default_modules()
    app.finalize()  # receivers of on_after_finalize add periodic tasks
    made = Scheduler(app, lazy=True)
    made.setup_schedule()
    entries: Iterable[ScheduleEntry] = made.schedule.values()
    return entries


def _step(app: Celery, entry: ScheduleEntry, time_zone: str, existing: set[str]) -> Step:
    if not is_for_sqs(app, entry):
        return Step(Action.STAYS, entry.name)
    settings, name = settings_of(app), schedule_name(entry.name)
    try:
        expression = schedule_expression(entry.schedule)
        message = occurrence_message(app, entry, name)
    except LambdaCeleryError as exc:
        return Step(Action.REFUSED, entry.name, str(exc), name)
    definition = scheduler.definition(
        settings,
        message.queue_url,
        expression=expression,
        time_zone=time_zone,
        body=message.body,
        message_group_id=message.message_group_id,
    )
    found = scheduler.get_schedule(settings, name) if name in existing else None
    detail = f"{expression} {time_zone}"
    if found is not None and scheduler.is_paused(found):
        # Somebody has paused it, and continues it: a deployment must not.
        definition |= {"State": found["State"]}
        detail += ", paused"
    if found is None:
        action = Action.CREATE
    elif scheduler.same_definition(found, definition):
        action = Action.UNCHANGED
    else:
        action = Action.UPDATE
    return Step(action, entry.name, detail, name, definition)
