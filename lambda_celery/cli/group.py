"""The group of commands: each is a module of its own, and is listed here."""

from __future__ import annotations

import click

from lambda_celery.cli.check import check
from lambda_celery.cli.dashboard import dashboard
from lambda_celery.cli.failed import failed
from lambda_celery.cli.init import init
from lambda_celery.cli.local import local
from lambda_celery.cli.package import package
from lambda_celery.cli.pausing import continue_, pause
from lambda_celery.cli.plan import plan
from lambda_celery.cli.schedule import schedule
from lambda_celery.cli.status import status


@click.group("lambda")
def lambda_command() -> None:
    """Run this app's tasks on AWS Lambda."""


for command in (
    check,
    continue_,
    dashboard,
    failed,
    init,
    local,
    package,
    pause,
    plan,
    schedule,
    status,
):
    lambda_command.add_command(command)
