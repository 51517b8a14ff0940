"""``celery -A proj lambda failed …``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, TypeVar

import click
from celery.bin.base import CeleryCommand, CeleryOption, handle_preload_options

from lambda_celery.cli.errors import told_in_a_sentence
from lambda_celery.cli.failed_actions import begin, bulk
from lambda_celery.exceptions import FailedTaskError

_Command = TypeVar("_Command", bound=Callable[..., Any])

#: How long --wait waits at most, if nothing else is said.
_WAIT_SECONDS = 60
_CHOSEN = "Which failures"
_DONE = "What is done"


@click.group("failed")
def failed() -> None:
    """Tasks that have failed for good: list them, look at one, send them back."""


failed.add_command(bulk)


def _option(*names: str, group: str = _CHOSEN, **options: Any) -> Callable[[_Command], _Command]:
    return click.option(*names, cls=CeleryOption, help_group=group, **options)


def _choosing(command: _Command) -> _Command:
    """Give *command* the options by which failures are chosen."""
    for add in reversed(
        (
            click.argument("ids", nargs=-1, metavar="[ID]..."),
            _option("--task", metavar="GLOB", help="The task's name, such as 'shop.*'."),
            _option("--exception", metavar="GLOB", help="The exception's type, else the reason."),
            _option("--queue", metavar="GLOB", help="The SQS queue's name, or its ARN."),
            _option("--older-than", metavar="AGE", help="Such as 30m, 2h or 3d."),
            _option("--newer-than", metavar="AGE", help="The same."),
            _option("--limit", type=click.IntRange(min=1), help="No more than so many."),
        )
    ):
        command = add(command)
    return command


def _sending(command: _Command) -> _Command:
    """Give *command* the options of what is published."""
    for add in reversed(
        (
            _option("--to-queue", "to_queue", group=_DONE, metavar="NAME_OR_URL",
                    help="Another queue: one of the app's, or the URL of one of SQS."),
            _option("--edit", "is_edited", group=_DONE, is_flag=True,
                    help="Open the arguments of a single one in an editor first."),
            _option("--wait", "is_awaited", group=_DONE, is_flag=True,
                    help="With IDs: say what has become of each."),
            _option("--timeout", "timeout_seconds", group=_DONE, type=click.FloatRange(min=0),
                    default=_WAIT_SECONDS, show_default=True, metavar="SECONDS",
                    help="How long to wait at most."),
        )
    ):  # fmt: skip
        command = add(command)
    return command


def _in_bulk(command: _Command) -> _Command:
    """Give *command* the options of what is done with many."""
    for add in reversed(
        (
            _option("--dry-run", "is_dry", group=_DONE, is_flag=True,
                    help="Show what it would be done with, and end."),
            _option("--yes", "is_sure", group=_DONE, is_flag=True, help="Do not ask."),
            _option("--rate", "per_second", group=_DONE, type=click.FloatRange(0, min_open=True),
                    default=50, show_default=True, help="Messages a second at most."),
            _option("--in-background", "background_name", group=_DONE, metavar="NAME",
                    help="Have the function do it, as a bulk action of that name."),
            _option("--on-queue", group=_DONE, metavar="NAME",
                    help="With --in-background: the Celery queue whose function does it."),
        )
    ):  # fmt: skip
        command = add(command)
    return command


_json = _option(
    "--json", "is_json", group="Output", is_flag=True, help="One JSON object for each, in a line."
)


@failed.command("list", cls=CeleryCommand)
@_choosing
@_option("--all", "with_retried", is_flag=True, help="What was sent back and has not ended, too.")
@_option(
    "--lost",
    "is_lost",
    is_flag=True,
    help="Instead, runs whose process was killed. This scans the table.",
)
@_option(
    "--starting-token", metavar="TOKEN", help="With --lost: go on from where the command ended."
)
@_json
@click.pass_context
@handle_preload_options
def list_(
    ctx: click.Context, is_lost: bool, starting_token: str | None, is_json: bool, **chosen: Any
) -> None:
    """List what has failed, the newest first."""
    if is_lost:
        _list_lost(ctx.obj.app, starting_token, is_json, **chosen)
        return
    if starting_token is not None:
        raise click.UsageError("--starting-token goes with --lost.")
    with told_in_a_sentence(), _opened(ctx) as tasks:
        found = _chosen(tasks, **chosen)
        if is_json:
            _print_lines(found)
        else:
            from lambda_celery.cli.failed_output import print_list

            print_list(found)


@failed.command("show", cls=CeleryCommand)
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@_json
@click.pass_context
@handle_preload_options
def show(ctx: click.Context, ids: tuple[str, ...], is_json: bool) -> None:
    """Show all that is known of a failure: its traceback, its arguments, where it came from."""
    with told_in_a_sentence(), _opened(ctx) as tasks:
        from lambda_celery.cli.failed_output import print_one

        whole = (tasks.get(each.id) for each in _chosen(tasks, ids=ids))
        if is_json:
            _print_lines(whole)
            return
        for each in whole:
            print_one(each)


@failed.command("count", cls=CeleryCommand)
@_choosing
@_json
@click.pass_context
@handle_preload_options
def count(ctx: click.Context, is_json: bool, **chosen: Any) -> None:
    """Count what has failed by task, exception and queue."""
    with told_in_a_sentence(), _opened(ctx) as tasks:
        if any(chosen.values()):
            counts = _counted(_chosen(tasks, **chosen))
        else:
            counts = tasks.records.count()
        if not is_json:
            from lambda_celery.cli.failed_output import print_counts

            print_counts(counts)
            return
        for (task, exception, queue), number in counts.most_common():
            about = {"task": task, "exception": exception, "queue": queue, "count": number}
            click.echo(json.dumps(about))


@failed.command("export", cls=CeleryCommand)
@_choosing
@click.option(
    "-o",
    "--output",
    cls=CeleryOption,
    type=click.File("w", encoding="utf-8", lazy=True, atomic=True),
    default="-",
    metavar="FILE",
    help_group="Output",
    help="Where to.  [default: standard output]",
)
@click.pass_context
@handle_preload_options
def export(ctx: click.Context, output: Any, **chosen: Any) -> None:
    """Write all that is known of each failure, its message included, as a JSON object in a line."""
    with told_in_a_sentence(), _opened(ctx) as tasks:
        written = _print_lines(
            map(tasks.get, (each.id for each in _chosen(tasks, **chosen))), output
        )
    click.echo(f"Failed tasks written: {written}.", err=True)


@failed.command("retry", cls=CeleryCommand)
@_choosing
@_sending
@_in_bulk
@click.pass_context
@handle_preload_options
def retry(ctx: click.Context, **options: Any) -> None:
    """Send failed tasks back to their queue, under their ids. Each runs once.

    Without an ID, all that the options choose are sent back, after a question.
    """
    _send(ctx, "retry", "Sent back", **options)


@failed.command("send-again", cls=CeleryCommand)
@_choosing
@_sending
@_in_bulk
@click.pass_context
@handle_preload_options
def send_again(ctx: click.Context, **options: Any) -> None:
    """Send what failed as new calls, with new ids: whoever waits for the old ids waits on."""
    _send(ctx, "send_again", "Sent again", **options)


@failed.command("discard", cls=CeleryCommand)
@_choosing
@_in_bulk
@click.pass_context
@handle_preload_options
def discard(
    ctx: click.Context,
    is_dry: bool,
    is_sure: bool,
    per_second: float,
    background_name: str | None,
    on_queue: str | None,
    **chosen: Any,
) -> None:
    """Delete the dead letters of failed tasks, and forget them."""
    if _is_in_background(background_name, on_queue):
        _begin(ctx, "discard", "Discarded", name=background_name, on_queue=on_queue,
               is_dry=is_dry, is_sure=is_sure, per_second=per_second, **chosen)  # fmt: skip
        return
    with told_in_a_sentence(), _opened(ctx) as tasks:
        from lambda_celery.cli.failed_bulk import Bulk

        bulk = Bulk("Discarded", per_second, is_sure or bool(chosen["ids"]), is_dry)
        bulk.work_off(lambda: _chosen(tasks, newest_first=False, **chosen), tasks.discard)


@failed.command("sync", cls=CeleryCommand)
@click.pass_context
@handle_preload_options
def sync(ctx: click.Context) -> None:
    """Look through the dead-letter queues for messages that nothing is known of.

    Those are what SQS itself has moved there, because the process died or the function did not
    start.
    """
    with told_in_a_sentence():
        from lambda_celery.cli.failed_runs import has_run, publication_key
        from lambda_celery.failures.sync import sync as run

        app = ctx.obj.app
        for each in run(app, lambda body: has_run(app, publication_key(app, body))):
            click.echo(each)


def _list_lost(
    app: Any,
    starting_token: str | None,
    is_json: bool,
    *,
    task: str | None,
    older_than: str | None,
    newer_than: str | None,
    limit: int | None,
    **other: Any,
) -> None:
    if any(other.values()):
        raise click.UsageError(
            "Of a lost run the table knows the task and the time alone: --lost goes with --task, "
            "--older-than, --newer-than and --limit."
        )
    with told_in_a_sentence():
        from lambda_celery.cli.failed_output import document, print_lost
        from lambda_celery.failures.lost import scan_lost
        from lambda_celery.failures.selection import parse_age

        found = scan_lost(
            app,
            task=task,
            older_than=parse_age(older_than) if older_than else None,
            newer_than=parse_age(newer_than) if newer_than else None,
            limit=limit,
            starting_token=starting_token,
        )
        if is_json:
            for each in found.runs:
                click.echo(json.dumps(document(each)))
        else:
            print_lost(found.runs)
    click.echo(f"The scan has cost {found.read_units:g} read units.", err=True)
    if found.next_token is not None:
        click.echo(
            "The table is not at its end. The same command goes on with: "
            f"--starting-token {found.next_token}",
            err=True,
        )


def _send(
    ctx: click.Context,
    verb: str,
    told: str,
    *,
    to_queue: str | None,
    is_edited: bool,
    is_awaited: bool,
    timeout_seconds: float,
    is_dry: bool,
    is_sure: bool,
    per_second: float,
    background_name: str | None,
    on_queue: str | None,
    **chosen: Any,
) -> None:
    """Do *verb*, a method of FailedTasks, with what is *chosen*."""
    if _is_in_background(background_name, on_queue):
        if is_edited or is_awaited:
            raise click.UsageError(
                "--in-background goes with neither --edit nor --wait: how far it is tells failed "
                "bulk show NAME --wait."
            )
        _begin(ctx, verb, told, name=background_name, on_queue=on_queue, to_queue=to_queue,
               is_dry=is_dry, is_sure=is_sure, per_second=per_second, **chosen)  # fmt: skip
        return
    if is_awaited and not chosen["ids"]:
        raise click.UsageError("--wait goes with IDs: name those that are to be waited for.")
    with told_in_a_sentence(), _opened(ctx) as tasks:
        from lambda_celery.cli.failed_bulk import Bulk

        if is_edited or is_awaited:
            # Signature and idempotency key are the task's own.
            from lambda_celery.celery_hooks.apps import import_tasks

            import_tasks(ctx.obj.app)
        changed: dict[str, Any] = {"queue": to_queue}
        if is_edited:
            changed |= _edited(tasks, list(islice(_chosen(tasks, **chosen), 2)))
        bulk = Bulk(told, per_second, is_sure or bool(chosen["ids"]), is_dry)
        every = bulk.work_off(
            # As they were called; and about as their queue hands them out.
            lambda: _chosen(tasks, newest_first=False, **chosen),
            lambda failure: getattr(tasks, verb)(failure, **changed),
        )
    if is_awaited:
        from lambda_celery.cli.failed_wait import wait_for

        with told_in_a_sentence():
            ends = wait_for(tasks, every, timeout_seconds)
            for end in ends:
                click.echo(end)
        if not all(end.is_good for end in ends):
            ctx.exit(1)


def _is_in_background(name: str | None, on_queue: str | None) -> bool:
    if name is None and on_queue is not None:
        raise click.UsageError("--on-queue goes with --in-background.")
    return name is not None


def _begin(
    ctx: click.Context,
    verb: str,
    told: str,
    *,
    ids: tuple[str, ...],
    limit: int | None,
    older_than: str | None,
    newer_than: str | None,
    task: str | None,
    exception: str | None,
    queue: str | None,
    to_queue: str | None = None,
    **options: Any,
) -> None:
    """Begin a bulk action with what is chosen."""
    if ids or limit is not None:
        raise click.UsageError("--in-background goes with neither IDs nor --limit.")
    with told_in_a_sentence():
        from lambda_celery.failures.selection import Selection, parse_age

        selection = Selection(
            task=task,
            exception=exception,
            queue=queue,
            older_than=parse_age(older_than) if older_than else None,
            newer_than=parse_age(newer_than) if newer_than else None,
        )
        begin(ctx.obj.app, verb, told, selection, to_queue=to_queue, **options)


def _edited(tasks: Any, found: list[Any]) -> dict[str, Any]:
    """Have a person edit the arguments of the one failure that was *found*."""
    from lambda_celery.failures.signature import check_arguments, read, written

    if len(found) != 1:
        raise FailedTaskError("--edit is for a single failed task: name it by its id.")
    before = written(*tasks.arguments(found[0]))
    after = click.edit(before, extension=".json")
    if after is None:
        raise FailedTaskError("Nothing was saved in the editor, so nothing was sent.")
    args, kwargs = read(after)
    check_arguments(tasks.app, found[0].task, args, kwargs)
    return {"args": args, "kwargs": kwargs}


def _opened(ctx: click.Context) -> Any:
    from lambda_celery.failures import FailedTasks

    return FailedTasks(ctx.obj.app)


def _chosen(
    tasks: Any,
    *,
    ids: tuple[str, ...] = (),
    limit: int | None = None,
    older_than: str | None = None,
    newer_than: str | None = None,
    newest_first: bool = True,
    **other: Any,
) -> Iterator[Any]:
    """Yield the failures that the options choose.

    :raises FailedTaskError: an id has none.
    """
    from lambda_celery.failures.selection import Selection, parse_age

    selection = Selection(
        frozenset(ids),
        older_than=parse_age(older_than) if older_than else None,
        newer_than=parse_age(newer_than) if newer_than else None,
        **other,
    )
    missing = set(ids)
    for each in islice(tasks.select(selection, newest_first=newest_first), limit):
        missing -= {each.id, each.task_id}
        yield each
    if missing and limit is None:
        raise FailedTaskError(
            f"No failed task has the id {min(missing)}: it has run since, was discarded, or its "
            "time is over. What SQS itself has moved is found by: failed sync."
        )


def _counted(failures: Iterator[Any]) -> Counter[tuple[str, str, str]]:
    return Counter((each.task, each.exception or each.reason, each.queue) for each in failures)


def _print_lines(failures: Iterator[Any], output: Any = None) -> int:
    """Print each as JSON, in a line of its own; return how many there were."""
    from lambda_celery.cli.failed_output import document

    number = 0
    for each in failures:
        click.echo(json.dumps(document(each)), file=output)
        number += 1
    return number
