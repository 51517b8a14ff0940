"""What the roles may do, as IAM simulates it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lambda_celery.check.deployed import permissions
from lambda_celery.check.deployed.deployment import Deployed
from lambda_celery.check.deployed.permissions import Permission
from lambda_celery.check.deployed.reading import Thing
from lambda_celery.check.deployed.rule import Difference, Wrong, deployed_rule
from lambda_celery.check.model import Grade

_ACTION = "iam:SimulatePrincipalPolicy"


@deployed_rule("deployed-role", "A role that may not do its work")
def roles(deployed: Deployed) -> Iterator[Difference]:
    """IAM's simulation denies the function's role, or Scheduler's, something that it needs.

    What each needs is in [Permissions](operations/permissions.md). The policies of the role are
    simulated, with its boundary, and not those of a queue or a bucket itself.
    """
    done = set()
    for function in deployed.functions():
        arn = str(function.configuration["Role"])
        if (arn, function.arn) not in done:
            done.add((arn, function.arn))
            yield from _simulate(deployed, arn, permissions.of_function(deployed, function))
    if (scheduler := deployed.settings.schedule_role_arn) is not None:
        yield from _simulate(deployed, scheduler, permissions.of_scheduler(deployed))


@deployed_rule("deployed-producer", "A producer that may not send")
def producer(deployed: Deployed) -> Iterator[Difference]:
    """IAM's simulation denies the role of `--producer-role` something that sending tasks needs.

    Give the ARN of the role of whatever calls `delay()`: the web application, a cron job. What it
    needs is in [Permissions](operations/permissions.md).
    """
    if deployed.producer_role is not None:
        yield from _simulate(deployed, deployed.producer_role, permissions.of_producer(deployed))


@deployed_rule("deployed-caller", "A caller that may not call")
def caller(deployed: Deployed) -> Iterator[Difference]:
    """IAM's simulation denies the role of `--caller-role` something that direct calls need.

    Give the ARN of the role of whatever [calls the function directly](direct-calls.md). Looked at
    is the function that `lambda_function` names, with its alias. What the role needs is in
    [Permissions](operations/permissions.md).
    """
    if deployed.caller_role is not None:
        yield from _simulate(deployed, deployed.caller_role, permissions.of_caller(deployed))


def _simulate(deployed: Deployed, role: str, needed: Iterable[Permission]) -> Iterator[Difference]:
    thing = Thing(f"role {role.rpartition('/')[2]}", role)
    for permission in needed:
        answer = deployed.reader.look(
            "iam",
            "simulate_principal_policy",
            thing,
            _ACTION,
            PolicySourceArn=role,
            ActionNames=list(permission.actions),
            ResourceArns=[permission.arn],
            ContextEntries=[
                {"ContextKeyName": key, "ContextKeyValues": [value], "ContextKeyType": "string"}
                for key, value in permission.context.items()
            ],
        )
        if answer is None:
            return
        if not answer.is_there:
            yield Difference(
                Grade.RED,
                thing,
                "There is no such role.",
                Wrong.AWS,
                "create it, or give the function another role.",
            )
            return
        results = answer.said["EvaluationResults"]
        denied = [each for each in results if each["EvalDecision"] != "allowed"]
        unclear = [each["EvalActionName"] for each in denied if each.get("MissingContextValues")]
        sure = [each["EvalActionName"] for each in denied if not each.get("MissingContextValues")]
        if unclear:
            deployed.reader.could_not_see(
                thing,
                f"Whether it may {', '.join(unclear)} on {permission.arn} depends on conditions "
                "of its policies that the simulation knows nothing of.",
            )
        if sure:
            yield Difference(
                Grade.RED,
                thing,
                f"The role may not {', '.join(sure)} on {permission.arn}.",
                Wrong.AWS,
                "allow it in a policy of the role.",
            )
