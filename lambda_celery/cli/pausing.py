"""``celery -A proj lambda pause`` and ``celery -A proj lambda continue``."""

from __future__ import annotations

from typing import Any

import click
from celery.bin.base import CeleryCommand, CeleryOption, handle_preload_options

from lambda_celery.cli.errors import told_in_a_sentence

_queues = click.argument("queues", nargs=-1, metavar="QUEUE...")
_all = click.option(
    "--all", "is_for_all", cls=CeleryOption, is_flag=True, help="All queues of the settings."
)


@click.command("pause", cls=CeleryCommand)
@_queues
@_all
@click.pass_context
@handle_preload_options
def pause(ctx: click.Context, queues: tuple[str, ...], is_for_all: bool) -> None:
    """Have the function take no more messages from QUEUE, until it is continued.

    Switches the queue's event source mappings off, and waits until they are. Messages wait.
    """
    _switch(ctx.obj.app, queues, is_for_all=is_for_all, on=False)


@click.command("continue", cls=CeleryCommand)
@_queues
@_all
@click.pass_context
@handle_preload_options
def continue_(ctx: click.Context, queues: tuple[str, ...], is_for_all: bool) -> None:
    """Have the function take messages from QUEUE again.

    Switches the queue's event source mappings on, and waits until they are.
    """
    _switch(ctx.obj.app, queues, is_for_all=is_for_all, on=True)


def _switch(app: Any, queues: tuple[str, ...], *, is_for_all: bool, on: bool) -> None:
    if bool(queues) == is_for_all:
        raise click.UsageError("Name a queue, or several, or give --all.")
    from lambda_celery.pausing import switch

    with told_in_a_sentence():
        for sentence in switch(app, queues, on=on):
            click.echo(sentence)
