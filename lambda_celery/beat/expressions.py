"""Celery's schedules in the words of EventBridge Scheduler: ``cron(…)`` and ``rate(…)``."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta, tzinfo
from typing import Any

from celery import Celery
from celery.schedules import crontab, schedule, solar

from lambda_celery.exceptions import ConfigurationError

_WAY_OUT = (
    "write a crontab, or keep the entry with beat: have it send a task that does not go to SQS "
    "(lambda_celery=False)."
)
_MINUTE = timedelta(minutes=1)
_UNITS = ((timedelta(days=1), "day"), (timedelta(hours=1), "hour"), (_MINUTE, "minute"))


def schedule_expression(when: Any) -> str:
    """Return the schedule expression that says the same as *when*, a schedule of Celery's.

    Raises :exc:`ConfigurationError` where none does.
    """
    # By the very type: what a subclass makes of the fields is its own affair.
    if type(when) is crontab:
        _check_clock(when)
        return _cron(when)
    if type(when) is schedule:
        _check_clock(when)
        return _rate(when)
    if isinstance(when, solar):
        raise ConfigurationError(f"EventBridge Scheduler does not know the sun: {_WAY_OUT}")
    raise ConfigurationError(
        f"A schedule of the type {type(when).__name__} has no schedule expression: {_WAY_OUT}"
    )


def time_zone_name(app: Celery) -> str:
    """Return the IANA name of the app's time zone.

    Raises :exc:`ConfigurationError` if it has none.
    """
    zone: tzinfo = app.timezone
    name = getattr(zone, "key", None) or (str(zone) if str(zone) == "UTC" else None)
    if name is None:
        raise ConfigurationError(
            f"The app's time zone, {zone!r}, has no name that EventBridge Scheduler could know: "
            "set timezone (in Django: CELERY_TIMEZONE), for example to 'Europe/Berlin'."
        )
    return str(name)


def _check_clock(when: Any) -> None:
    if when.nowfun is not None:
        raise ConfigurationError(f"EventBridge Scheduler cannot call a nowfun: {_WAY_OUT}")


def _cron(when: crontab) -> str:
    minute = _field(when.minute, range(60))
    hour = _field(when.hour, range(24))
    month = _field(when.month_of_year, range(1, 13))
    day_of_month = _field(when.day_of_month, range(1, 32))
    # Celery counts the days of the week from Sunday, 0; AWS from Sunday, 1.
    day_of_week = _field({day + 1 for day in when.day_of_week}, range(1, 8))
    if day_of_week == "*":
        day_of_week = "?"
    elif day_of_month == "*":
        day_of_month = "?"
    else:
        raise ConfigurationError(
            "A cron expression cannot restrict both day_of_month and day_of_week: leave one of "
            "them out and let the task look at the other, or keep the entry with beat: have it "
            "send a task that does not go to SQS (lambda_celery=False)."
        )
    return f"cron({minute} {hour} {day_of_month} {month} {day_of_week} *)"


def _field(values: Collection[int], all_values: range) -> str:
    ordered = sorted(values)
    if ordered == list(all_values):
        return "*"
    if len(ordered) > 2 and ordered == list(range(ordered[0], ordered[-1] + 1)):
        return f"{ordered[0]}-{ordered[-1]}"
    return ",".join(map(str, ordered))


def _rate(when: schedule) -> str:
    every: timedelta = when.run_every
    if when.relative:
        raise ConfigurationError(
            "A rate counts from its creation and is not rounded to the clock, as relative=True "
            f"asks: {_WAY_OUT}"
        )
    if every < _MINUTE or every % _MINUTE:
        raise ConfigurationError(
            f"EventBridge Scheduler knows whole minutes alone, and the interval is {every}: round "
            "it, or keep the entry with beat: have it send a task that does not go to SQS "
            "(lambda_celery=False)."
        )
    unit, name = next((unit, name) for unit, name in _UNITS if not every % unit)
    count = every // unit
    return f"rate({count} {name}{'' if count == 1 else 's'})"
