"""``celery -A proj lambda plan``."""

from __future__ import annotations

from typing import Any

import click
from celery.bin.base import CeleryCommand, CeleryOption, handle_preload_options

from lambda_celery.cli.errors import told_in_a_sentence
from lambda_celery.cli.options import batch_size, batch_window


def _tasks_per_second(rate_limit: str) -> float | None:
    """Read a rate limit as Celery writes it. Its zero is no limit."""
    from celery.utils.time import rate

    try:
        return float(rate(rate_limit)) or None
    except (KeyError, ValueError) as exc:
        raise click.BadParameter(
            f"{rate_limit!r} is no rate limit: write it as 100/s, 10/m or 500/h."
        ) from exc


@click.command("plan", cls=CeleryCommand)
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
    "--cpu",
    "cpu_seconds",
    cls=CeleryOption,
    type=click.FloatRange(min=0),
    default=0,
    show_default=True,
    metavar="SECONDS",
    help_group="Burst",
    help="What the task's own code takes of a whole vCPU.",
)
@click.option(
    "--message-size",
    "message_bytes",
    cls=CeleryOption,
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    metavar="BYTES",
    help_group="Burst",
    help="How large a message is, for the pollers.",
)
@click.option(
    "--scheduled",
    "is_scheduled",
    cls=CeleryOption,
    is_flag=True,
    help_group="Burst",
    help="All messages have one ETA, and EventBridge Scheduler puts them on the queue.",
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
@batch_size
@batch_window
@click.option(
    "--maximum-concurrency",
    cls=CeleryOption,
    type=click.IntRange(2, 1000),
    default=None,
    help_group="Event source mapping",
    help="Its MaximumConcurrency.  [default: none is set]",
)
@click.option(
    "--minimum-pollers",
    "minimum",
    cls=CeleryOption,
    type=click.IntRange(2, 200),
    default=None,
    help_group="Event source mapping",
    help="Of its provisioned mode.  [default: 2, if there is a maximum]",
)
@click.option(
    "--maximum-pollers",
    "maximum",
    cls=CeleryOption,
    type=click.IntRange(2, 10_000),
    default=None,
    help_group="Event source mapping",
    help="Of its provisioned mode.  [default: 200, if there is a minimum]",
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
    "--table-writes",
    "table_writes_per_second",
    cls=CeleryOption,
    type=click.FloatRange(min=1),
    default=None,
    metavar="RATE",
    help_group="Limits",
    help="Writes a second that the idempotency table takes.  [default: those of a new table]",
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
    from lambda_celery.plan.limits import Limits, Pollers
    from lambda_celery.plan.model import Burst, Function, Workers
    from lambda_celery.plan.plot import plot
    from lambda_celery.plan.report import make_plan, report

    burst_options = (
        "messages", "duration_seconds", "cpu_seconds", "message_bytes", "is_scheduled",
    )  # fmt: skip
    function_options = (
        "batch_size", "batch_window_seconds", "concurrency", "memory_mb", "timeout_seconds",
        "cold_start_seconds", "architecture",
    )  # fmt: skip
    limit_options = (
        "maximum_concurrency", "database_connections", "tasks_per_second",
        "table_writes_per_second",
    )  # fmt: skip

    def given(*names: str) -> dict[str, Any]:
        return {name: options[name] for name in names if options[name] is not None}

    with told_in_a_sentence():
        # What AWS would refuse is not worth a plan.
        EventSourceMappingConfig(options["batch_size"], options["batch_window_seconds"])
        pollers = given("minimum", "maximum")
        made = make_plan(
            Burst(**given(*burst_options)),
            Function(**given(*function_options)),
            Limits(
                pollers=Pollers(**pollers) if pollers else None,
                **given(*limit_options),
            ),
            Workers(options["workers"], options["worker_processes"]),
        )
        for line in report(made, options["bursts_per_day"]):
            ctx.obj.echo(line)
        if options["plot_path"]:
            plot(made, options["plot_path"])
