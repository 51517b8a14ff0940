"""Sub-commands of ``celery``: ``celery -A proj lambda …``."""

from __future__ import annotations

import logging
from typing import Any

import click
from celery.bin.base import CeleryCommand, CeleryOption, handle_preload_options

from lambda_celery.exceptions import LambdaCeleryError

# Everything heavier is imported in the commands: `celery --help` loads this module.


@click.group("lambda")
def lambda_command() -> None:
    """Run this app's tasks on AWS Lambda."""


def _app_name(ctx: click.Context) -> str:
    """Return what ``-A`` names, as the runtime processes have to load the same app."""
    name = ctx.find_root().params.get("app")
    if isinstance(name, str):
        return name
    raise click.UsageError("Name the Celery app: celery -A proj lambda local")


def _log_to_terminal(log_format: str) -> None:
    # Not Celery's own set-up: it leaves variables in the environment, which the runtime
    # processes would inherit, and Lambda's does not have.
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(log_format))
    logger = logging.getLogger("lambda_celery.local")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


@lambda_command.command("local", cls=CeleryCommand)
@click.option(
    "--batch-size",
    cls=CeleryOption,
    type=int,
    default=10,
    show_default=True,
    help_group="Event source mapping",
    help="Messages in an event at most.",
)
@click.option(
    "--batch-window",
    "batch_window_seconds",
    cls=CeleryOption,
    type=int,
    default=0,
    show_default=True,
    metavar="SECONDS",
    help_group="Event source mapping",
    help="How long to gather a batch. More than 10 messages need 1 or more.",
)
@click.option(
    "-c",
    "--concurrency",
    cls=CeleryOption,
    type=int,
    default=4,
    show_default=True,
    help_group="Event source mapping",
    help="Batches in flight at most; each runs in a process of its own.",
)
@click.option(
    "--timeout",
    "timeout_seconds",
    cls=CeleryOption,
    type=int,
    default=30,
    show_default=True,
    metavar="SECONDS",
    help_group="Function",
    help="The function's time-out. A process that exceeds it is killed.",
)
@click.option(
    "--handler",
    cls=CeleryOption,
    default="lambda_runtime.handler",
    show_default=True,
    help_group="Function",
    help="The function's handler, as it is deployed.",
)
@click.option(
    "--reload/--no-reload",
    cls=CeleryOption,
    default=False,
    show_default=True,
    help_group="Function",
    help="Start new processes when Python code below the working directory changes.",
)
@click.option(
    "--max-receive-count",
    cls=CeleryOption,
    type=click.IntRange(1, 1000),
    default=None,
    help_group="Emulator",
    help="Receives before a message goes to the dead-letter queue.  "
    "[default: the setting lambda_max_receive_count, else 5]",
)
@click.option(
    "--port",
    cls=CeleryOption,
    type=click.IntRange(1, 65535),
    default=4566,
    show_default=True,
    help_group="Emulator",
    help="Where the emulator listens, on 127.0.0.1.",
)
@click.pass_context
@handle_preload_options
def local(ctx: click.Context, **options: Any) -> None:
    """Run the deployed handler here, without AWS.

    Polls the project's SQS queues as Lambda's event source mapping does, and runs the
    handler under AWS's own runtime client. With no endpoint configured (the setting
    lambda_endpoint_url, or AWS_ENDPOINT_URL) it starts an emulator and makes the queues,
    the table and the bucket that the project's settings name.
    """
    app_name = _app_name(ctx)
    from lambda_celery.local.banner import LocalOptions
    from lambda_celery.local.runner import run

    _log_to_terminal(ctx.obj.app.conf.worker_log_format)
    try:
        run(ctx.obj.app, LocalOptions(app_name=app_name, **options), echo=ctx.obj.echo)
    except LambdaCeleryError as exc:
        raise click.ClickException(str(exc)) from exc


@lambda_command.group("schedule")
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
    from lambda_celery.beat import Action, apply, plan
    from lambda_celery.conf import settings_of

    try:
        steps = plan(app)
        for step in steps:
            click.echo(step)
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
    except LambdaCeleryError as exc:
        raise click.ClickException(str(exc)) from exc
