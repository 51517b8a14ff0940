"""Who must be allowed what, on which of the resources that are there.

The statements are those of :mod:`lambda_celery.infrastructure.policies`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from lambda_celery.check.deployed.deployment import Deployed, Function
from lambda_celery.infrastructure import policies
from lambda_celery.infrastructure.inputs import Deployment, Vpc
from lambda_celery.infrastructure.policies import Statement
from lambda_celery.message import is_fifo

#: Stands for whatever is called so: an object, a schedule, a stream. One-time schedules begin so.
_ANY = "eta-check"


@dataclass(frozen=True)
class Permission:
    """Actions on one resource, and the context keys that AWS then knows."""

    actions: tuple[str, ...]
    arn: str
    context: Mapping[str, str] = field(default_factory=dict)


def of_function(deployed: Deployed, function: Function) -> Iterator[Permission]:
    """Yield what the role of *function* must be allowed."""
    own = {
        mapping.queue.arn
        for mapping in deployed.mappings()
        if mapping.said["FunctionArn"] == function.arn
    }
    vpc = function.configuration.get("VpcConfig", {})
    as_it_is = _as_it_is(deployed, vpc.get("SubnetIds"), vpc.get("SecurityGroupIds"))
    statements = [*policies.function(as_it_is)]
    if deployed.results_table is not None:
        statements += policies.results(as_it_is)
    _, partition, _, region, account, *_ = function.arn.split(":")
    log = function.configuration.get("LoggingConfig", {}).get("LogGroup")
    group = f"log-group:{log or f'/aws/lambda/{function.name}'}"
    arns = _arns(deployed, own) | {
        "log_group": [f"arn:{partition}:logs:{region}:{account}:{group}:log-stream:{_ANY}"]
    }
    yield from _on(arns, statements)


def of_producer(deployed: Deployed) -> Iterator[Permission]:
    """Yield what a role that sends tasks must be allowed."""
    yield from _on(_arns(deployed), policies.producer(_as_it_is(deployed)))


def of_caller(deployed: Deployed) -> Iterator[Permission]:
    """Yield what a role that calls the function directly must be allowed."""
    called = deployed.called_function
    if called is None or called.configuration is None:
        return
    arns = _arns(deployed) | {"functions": [called.arn]}
    yield from _on(arns, policies.caller(_as_it_is(deployed)))


def of_scheduler(deployed: Deployed) -> Iterator[Permission]:
    """Yield what the role that EventBridge Scheduler sends with must be allowed."""
    yield from _on(_arns(deployed), policies.scheduler(_as_it_is(deployed)))


def _as_it_is(
    deployed: Deployed,
    subnets: Collection[str] | None = None,
    security_groups: Collection[str] | None = None,
) -> Deployment:
    """Return inputs that would make what is there, as far as the policies depend on it."""
    settings, keys = deployed.settings, _keys(deployed)
    return Deployment(
        app="app",
        name="app",
        schedules=bool(settings.schedule_group and settings.schedule_role_arn),
        kms_key_arn=keys[0] if keys else None,
        vpc=Vpc(tuple(subnets), tuple(security_groups)) if subnets and security_groups else None,
    )


def _keys(deployed: Deployed) -> list[str]:
    keys = (queue.attributes.get("KmsMasterKeyId", "") for queue in deployed.all_queues())
    # An alias, such as that of AWS's own key, is no resource of a policy.
    return [key for key in dict.fromkeys(keys) if key.startswith("arn:") and ":key/" in key]


def _arns(deployed: Deployed, own: Collection[str] = ()) -> dict[str, list[str]]:
    """Return the ARNs of each kind that the statements speak of; *own* are a function's queues."""
    queues = list(deployed.queues())
    targets = {each.arn: each.dead_letter_arn for each in queues}
    arns = {
        "queues": list(targets),
        "own_queues": [arn for arn in targets if arn in own],
        "other_queues": [arn for arn in targets if arn not in own],
        "standard_dead_letter_queues": [
            each for each in targets.values() if each and not is_fifo(each)
        ],
        "own_dead_letter_queues": [each for arn, each in targets.items() if each and arn in own],
        "kms_key": _keys(deployed),
        "everything": ["*"],
    }
    settings = deployed.settings
    if (place := deployed.place) is not None:
        partition, region, account = place
        dynamodb = f"arn:{partition}:dynamodb:{region}:{account}:table"
        for kind, table in (
            ("idempotency_table", settings.idempotency_table),
            ("results_table", deployed.results_table),
        ):
            arns[kind] = [f"{dynamodb}/{table}"] if table else []
        schedule = f"arn:{partition}:scheduler:{region}:{account}:schedule"
        arns["schedules"] = [f"{schedule}/{settings.schedule_group}/{_ANY}"]
    if (bucket := deployed.bucket_arn) is not None:
        arns |= {"payload_bucket": [bucket], "payloads": [f"{bucket}/{_ANY}"]}
    if settings.schedule_role_arn:
        arns["scheduler_role"] = [settings.schedule_role_arn]
    return arns


def _on(arns: Mapping[str, list[str]], statements: Iterable[Statement]) -> Iterator[Permission]:
    for each in statements:
        # What the settings do not name is not used.
        for arn in arns.get(each.on, []):
            yield Permission(each.actions, arn, each.condition)
