"""``celery -A proj lambda status``."""

from __future__ import annotations

import json
import sys

import click
from celery.bin.base import CeleryCommand, CeleryOption, handle_preload_options

from lambda_celery.cli.drawing import console
from lambda_celery.cli.errors import told_in_a_sentence
from lambda_celery.cli.stopping import Stop


@click.command("status", cls=CeleryCommand)
@click.option(
    "--once",
    "is_once",
    cls=CeleryOption,
    is_flag=True,
    help="Print one screen, and end. So it is where the output is no terminal.",
)
@click.option(
    "--json",
    "is_json",
    cls=CeleryOption,
    is_flag=True,
    help="Print one JSON object, and end.",
)
@click.option(
    "--interval",
    "interval_seconds",
    cls=CeleryOption,
    type=click.FloatRange(min=1),
    default=5,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait between two looks.",
)
@click.pass_context
@handle_preload_options
def status(ctx: click.Context, is_once: bool, is_json: bool, interval_seconds: float) -> None:
    """Show what queues and functions do just now, until Ctrl-C.

    Reads SQS, Lambda and CloudWatch, and changes nothing. What cannot be read is left out in a
    sentence. docs/operations/status.md says what each figure means.
    """
    with told_in_a_sentence():
        from rich.live import Live

        from lambda_celery.exceptions import LambdaCeleryError
        from lambda_celery.status.screen import screen
        from lambda_celery.status.source import source_of

        source = source_of(ctx.obj.app, has_durations=is_json)
        found = source.status()
        if found.is_blind:
            raise LambdaCeleryError(" ".join(found.left_out))
        if is_json:
            click.echo(json.dumps(found.as_json(), indent=2))
            return
        if is_once or not sys.stdout.isatty():
            console(sys.stdout, has_markup=False).print(screen(found))
            return
        terminal = console(sys.stdout, has_markup=False)
        live = Live(screen(found), console=terminal, screen=True, auto_refresh=False)
        with Stop() as stop, live:
            while not stop.within(interval_seconds):
                live.update(screen(source.status()), refresh=True)
