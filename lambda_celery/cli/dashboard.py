"""``celery -A proj lambda dashboard``."""

from __future__ import annotations

import click
from celery.bin.base import CeleryCommand, CeleryOption, handle_preload_options

from lambda_celery.cli.errors import told_in_a_sentence
from lambda_celery.cli.stopping import Stop


@click.command("dashboard", cls=CeleryCommand)
@click.option(
    "--port",
    cls=CeleryOption,
    type=click.IntRange(0, 65535),
    default=4567,
    show_default=True,
    help="Where it listens, on 127.0.0.1; 0 for any port that is free.",
)
@click.option(
    "--allow-retry",
    cls=CeleryOption,
    is_flag=True,
    help="Let whoever opens the page send failed tasks back, and discard them.",
)
@click.pass_context
@handle_preload_options
def dashboard(ctx: click.Context, port: int, allow_retry: bool) -> None:
    """Serve a page with charts, queues and failed tasks, until Ctrl-C.

    Only this machine reaches it. It reads what `status` and `failed` read, and changes nothing
    without --allow-retry.
    """
    with told_in_a_sentence():
        from lambda_celery.dashboard.server import serving
        from lambda_celery.status.source import source_of

        app = ctx.obj.app
        site = serving(app, source_of(app), port=port, allow_retry=allow_retry)
        with Stop() as stop, site as url:
            click.echo(f"The page is at {url} - Ctrl-C ends it.")
            stop.wait()
