"""``celery -A proj lambda schedule …``."""

from __future__ import annotations

import sys

import click
from celery.bin.base import CeleryCommand, CeleryOption, handle_preload_options

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
