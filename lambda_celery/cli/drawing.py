"""Where the commands draw with rich."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

import click

from lambda_celery import terminal

if TYPE_CHECKING:
    from rich.console import Console

#: A file has no width: whole lines are of more use there than short ones.
_WIDTH_OF_A_FILE = 160


def is_coloured(stream: TextIO) -> bool:
    """Whether to write to *stream* in colours: not where the command was told --no-color."""
    context = click.get_current_context(silent=True)
    return terminal.is_coloured(stream) and not (context and context.obj.no_color)


def console(
    stream: TextIO, *, width_of_a_file: int = _WIDTH_OF_A_FILE, has_markup: bool = True
) -> Console:
    """Return rich's console on *stream*: of a terminal's width and in its colours, or in none.

    :param has_markup: whether rich's markup and emoji codes in a text mean something. They must
        not where a sender has written it.
    """
    from rich.console import Console

    return Console(
        file=stream,
        highlight=False,
        markup=has_markup,
        emoji=has_markup,
        color_system="auto" if is_coloured(stream) else None,
        width=None if stream.isatty() else width_of_a_file,
    )
