"""``celery -A proj lambda init``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from celery.bin.base import CeleryCommand, CeleryOption, handle_preload_options

from lambda_celery.cli.errors import told_in_a_sentence

if TYPE_CHECKING:
    from lambda_celery.init.draft import Answers, Draft
    from lambda_celery.init.reading import AppFacts
    from lambda_celery.init.stanza import Stanza

# Everything heavier is imported in the command: `celery --help` loads this module.

_QUEUES = "Queues, by Celery's names, with commas; Enter takes these"
_FORMS = ("sam", "cloudformation", "terraform", "cdk")


@click.command("init", cls=CeleryCommand)
@click.option(
    "--form",
    cls=CeleryOption,
    type=click.Choice(_FORMS),
    default=None,
    help_group="Infrastructure",
    help="What to write.  [default: that in pyproject.toml, else it is asked for; sam with --yes]",
)
@click.option(
    "--name",
    cls=CeleryOption,
    default=None,
    help_group="Infrastructure",
    help="What the names on AWS begin with.  [default: that in pyproject.toml, else it is asked "
    "for; the project's with --yes]",
)
@click.option(
    "-o",
    "--output",
    cls=CeleryOption,
    default=None,
    metavar="DIRECTORY",
    help_group="Infrastructure",
    help="Where its files are.  [default: that in pyproject.toml, else infrastructure; for sam "
    "here, where `sam` looks]",
)
@click.option(
    "-y",
    "--yes",
    "never_ask",
    cls=CeleryOption,
    is_flag=True,
    help_group="Run",
    help="Ask nothing: take what the app says, and the defaults.",
)
@click.option(
    "--dry-run",
    cls=CeleryOption,
    is_flag=True,
    help_group="Run",
    help="Print what would be written, as a diff, and write nothing.",
)
@click.option(
    "--apply",
    "apply_settings",
    cls=CeleryOption,
    is_flag=True,
    help_group="Run",
    help="Write the settings into the app's module, or Django's. Without it they are printed.",
)
@click.pass_context
@handle_preload_options
def init(
    ctx: click.Context,
    form: str | None,
    name: str | None,
    output: str | None,
    never_ask: bool,
    dry_run: bool,
    apply_settings: bool,
) -> None:
    """Write the infrastructure of this project, and show the settings that it needs.

    Reads the queues and the time limits of the app's tasks, completes [tool.lambda-celery] in
    pyproject.toml, and writes the files of one form. What that table says already holds. Run
    again, it renews its own files, and keeps what somebody has changed. It does not ask AWS.
    """
    root = Path.cwd()
    app_name = ctx.find_root().params.get("app")
    if not isinstance(app_name, str):
        raise click.UsageError("Name the Celery app: celery -A proj lambda init")
    with told_in_a_sentence():
        from lambda_celery.init.changes import Change, shown
        from lambda_celery.init.draft import check_stanza, draft
        from lambda_celery.init.errors import InitError
        from lambda_celery.init.reading import read
        from lambda_celery.init.settings import LooseSettings
        from lambda_celery.init.stanza import Stanza
        from lambda_celery.init.writing import write

        stanza = Stanza(root / "pyproject.toml")
        check_stanza(stanza)
        facts = read(ctx.obj.app)
        given = {"form": form, "name": name, "output": output}
        answers = _answers(stanza, facts, app_name, given, never_ask=never_ask)
        made = draft(ctx.obj.app, root, stanza, facts, answers)
        changes = [*made.changes.made]
        if apply_settings and isinstance(made.settings, LooseSettings):
            raise InitError(
                f"--apply {made.settings.obstacle}: leave it out, and put the settings that are "
                "shown then where they belong."
            )
        if apply_settings and isinstance(made.settings, Change):
            changes.append(made.settings)
        if not dry_run:
            write(changes)
    for change in changes:
        click.echo(change.diff(root) if dry_run else f"Written: {shown(change.path)}")
    for note in made.changes.notes:
        click.echo(f"Note: {note}")
    if not changes and not made.changes.offered:
        click.echo("Nothing to do: the files are what they are to be.")
    _show_settings(made, root, is_applied=apply_settings)
    if made.changes.offered:
        offered = " and ".join(shown(each) for each in made.changes.offered)
        click.echo(
            f"Before you deploy, take over what you want from {offered}. This command says how to "
            "deploy when it is run again."
        )
    elif not dry_run:
        click.echo("Then:\n")
        trial = "" if made.deployment.package_type == "image" else " --try"
        for command in (f"celery -A {app_name} lambda package{trial}", *made.commands):
            click.echo(f"    {command}")


def _answers(
    stanza: Stanza,
    facts: AppFacts,
    app_name: str,
    given: dict[str, str | None],
    *,
    never_ask: bool,
) -> Answers:
    """Return what is given by an option, or in the stanza, or was asked for, in this order."""
    from lambda_celery.exceptions import ConfigurationError
    from lambda_celery.infrastructure.inputs import Deployment
    from lambda_celery.init.draft import DEFAULTS, Answers, proposed_name
    from lambda_celery.init.errors import InitError

    def value(name: str) -> Any:
        return given[name] if given[name] is not None else stanza.values.get(name)

    def ask(question: str, default: str, check: Any = None, kind: Any = None) -> str:
        if never_ask:
            return default
        if not sys.stdin.isatty():
            raise InitError(
                "There is no terminal to ask at: give --yes to take what the app says, and the "
                "defaults."
            )
        return str(click.prompt(question, default=default, type=kind, value_proc=check))

    def checked_name(answer: str) -> str:
        try:
            Deployment(app="app", name=answer)
        except ConfigurationError as exc:
            raise click.UsageError(str(exc)) from None  # and it is asked again
        return answer

    form = value("form") or ask("Form of the infrastructure", _FORMS[0], kind=click.Choice(_FORMS))
    name = value("name") or ask(
        "Beginning of the names on AWS", proposed_name(stanza, app_name), checked_name
    )
    queues = None
    if "queues" not in stanza.values:
        queues = facts.queues
        if list(queues) != list(DEFAULTS.queues):
            answer = ask(_QUEUES, ", ".join(queues))
            if answer.strip().lower() in {"y", "yes"} - set(queues):
                answer = ", ".join(queues)
            queues = tuple(dict.fromkeys(filter(None, re.split(r"[,\s]+", answer))))
    return Answers(app_name, form, name, queues, value("output"))


def _show_settings(made: Draft, root: Path, *, is_applied: bool) -> None:
    from lambda_celery.init.settings import LooseSettings

    if isinstance(made.settings, LooseSettings):
        click.echo(f"Put these settings {made.settings.where}:\n")
        click.echo(made.settings.text + "\n")
    elif made.settings and not is_applied:
        click.echo(
            "The app needs these settings. --apply writes them; `patch -p1` takes them, too.\n"
        )
        click.echo(made.settings.diff(root))
