"""``celery -A proj lambda schedule …``."""

from __future__ import annotations

import json
import sys

import click
from celery.bin.base import CeleryCommand, CeleryOption, handle_preload_options

from lambda_celery.cli.drawing import console
from lambda_celery.cli.errors import told_in_a_sentence


@click.group("schedule")
def schedule() -> None:
    """EventBridge Scheduler in the place of celery beat."""


@schedule.command("sync", cls=CeleryCommand)
@click.option("--yes", cls=CeleryOption, is_flag=True, help="Apply the plan without asking.")
@click.option("--dry-run", cls=CeleryOption, is_flag=True, help="Show the plan, and end.")
@click.pass_context
@handle_preload_options
def sync(ctx: click.Context, yes: bool, dry_run: bool) -> None:
    """Make the schedules of beat_schedule, and delete those that are not in it any longer.

    An entry whose task goes to SQS becomes a schedule in the group that the setting
    lambda_schedule_group names. Where one cannot, nothing is changed.
    """
    app = ctx.obj.app
    from lambda_celery.beat.sync import Action, apply, plan
    from lambda_celery.conf import settings_of

    with told_in_a_sentence():
        steps = plan(app)
        for step in steps:
            click.echo(step)
        if "django_celery_beat" in str(app.conf.beat_scheduler) + " ".join(sys.modules):
            click.echo(
                "The entries of django-celery-beat, which are in its tables, are not among these: "
                "name those that are to be schedules in beat_schedule, and keep celery beat for "
                "the others."
            )
        actions = {step.action for step in steps}
        if Action.STAYS in actions and len(actions) > 1:
            click.echo(
                "celery beat fires each entry of the beat_schedule that it is given, those above "
                "with a schedule too: give it one with the entries that stay with it."
            )
        if Action.REFUSED in actions:
            raise click.ClickException("Nothing was changed: see the entries that are refused.")
        changes = [s for s in steps if s.action in (Action.CREATE, Action.UPDATE, Action.DELETE)]
        if not changes:
            click.echo("There is nothing to change.")
        elif not dry_run:
            if not yes:
                click.confirm("Make these changes?", abort=True)
            apply(settings_of(app), changes)
            click.echo(f"Schedules changed: {len(changes)}.")


@schedule.command("list", cls=CeleryCommand)
@click.option("--json", "is_json", cls=CeleryOption, is_flag=True, help="Print a JSON list.")
@click.pass_context
@handle_preload_options
def list_(ctx: click.Context, is_json: bool) -> None:
    """List the schedules that sync has made: when, which task, and whether they are paused."""
    from lambda_celery.beat.existing import existing_schedules

    with told_in_a_sentence():
        found = existing_schedules(ctx.obj.app)
        if is_json:
            click.echo(json.dumps([each.as_json() for each in found], indent=2))
        elif not found:
            click.echo("There are no schedules: celery lambda schedule sync makes them.")
        else:
            from rich.table import Table

            table = Table(
                "Name",
                "Expression",
                "Time zone",
                "Task",
                "State",
                "Next run",
                box=None,
                pad_edge=False,
            )
            for each in found:
                table.add_row(
                    each.name,
                    each.expression,
                    each.time_zone,
                    each.task or "-",
                    "paused" if each.is_paused else "on",
                    f"{each.next_run:%Y-%m-%d %H:%M}" if each.next_run else "-",
                )
            console(sys.stdout, has_markup=False).print(table)


@schedule.command("pause", cls=CeleryCommand)
@click.argument("name")
@click.pass_context
@handle_preload_options
def pause(ctx: click.Context, name: str) -> None:
    """Have the schedule NAME fire no more, until it is continued. sync keeps that."""
    now = "is paused. What it has already put on the queue still runs."
    _set_paused(ctx, name, True, now=now, before="was paused already.")


@schedule.command("continue", cls=CeleryCommand)
@click.argument("name")
@click.pass_context
@handle_preload_options
def continue_(ctx: click.Context, name: str) -> None:
    """Have the schedule NAME, which was paused, fire again. What it has missed is not made up."""
    _set_paused(ctx, name, False, now="is on again.", before="was not paused.")


def _set_paused(ctx: click.Context, name: str, paused: bool, *, now: str, before: str) -> None:
    """Pause the schedule, or have it go on, and say that it is so *now*, or was *before*."""
    from lambda_celery.beat.existing import set_paused

    with told_in_a_sentence():
        is_changed = set_paused(ctx.obj.app, name, paused=paused)
    click.echo(f"The schedule {name} {now if is_changed else before}")


@schedule.command("run", cls=CeleryCommand)
@click.argument("name")
@click.pass_context
@handle_preload_options
def run(ctx: click.Context, name: str) -> None:
    """Publish the task of the entry NAME now, as a new call. Its schedule stays as it is."""
    from lambda_celery.beat.existing import run_now

    with told_in_a_sentence():
        task_id = run_now(ctx.obj.app, name)
    click.echo(f"Published: {name}, with the task id {task_id}.")
