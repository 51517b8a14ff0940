"""``celery -A proj lambda local``."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import click
from celery.bin.base import CeleryCommand, CeleryOption, handle_preload_options
from celery.utils.log import ColorFormatter

from lambda_celery.cli.drawing import is_coloured
from lambda_celery.cli.errors import told_in_a_sentence
from lambda_celery.cli.options import batch_size, batch_window

# Everything heavier is imported in the command: `celery --help` loads this module.


def _app_name(ctx: click.Context) -> str:
    """Return what ``-A`` names, as the runtime processes have to load the same app."""
    name = ctx.find_root().params.get("app")
    if isinstance(name, str):
        return name
    raise click.UsageError("Name the Celery app: celery -A proj lambda local")


def _log_to_terminal(line_format: str) -> None:
    # Not Celery's own set-up: it leaves variables in the environment, which the runtime
    # processes would inherit, and Lambda's does not have.
    handler = logging.StreamHandler()
    handler.setFormatter(ColorFormatter(line_format, is_coloured(sys.stderr)))
    logger = logging.getLogger("lambda_celery.local")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


@click.command("local", cls=CeleryCommand)
@batch_size
@batch_window
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
    help="The function's time-out, 900 at most; 5400 on Lambda Managed Instances. A process that "
    "exceeds it is killed.",
)
@click.option(
    "--per-execution-environment-max-concurrency",
    cls=CeleryOption,
    type=click.IntRange(1, 1600),
    default=None,
    metavar="N",
    help_group="Function",
    help="Run as on Lambda Managed Instances: so many processes in an execution environment, each "
    "with one batch at a time.  [default: not on these]",
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
    "--writable",
    cls=CeleryOption,
    type=click.Path(path_type=Path),
    multiple=True,
    help_group="Function",
    help="A file or directory that the function may write, though on Lambda only /tmp can be "
    "written: it stands for a service. May be given several times.",
)
@click.option(
    "--log-format",
    cls=CeleryOption,
    type=click.Choice(["text", "json"]),
    default=None,
    help_group="Function",
    help="The function's log lines: text as a worker's, or JSON as on Lambda.  "
    "[default: text on a terminal]",
)
@click.option(
    "--json",
    "is_json",
    cls=CeleryOption,
    is_flag=True,
    help_group="Function",
    help="The same as --log-format json.",
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
@click.option(
    "--dashboard-port",
    cls=CeleryOption,
    type=click.IntRange(0, 65535),
    default=None,
    help_group="Page",
    help="Where the page of its figures is served, on 127.0.0.1; 0: nowhere.  "
    "[default: the emulator's port + 1]",
)
@click.option(
    "--invoke-port",
    cls=CeleryOption,
    type=click.IntRange(1, 65535),
    default=None,
    help_group="Function",
    help="Where the function is called as by Lambda's Invoke API, on 127.0.0.1.  "
    "[default: the emulator's port + 2 if that is free, else any]",
)
@click.pass_context
@handle_preload_options
def local(ctx: click.Context, log_format: str | None, is_json: bool, **options: Any) -> None:
    """Run the deployed handler here, without AWS.

    Polls the project's SQS queues as Lambda's event source mapping does, and runs the
    handler under AWS's own runtime client. With no endpoint configured (the setting
    lambda_endpoint_url, or AWS_ENDPOINT_URL) it starts an emulator and makes the queues,
    the table and the bucket that the project's settings name. A page shows what goes on.
    boto3's Lambda client calls the function with AWS_ENDPOINT_URL_LAMBDA, which is printed.
    """
    app_name = _app_name(ctx)
    _log_to_terminal(ctx.obj.app.conf.worker_log_format)
    if is_json or log_format is None:
        log_format = "text" if sys.stdout.isatty() and not is_json else "json"
    with told_in_a_sentence():
        from lambda_celery.local.banner import LocalOptions
        from lambda_celery.local.runner import run

        made = LocalOptions(
            app_name=app_name, log_format=log_format, no_color=ctx.obj.no_color, **options
        )
        run(ctx.obj.app, made, echo=ctx.obj.echo)
