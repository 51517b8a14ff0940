"""``celery -A proj lambda check``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click
from celery.bin.base import CeleryCommand, CeleryOption, handle_preload_options

from lambda_celery.cli.drawing import is_coloured
from lambda_celery.cli.errors import told_in_a_sentence


@click.command("check", cls=CeleryCommand)
@click.option(
    "--format",
    "output_format",
    cls=CeleryOption,
    type=click.Choice(["text", "json", "sarif", "github"]),
    default="text",
    show_default=True,
    help_group="Output",
    help="For people, for programs, for code scanning, or as annotations of a GitHub workflow.",
)
@click.option(
    "--json",
    "is_json",
    cls=CeleryOption,
    is_flag=True,
    help_group="Output",
    help="The same as --format json.",
)
@click.option(
    "--fail-on",
    cls=CeleryOption,
    type=click.Choice(["amber", "red"]),
    default="red",
    show_default=True,
    help_group="Output",
    help="End with the code 1 if there is a finding of this grade, or worse.",
)
@click.option(
    "--rule",
    "rule_ids",
    cls=CeleryOption,
    multiple=True,
    metavar="ID",
    help_group="Rules",
    help="Look for this alone. May be given several times.",
)
@click.option(
    "--explain",
    cls=CeleryOption,
    default=None,
    metavar="ID",
    help_group="Rules",
    help="Print what a rule is about, and end.",
)
@click.option(
    "--deployed",
    "is_deployed",
    cls=CeleryOption,
    is_flag=True,
    help_group="AWS",
    help="Compare what is on AWS with what must be, too. Nothing is changed there.",
)
@click.option(
    "--producer-role",
    cls=CeleryOption,
    default=None,
    metavar="ARN",
    help_group="AWS",
    help="With --deployed: the role of whatever sends tasks, to see whether it may.",
)
@click.option(
    "--caller-role",
    cls=CeleryOption,
    default=None,
    metavar="ARN",
    help_group="AWS",
    help="With --deployed: the role of whatever calls the function directly, as well.",
)
@click.pass_context
@handle_preload_options
def check(
    ctx: click.Context,
    output_format: str,
    is_json: bool,
    fail_on: str,
    rule_ids: tuple[str, ...],
    explain: str | None,
    is_deployed: bool,
    producer_role: str | None,
    caller_role: str | None,
) -> None:
    """Grade each task green, amber or red for Lambda, before anything is deployed.

    Reads the tasks' source, their options and the settings. It needs no broker, no AWS unless
    --deployed asks for it, and nothing of Lambda Celery has to be set. docs/check.md describes the
    rules, and how to switch one off.
    """
    with told_in_a_sentence():
        from lambda_celery.check.doctor import check as run
        from lambda_celery.check.facts import Facts
        from lambda_celery.check.model import Grade
        from lambda_celery.check.report import FORMATS, as_text
        from lambda_celery.check.rules import registry

        if explain is not None:
            rule = registry.get(explain, "--explain")
            click.echo(f"{rule.id}: {rule.title}\n\n{rule.paragraph}")
            return
        for each in rule_ids:
            registry.get(each, "--rule")
        if str(Path.cwd()) not in sys.path:
            # As in the function. Celery puts it there while it loads the app, and no longer.
            sys.path.insert(0, str(Path.cwd()))
        app_name = ctx.find_root().params.get("app")
        facts = Facts.collect(
            ctx.obj.app, Path.cwd(), app_name if isinstance(app_name, str) else ""
        )
        if is_deployed:
            from lambda_celery.check.deployed.deployment import Deployed

            facts.deployed = Deployed.of(facts, producer_role, caller_role)
        elif producer_role is not None or caller_role is not None:
            option = "--producer-role" if producer_role is not None else "--caller-role"
            raise click.UsageError(f"{option} goes with --deployed: add that.")
        report = run(facts, rule_ids)
        chosen = "json" if is_json else output_format
        if chosen == "text":
            width = shutil.get_terminal_size().columns
            text = as_text(report, is_coloured=is_coloured(sys.stdout), width=width)
        else:
            text = FORMATS[chosen](report, registry)
    click.echo(text.rstrip("\n"))
    if report.worst >= Grade[fail_on.upper()]:
        ctx.exit(1)
