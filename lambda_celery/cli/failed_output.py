"""Failed tasks as a person, or a program, reads them."""

from __future__ import annotations

import base64
import dataclasses
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from lambda_celery.cli.drawing import console
from lambda_celery.failures import BulkAction, Failure, LostRun
from lambda_celery.terminal import printable

if TYPE_CHECKING:
    from rich.console import Console

#: Rows that are gathered before they are shown: the widths of the columns are theirs.
_PAGE_ROWS = 500
#: A row is longer than a line of other commands.
_WIDTH_OF_A_FILE = 240
_SHOWN_ONE_BY_ONE = {"traceback", "body", "attributes"}


def document(failure: Failure | LostRun) -> dict[str, Any]:
    """Return what is known of *failure*, as JSON has it."""
    return {
        name: _plain(value) for name, value in dataclasses.asdict(failure).items() if value != ""
    }


def print_list(failures: Iterator[Failure]) -> None:
    """Print a row for each, page by page."""
    drawn, is_first = _console(), True
    while rows := list(islice(failures, _PAGE_ROWS)):
        table = _table(show_header=is_first)
        table.add_column("age", justify="right")
        table.add_column("task")
        table.add_column("id", no_wrap=True)
        table.add_column("exception")
        table.add_column("queue")
        table.add_column("attempts", justify="right")
        for each in rows:
            mark = " (sent back)" if each.retried_at is not None else ""
            table.add_row(
                age(each.failed_at),
                printable(each.task) or "-",
                printable(each.task_id) or each.id,
                printable(each.exception or each.reason) + mark,
                each.queue.rpartition(":")[2],
                str(each.attempts),
            )
        drawn.print(table)
        is_first = False
    if is_first:
        click.echo("No failed task matches.")


def print_lost(runs: list[LostRun]) -> None:
    """Print a table with a row for each, and what will become of them."""
    if not runs:
        click.echo("No lost run matches.")
        return
    table = _table("lock ended", "task", "key", "message", show_header=True)
    table.add_column("attempts", justify="right")
    for each in runs:
        digest = each.id.rpartition("#")[2]
        table.add_row(
            f"{age(each.lock_ended_at)} ago",
            printable(each.task),
            digest,
            each.message_id,
            str(each.attempts),
        )
    _console().print(table)
    click.echo(
        "\nThey run again by themselves as long as their messages live. A message is on its queue, "
        "and comes back when its visibility timeout ends; or it is on the dead-letter queue, where "
        "failed sync finds it, and failed retry or failed send-again sends it from."
    )


def print_counts(counts: Counter[tuple[str, str, str]]) -> None:
    """Print how many there are of each task, exception and queue, the most first."""
    if not counts:
        click.echo("No failed task matches.")
        return
    table = _table("task", "exception", "queue", show_header=True)
    table.add_column("failed", justify="right")
    for (task, exception, queue), number in counts.most_common():
        table.add_row(
            printable(task) or "-", printable(exception), queue.rpartition(":")[2], str(number)
        )
    _console().print(table)
    click.echo(f"\n{counts.total()} in all.")


def print_actions(actions: list[BulkAction]) -> None:
    """Print a row for each bulk action."""
    table = _table("name", "action", "state", show_header=True)
    for column in ("failed", "done", "refused", "begun"):
        table.add_column(column, justify="right")
    for each in actions:
        table.add_row(
            each.name,
            each.verb.replace("_", "-"),
            each.state,
            str(each.counted),
            str(each.done),
            str(each.refused),
            f"{age(each.begun_at)} ago",
        )
    _console().print(table)


def print_action(action: BulkAction) -> None:
    """Print what a bulk action is, and how far, in lines."""
    chosen = action.selection
    lines = {
        "name": action.name,
        "action": f"{action.verb.replace('_', '-')}, up to {action.per_second:g} a second",
        "state": action.state,
        "task": chosen.task,
        "exception": chosen.exception,
        "queue": chosen.queue,
        "older than": chosen.older_than,
        "newer than": chosen.newer_than,
        "to queue": action.to_queue,
        "worked off on": action.on_queue,
        "begun": f"{age(action.begun_at)} ago {action.begun_by and 'by '}{action.begun_by}".strip(),
        "failed": action.counted,
        "done": action.done,
        "refused": action.refused or None,
        "dead letters left": action.left or None,
        "why": action.sentence,
    }
    for name, value in lines.items():
        if value not in (None, ""):
            click.echo(f"{name + ':':20}{printable(str(value))}")


def print_one(failure: Failure) -> None:
    """Print all that is known of *failure*, in lines."""
    for name, value in document(failure).items():
        if name not in _SHOWN_ONE_BY_ONE and value is not None:
            click.echo(f"{name.replace('_', ' ') + ':':20}{printable(str(value))}")
    if failure.body is None:
        click.echo("The message is too large to be kept here: it is on the dead-letter queue.")
    if failure.traceback:
        click.echo(f"\n{printable(failure.traceback.rstrip())}")
    click.echo("")


def age(moment: datetime) -> str:
    """Return how long ago *moment* was, in its largest unit."""
    seconds = max(0, int((datetime.now(UTC) - moment).total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return value


def _table(*columns: str, show_header: bool) -> Any:
    from rich.table import Table

    return Table(*columns, show_header=show_header, box=None, pad_edge=False)


def _console() -> Console:
    return console(sys.stdout, width_of_a_file=_WIDTH_OF_A_FILE, has_markup=False)
