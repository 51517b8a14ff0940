"""``manage.py lambda …``: what ``celery -A proj lambda …`` is."""  # noqa: N999 - Django's rule

from __future__ import annotations

import argparse
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from typing import Any, ClassVar

import click
from celery.bin.celery import celery
from django.core.management.base import (
    BaseCommand,
    CommandError,
    CommandParser,
    DjangoHelpFormatter,
)

from lambda_celery.django.management.app_name import loaded_app_name

_NAME = "lambda"


class _HelpFormatter(DjangoHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Django's, but for the list of the subcommands, which click has laid out."""


class Command(BaseCommand):
    """Hands its words to Celery's own command, with the app that Django has loaded."""

    help = "Run this project's tasks on AWS Lambda, as celery -A proj lambda does."
    requires_system_checks = ()
    # Celery's commands have no such option.
    suppressed_base_arguments: ClassVar = {"--force-color"}
    missing_args_message = "Name a subcommand: manage.py lambda --help lists them."

    def create_parser(self, prog_name: str, subcommand: str, **options: Any) -> CommandParser:
        """Return Django's parser; its help lists the subcommands."""
        return super().create_parser(
            prog_name, subcommand, formatter_class=_HelpFormatter, epilog=_subcommands(), **options
        )

    def add_arguments(self, parser: CommandParser) -> None:
        """Take all words from the subcommand on as they are: they are click's to read."""
        parser.add_argument("-A", "--app", help="The Celery app, where Django does not load it.")
        parser.add_argument(
            "subcommand", help="One of those below: manage.py lambda SUBCOMMAND --help says more."
        )
        parser.add_argument("words", nargs=argparse.REMAINDER, metavar="...", help="Its arguments.")

    def handle(self, *_: Any, **options: Any) -> None:
        """Run the subcommand.

        :raises CommandError: it cannot be run, or ends with an error.
        """
        # Django has acted on these wherever they stand.
        late = CommandParser(add_help=False, allow_abbrev=False)
        late.add_argument("--settings")
        late.add_argument("--pythonpath")
        late.add_argument("--no-color", action="store_true", default=options["no_color"])
        given, words = late.parse_known_args(options["words"])
        app = options["app"] or loaded_app_name()
        if app is None:
            raise CommandError(
                "Django has loaded no Celery app. Import it in the __init__.py of the project's "
                "package, as Celery's guide for Django has it, or name it: "
                "manage.py lambda -A proj …"
            )
        arguments = ["-A", app, *(["--no-color"] if given.no_color else [])]
        with ExitStack() as redirected:
            # Only call_command gives streams.
            if options.get("stdout"):
                redirected.enter_context(redirect_stdout(options["stdout"]))
            if options.get("stderr"):
                redirected.enter_context(redirect_stderr(options["stderr"]))
            code = _run([*arguments, _NAME, options["subcommand"], *words])
        if code:
            # Not SystemExit, which would end a program that calls this.
            raise CommandError(
                f"lambda {options['subcommand']} has ended with the code {code}.", returncode=code
            )


def _run(arguments: list[str]) -> int | None:
    """Run Celery's command; return the code that it ends with."""
    try:
        code: int | None = celery.main(arguments, prog_name="manage.py", standalone_mode=False)
    except click.UsageError as exc:
        where = f"\n{exc.ctx.get_usage()}" if exc.ctx else ""
        # Celery has coloured what it says of the app.
        sentence = click.unstyle(exc.format_message()).strip()
        raise CommandError(sentence + where, returncode=exc.exit_code) from exc
    except click.ClickException as exc:
        raise CommandError(exc.format_message(), returncode=exc.exit_code) from exc
    except click.Abort as exc:
        raise CommandError("Aborted.") from exc
    return code


def _subcommands() -> str:
    group = celery.commands[_NAME]
    formatter = click.HelpFormatter()
    group.format_commands(click.Context(group, info_name=_NAME), formatter)
    return formatter.getvalue()
