"""Periodic tasks: what a beat process does on a server."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from celery.beat import Scheduler

from lambda_celery.beat.expressions import schedule_expression, time_zone_name
from lambda_celery.check.facts import Facts
from lambda_celery.check.model import Finding, Grade, registry
from lambda_celery.exceptions import LambdaCeleryError

_PACKAGES = {
    "django_celery_beat": "django-celery-beat",
    "redbeat": "RedBeat",
    "sqlalchemy_celery_beat": "sqlalchemy-celery-beat",
}


@registry.rule("beat-entry", "Periodic tasks")
def beat_entry(facts: Facts) -> Iterator[Finding]:
    """`beat_schedule`, or `add_periodic_task`, has entries.

    There is no beat on Lambda: `celery -A proj lambda schedule sync` makes schedules of
    EventBridge Scheduler of them. That needs `lambda_schedule_group` and
    `lambda_schedule_role_arn`: amber while they are not set, a green note when they are. Red is an
    entry that has no schedule expression: `solar`, a `nowfun`, less than a minute, a crontab with
    both a day of the month and of the week. Until then keep celery beat.
    """
    settings = facts.settings
    is_ready = bool(settings.schedule_group and settings.schedule_role_arn)
    try:
        scheduler = Scheduler(facts.app, lazy=True)
        scheduler.setup_schedule()
        time_zone_name(facts.app)
    except LambdaCeleryError as exc:
        yield Finding(
            "beat-entry", Grade.RED, "timezone", str(exc), "Name the zone by its IANA name."
        )
    except Exception as exc:  # noqa: BLE001 - an entry may be anything
        yield Finding(
            "beat-entry",
            Grade.RED,
            "beat_schedule",
            f"The schedule cannot be read: {type(exc).__name__}: {exc}.",
            "Make `celery beat` start first.",
        )
        return
    for name, entry in sorted(scheduler.schedule.items(), key=lambda item: str(item[0])):
        if str(entry.task).startswith("celery."):
            continue
        subject = f"beat_schedule[{name!r}]"
        if entry.task not in facts.app.tasks:
            yield Finding(
                "beat-entry",
                Grade.RED,
                subject,
                f"The entry's task, {entry.task}, is not registered with the app.",
                "Correct its name, or import its module.",
            )
        try:
            schedule_expression(entry.schedule)
        except LambdaCeleryError as exc:
            yield Finding("beat-entry", Grade.RED, subject, str(exc), "Or let celery beat keep it.")
            continue
        yield Finding(
            "beat-entry",
            Grade.GREEN if is_ready else Grade.AMBER,
            subject,
            f"{entry.task} is periodic, and there is no beat on Lambda.",
            "Run `celery lambda schedule sync` with each deployment, and stop celery beat."
            if is_ready
            else "Set lambda_schedule_group and lambda_schedule_role_arn for `celery lambda "
            "schedule sync`, or keep celery beat.",
        )


@registry.rule("beat-scheduler", "Schedules in a database")
def beat_scheduler(facts: Facts) -> Iterator[Finding]:
    """The beat scheduler keeps its entries in tables or in Redis: django-celery-beat, RedBeat.

    `schedule sync` reads `beat_schedule`. Name there what is to be a schedule of EventBridge
    Scheduler, and keep celery beat for what people change in the admin.
    """
    named = str(facts.app.conf.beat_scheduler or "")
    used = next(
        (
            package
            for package in _PACKAGES
            if package in named or f"{package}.models" in sys.modules
        ),
        None,
    )
    if used is not None:
        yield Finding(
            "beat-scheduler",
            Grade.AMBER,
            "beat_scheduler",
            f"The entries of {_PACKAGES[used]} are not read by `celery lambda schedule sync`.",
            "Name in beat_schedule what is to be a schedule, and keep celery beat for the others.",
        )
