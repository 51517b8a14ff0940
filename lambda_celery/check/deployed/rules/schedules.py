"""EventBridge Scheduler's group, and the role that it sends with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from lambda_celery.check.deployed.deployment import Deployed
from lambda_celery.check.deployed.reading import Thing
from lambda_celery.check.deployed.rule import Difference, Wrong, deployed_rule
from lambda_celery.check.model import Grade
from lambda_celery.conf import setting_names

_SCHEDULER = "scheduler.amazonaws.com"


@deployed_rule("deployed-schedules", "Schedules that cannot be made, or cannot send")
def schedules(deployed: Deployed) -> Iterator[Difference]:
    """The schedule group is not there, or its role is not there, or not Scheduler's.

    Looked at is what `lambda_schedule_group` and `lambda_schedule_role_arn` name. One without the
    other does nothing: what is due later than 15 minutes then hops.
    """
    settings = deployed.settings
    if bool(settings.schedule_group) != bool(settings.schedule_role_arn):
        missing = "schedule_role_arn" if settings.schedule_group else "schedule_group"
        yield Difference(
            Grade.AMBER,
            Thing("schedules", setting_names(missing), missing),
            "Of schedule group and role the settings name one alone, so no task becomes a "
            "schedule.",
            Wrong.SETTINGS,
            f"set {setting_names(missing)}, too.",
        )
    if settings.schedule_group:
        yield from _group(deployed, settings.schedule_group)
    if settings.schedule_role_arn:
        yield from _role(deployed, settings.schedule_role_arn)


def _group(deployed: Deployed, name: str) -> Iterator[Difference]:
    thing = Thing(f"schedule group {name}", name, "schedule_group")
    answer = deployed.reader.look(
        "scheduler", "get_schedule_group", thing, "scheduler:GetScheduleGroup", Name=name
    )
    if answer is None:
        return
    if not answer.is_there or answer.said.get("State") != "ACTIVE":
        state = f"is {answer.said.get('State')}" if answer.is_there else "does not exist"
        yield Difference(
            Grade.RED,
            thing,
            f"The settings name this schedule group, and it {state}: no schedule can be made.",
            Wrong.AWS,
            "deploy it. If it has another name there, the settings are wrong: correct "
            f"{setting_names('schedule_group')}.",
        )


def _role(deployed: Deployed, arn: str) -> Iterator[Difference]:
    name = arn.rpartition("/")[2]
    thing = Thing(f"role {name}", arn, "schedule_role_arn")
    answer = deployed.reader.look("iam", "get_role", thing, "iam:GetRole", RoleName=name)
    if answer is None:
        return
    if not answer.is_there:
        yield Difference(
            Grade.RED,
            thing,
            "The settings name this role for EventBridge Scheduler, and it does not exist.",
            Wrong.AWS,
            "deploy it. If it has another name there, the settings are wrong: correct "
            f"{setting_names('schedule_role_arn')}.",
        )
    elif not _trusts_scheduler(answer.said["Role"].get("AssumeRolePolicyDocument")):
        yield Difference(
            Grade.RED,
            thing,
            f"The role does not trust {_SCHEDULER}, so no schedule can send with it.",
            Wrong.AWS,
            f"allow sts:AssumeRole to {_SCHEDULER} in AssumeRolePolicyDocument of the role.",
        )


def _trusts_scheduler(document: Any) -> bool:
    # botocore decodes it where IAM answers as it is told to.
    policy = json.loads(unquote(document)) if isinstance(document, str) else document or {}
    statements = policy.get("Statement", [])
    for each in statements if isinstance(statements, list) else [statements]:
        principal = each.get("Principal", {})
        services = principal.get("Service", []) if isinstance(principal, dict) else []
        named = [services] if isinstance(services, str) else services
        if each.get("Effect") == "Allow" and _SCHEDULER in named:
            return True
    return False
