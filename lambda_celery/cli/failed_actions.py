"""``celery -A proj lambda failed bulk …``: what the function itself does with many failed tasks."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
from celery.bin.base import CeleryCommand, CeleryOption, handle_preload_options

from lambda_celery.cli.errors import told_in_a_sentence

if TYPE_CHECKING:
    from celery import Celery

    from lambda_celery.failures import BulkAction, BulkActions, Selection

#: Between two looks at an action that is waited for.
_LOOK_SECONDS = 1.0
#: A slice tells of itself each second. Before it, its message may wait behind others.
_QUIET_SECONDS = 300

_json = click.option(
    "--json",
    "is_json",
    cls=CeleryOption,
    help_group="Output",
    is_flag=True,
    help="One JSON object for each, in a line.",
)
_name = click.argument("name", metavar="NAME")


@click.group("bulk")
def bulk() -> None:
    """Bulk actions, which the function works off: look at them, abort and resume them.

    They begin with: failed retry, send-again or discard, and --in-background NAME.
    """


@bulk.command("list", cls=CeleryCommand)
@_json
@click.pass_context
@handle_preload_options
def list_(ctx: click.Context, is_json: bool) -> None:
    """List those of the last 30 days, the newest first."""
    with told_in_a_sentence():
        found = _actions(ctx.obj.app).all()
        if is_json:
            for each in found:
                click.echo(json.dumps(_document(each)))
        elif not found:
            click.echo("There is no bulk action.")
        else:
            from lambda_celery.cli.failed_output import print_actions

            print_actions(found)


@bulk.command("show", cls=CeleryCommand)
@_name
@click.option(
    "--wait",
    "is_awaited",
    cls=CeleryOption,
    help_group="Output",
    is_flag=True,
    help="Until it has ended. Ctrl-C ends the waiting alone.",
)
@_json
@click.pass_context
@handle_preload_options
def show(ctx: click.Context, name: str, is_awaited: bool, is_json: bool) -> None:
    """Show how far one is.

    With --wait, the command fails if it was not done with each.
    """
    with told_in_a_sentence():
        actions = _actions(ctx.obj.app)
        action = actions.get(name)
        if is_awaited:
            action = _awaited(actions, action)
        _tell(action, is_json)
    if is_awaited and (action.state != "done" or action.refused):
        ctx.exit(1)


@bulk.command("abort", cls=CeleryCommand)
@_name
@_json
@click.pass_context
@handle_preload_options
def abort(ctx: click.Context, name: str, is_json: bool) -> None:
    """End one. What it has done by then stays done, and up to a second of it goes on."""
    with told_in_a_sentence():
        _tell(_actions(ctx.obj.app).abort(name), is_json)


@bulk.command("resume", cls=CeleryCommand)
@_name
@_json
@click.pass_context
@handle_preload_options
def resume(ctx: click.Context, name: str, is_json: bool) -> None:
    """Have one go on where it is, whatever has ended it."""
    with told_in_a_sentence():
        _tell(_actions(ctx.obj.app).resume(name), is_json)


def begin(
    app: Any,
    verb: str,
    told: str,
    selection: Selection,
    *,
    name: str,
    per_second: float,
    to_queue: str | None,
    on_queue: str | None,
    is_sure: bool,
    is_dry: bool,
) -> None:
    """Begin the bulk action *name*, after a question.

    :param told: the word for what is done, when it is.
    """
    from lambda_celery.cli.failed_output import print_counts

    actions = _actions(app)
    counted = actions.count(selection)
    if not counted.total:
        click.echo("No failed task matches.")
        return
    if is_dry or not is_sure:
        print_counts(counted.counts)
    if is_dry:
        click.echo("Nothing was changed.")
        return
    if not is_sure:
        what = "1 failed task is" if counted.total == 1 else f"{counted.total} failed tasks are"
        click.confirm(
            f"{what} to be {told.lower()} by the function, up to {per_second:g} a second. Go on?",
            abort=True,
        )
    action = actions.begin(
        name,
        verb,
        selection,
        per_second=per_second,
        to_queue=to_queue,
        on_queue=on_queue,
        begun_by=_user(),
        counted=counted,
    )
    click.echo(
        f"The bulk action {name} has begun, on the queue {action.on_queue}. See how far it is "
        f"with: failed bulk show {name} --wait"
    )


def _actions(app: Celery) -> BulkActions:
    from lambda_celery import install
    from lambda_celery.failures import BulkActions

    # The decorator does so in each task module, but a command imports none of them.
    install(app)
    return BulkActions(app)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an id without a name, in a container
        return ""


def _awaited(actions: BulkActions, action: BulkAction) -> BulkAction:
    """Return *action* when it has ended."""
    from lambda_celery.cli.stopping import Stop

    told = ""
    with Stop() as stop, _progress(action) as advance:
        while action.is_running:
            advance(action.done + action.refused)
            if not told and (told := _told_if_quiet(action)):
                click.echo(told, err=True)
            if stop.within(_LOOK_SECONDS):
                click.echo(f"The bulk action {action.name} goes on.", err=True)
                raise click.exceptions.Exit(130)
            action = actions.get(action.name)
        advance(action.done + action.refused)
    return action


@contextmanager
def _progress(action: BulkAction) -> Iterator[Callable[[int], None]]:
    """Yield what shows how many are worked off, to a person."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        job = bar.add_task(action.name, total=action.counted)
        yield lambda number: bar.update(job, completed=number)


def _tell(action: BulkAction, is_json: bool) -> None:
    if is_json:
        click.echo(json.dumps(_document(action)))
        return
    from lambda_celery.cli.failed_output import print_action

    print_action(action)
    if action.is_running and (told := _told_if_quiet(action)):
        click.echo(told)


def _told_if_quiet(action: BulkAction) -> str:
    """Return what to do where nothing has been heard of the running *action* for long, or ""."""
    from lambda_celery.cli.failed_output import age

    seen = action.worked_at or action.begun_at
    quiet_seconds = (datetime.now(UTC) - seen).total_seconds()
    if quiet_seconds <= _QUIET_SECONDS + 1 / action.per_second:
        return ""
    return (
        f"Nothing was heard of it for {age(seen)}: its message may wait behind others, or be among "
        f"the failed tasks. Then it goes on with: failed bulk resume {action.name}"
    )


def _document(action: BulkAction) -> dict[str, Any]:
    chosen = action.selection
    ages = {
        name: value.total_seconds() if value is not None else None
        for name, value in (
            ("older_than_seconds", chosen.older_than),
            ("newer_than_seconds", chosen.newer_than),
        )
    }
    return {
        "name": action.name,
        "verb": action.verb,
        "state": action.state,
        "counted": action.counted,
        "done": action.done,
        "refused": action.refused,
        "left": action.left,
        "sentence": action.sentence,
        "task": chosen.task,
        "exception": chosen.exception,
        "queue": chosen.queue,
        **ages,
        "until": action.until.isoformat(),
        "per_second": action.per_second,
        "to_queue": action.to_queue,
        "on_queue": action.on_queue,
        "begun_by": action.begun_by,
        "begun_at": action.begun_at.isoformat(),
        "worked_at": action.worked_at.isoformat() if action.worked_at is not None else None,
    }
