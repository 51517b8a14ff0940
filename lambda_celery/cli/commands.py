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


_batch_size = click.option(
    "--batch-size",
    cls=CeleryOption,
    type=int,
    default=10,
    show_default=True,
    help_group="Event source mapping",
    help="Messages in an event at most.",
)
_batch_window = click.option(
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


@lambda_command.command("local", cls=CeleryCommand)
@_batch_size
@_batch_window
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
    from lambda_celery.beat.sync import Action, apply, plan
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


def _tasks_per_second(rate_limit: str) -> float | None:
    """Read a rate limit as Celery writes it. Its zero is no limit."""
    from celery.utils.time import rate

    try:
        return float(rate(rate_limit)) or None
    except (KeyError, ValueError) as exc:
        raise click.BadParameter(
            f"{rate_limit!r} is no rate limit: write it as 100/s, 10/m or 500/h."
        ) from exc


@lambda_command.command("plan", cls=CeleryCommand)
@click.option(
    "--messages",
    cls=CeleryOption,
    type=click.IntRange(min=1),
    required=True,
    help_group="Burst",
    help="Messages that are on the queue all at once.",
)
@click.option(
    "--duration",
    "duration_seconds",
    cls=CeleryOption,
    type=click.FloatRange(min=0, min_open=True),
    required=True,
    metavar="SECONDS",
    help_group="Burst",
    help="How long one task takes in the function.",
)
@click.option(
    "--bursts-per-day",
    cls=CeleryOption,
    type=click.FloatRange(min=0),
    default=1,
    show_default=True,
    help_group="Burst",
    help="For the cost of a month.",
)
@_batch_size
@_batch_window
@click.option(
    "--maximum-concurrency",
    cls=CeleryOption,
    type=click.IntRange(2, 1000),
    default=None,
    help_group="Event source mapping",
    help="Its MaximumConcurrency.  [default: none is set]",
)
@click.option(
    "-c",
    "--concurrency",
    cls=CeleryOption,
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help_group="Function",
    help="Tasks at the same time in one environment.",
)
@click.option(
    "--memory",
    "memory_mb",
    cls=CeleryOption,
    type=click.IntRange(128, 10240),
    default=512,
    show_default=True,
    metavar="MB",
    help_group="Function",
    help="The function's memory.",
)
@click.option(
    "--timeout",
    "timeout_seconds",
    cls=CeleryOption,
    type=click.IntRange(1, 900),
    default=30,
    show_default=True,
    metavar="SECONDS",
    help_group="Function",
    help="The function's time-out.",
)
@click.option(
    "--cold-start",
    "cold_start_seconds",
    cls=CeleryOption,
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help_group="Function",
    help="How long a new environment takes before its first batch.",
)
@click.option(
    "--architecture",
    cls=CeleryOption,
    type=click.Choice(["x86_64", "arm64"]),
    default="x86_64",
    show_default=True,
    help_group="Function",
    help="The function's architecture, for the price.",
)
@click.option(
    "--rate-limit",
    "tasks_per_second",
    cls=CeleryOption,
    type=_tasks_per_second,
    default=None,
    metavar="RATE",
    help_group="Limits",
    help="What a provider takes, such as 100/s: the task's rate_limit.",
)
@click.option(
    "--database-connections",
    cls=CeleryOption,
    type=click.IntRange(min=1),
    default=None,
    help_group="Limits",
    help="Connections that the database has for the tasks.  [default: enough]",
)
@click.option(
    "--workers",
    cls=CeleryOption,
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help_group="Comparison",
    help="Always-on Celery workers.",
)
@click.option(
    "--worker-processes",
    cls=CeleryOption,
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help_group="Comparison",
    help="Tasks at the same time in each worker.",
)
@click.option(
    "--plot",
    "plot_path",
    cls=CeleryOption,
    type=click.Path(dir_okay=False),
    default=None,
    metavar="FILE.png",
    help_group="Comparison",
    help="Draw both curves into this file; needs matplotlib.",
)
@click.pass_context
@handle_preload_options
def plan(ctx: click.Context, **options: Any) -> None:
    """Simulate a burst: how long it takes on AWS, what it costs, what limits it.

    Nothing is sent and AWS is not asked. The figures on AWS and what is not modelled are in
    docs/planning.md.
    """
    from lambda_celery.local.event_source_mapping import EventSourceMappingConfig
    from lambda_celery.plan.model import Burst, Function, Limits, Workers
    from lambda_celery.plan.plot import plot
    from lambda_celery.plan.report import make_plan, report

    function_options = (
        "batch_size", "batch_window_seconds", "concurrency", "memory_mb", "timeout_seconds",
        "cold_start_seconds", "architecture",
    )  # fmt: skip
    try:
        # What AWS would refuse is not worth a plan.
        EventSourceMappingConfig(options["batch_size"], options["batch_window_seconds"])
        made = make_plan(
            Burst(options["messages"], options["duration_seconds"]),
            Function(**{name: options[name] for name in function_options}),
            Limits(
                maximum_concurrency=options["maximum_concurrency"],
                database_connections=options["database_connections"],
                tasks_per_second=options["tasks_per_second"],
            ),
            Workers(options["workers"], options["worker_processes"]),
        )
        for line in report(made, options["bursts_per_day"]):
            ctx.obj.echo(line)
        if options["plot_path"]:
            plot(made, options["plot_path"])
    except LambdaCeleryError as exc:
        raise click.ClickException(str(exc)) from exc
