"""Options that several commands have."""

from __future__ import annotations

import click
from celery.bin.base import CeleryOption

batch_size = click.option(
    "--batch-size",
    cls=CeleryOption,
    type=int,
    default=10,
    show_default=True,
    help_group="Event source mapping",
    help="Messages in an event at most.",
)
batch_window = click.option(
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
