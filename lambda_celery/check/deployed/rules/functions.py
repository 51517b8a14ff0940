"""The function: its figures, its runtime, and how it is published."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

from lambda_celery.celery_hooks.apps import is_nobodys
from lambda_celery.check.deployed.deployment import Deployed, Function
from lambda_celery.check.deployed.rule import Difference, Wrong, deployed_rule
from lambda_celery.check.model import Grade
from lambda_celery.conf import CONF_PREFIX, ENV_PREFIX
from lambda_celery.infrastructure.runtimes import ALL_RUNTIMES, RUNTIMES

#: So long before a runtime's end it is told.
_NOTICE_DAYS = 180


@deployed_rule("deployed-function", "A function that is not as it must be")
def function(deployed: Deployed) -> Iterator[Difference]:
    """The function is not there, could not be updated, or has other figures than it must have.

    With `[tool.lambda-celery]`, its time-out, memory, architecture, package type and handler are
    compared with it. Always compared is its time-out with the time limits of the tasks: what runs
    for longer is ended with the invocation, and the limit never strikes.
    """
    for mapping in deployed.mappings():
        answer_is_there = deployed.function_is_there(mapping)
        if answer_is_there is False:
            yield Difference(
                Grade.RED,
                mapping.thing,
                f"The function {mapping.said['FunctionArn']} of the mapping does not exist.",
                Wrong.AWS,
                "deploy the function, or correct FunctionName of the mapping.",
            )
    for each in deployed.functions():
        for status, reason in (
            ("State", "StateReason"),
            ("LastUpdateStatus", "LastUpdateStatusReason"),
        ):
            if each.configuration.get(status) == "Failed":
                yield Difference(
                    Grade.RED,
                    each.thing,
                    f"{status} of the function is Failed: {each.configuration.get(reason)}",
                    Wrong.AWS,
                    "do what that sentence asks for, and deploy again.",
                )
        yield from _figures(deployed, each)
        yield from _limits(deployed, each)


def _figures(deployed: Deployed, each: Function) -> Iterator[Difference]:
    must, figures = deployed.deployment, each.figures
    if must is None or figures is None:
        return
    package_type = must.package_type.capitalize()
    pairs: list[tuple[str, Any, Any]] = [
        ("Timeout", each.timeout_seconds, figures.timeout_seconds),
        ("MemorySize", each.configuration.get("MemorySize"), must.memory_size),
        ("Architectures", each.configuration.get("Architectures"), [must.architecture]),
        ("PackageType", each.configuration.get("PackageType"), package_type),
    ]
    if package_type == "Zip":
        pairs.append(("Handler", each.configuration.get("Handler"), must.handler))
    for name, there, wanted in pairs:
        if there != wanted:
            yield Difference(
                Grade.AMBER,
                each.thing,
                f"{name} of the function is {_shown(there)}. By pyproject.toml it must be "
                f"{_shown(wanted)}.",
                Wrong.AWS,
                f"set {name} to {_shown(wanted)}, by deploying anew.",
            )


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _limits(deployed: Deployed, each: Function) -> Iterator[Difference]:
    if len(deployed.functions_by_name()) > 1:
        return  # which task is for which of them, its calls say
    conf = deployed.app.conf
    for name, task in sorted(deployed.app.tasks.items()):
        if is_nobodys(task) or getattr(task, "lambda_celery", None) is False:
            continue
        limits = {
            option: getattr(task, option, None) or conf.get(f"task_{option}")
            for option in ("time_limit", "soft_time_limit")
        }
        for option, limit in limits.items():
            if isinstance(limit, int | float) and limit > each.timeout_seconds:
                yield Difference(
                    Grade.AMBER,
                    each.thing,
                    f"The {option} of {name} is {limit:g} s, and the function's time-out is "
                    f"{each.timeout_seconds} s: the invocation ends before the limit strikes.",
                    Wrong.AWS,
                    "raise Timeout of the function. If the task never takes that long, the "
                    f"settings are wrong: lower its {option}.",
                )


@deployed_rule("deployed-direct-calls", "Direct calls that go to no function, or to another one")
def direct_calls(deployed: Deployed) -> Iterator[Difference]:
    """`lambda_function` names a function that is not there, or other code than the queue's.

    [Direct calls](direct-calls.md) go to that function, alias or version. What the mapping of a
    queue names must be named there, too: `mail:live`, say. Else direct calls run the code that was
    deployed last, or an older one, and SnapStart's snapshot is missed. A function without a mapping
    must have the project's idempotency table, or it is another project's, or another stage's.
    """
    if (called := deployed.called_function) is None:
        return
    thing, name = called.thing, CONF_PREFIX + "function"
    if called.configuration is None:
        yield Difference(
            Grade.RED,
            thing,
            f"Direct calls go to {thing.resource}: there is no such function, alias or version.",
            Wrong.SETTINGS,
            f"name in {name} the function that runs the tasks, and an alias only if it has one. "
            "If they are right, deploy the function.",
        )
        return
    arn = called.arn.removesuffix(":$LATEST")
    mapped = [each.arn.removesuffix(":$LATEST") for each in deployed.functions()]
    of_its_name = [each for each in mapped if each.split(":")[:7] == arn.split(":")[:7]]
    if of_its_name and arn not in of_its_name:
        wanted = ":".join(of_its_name[0].split(":")[6:])
        yield Difference(
            Grade.AMBER,
            thing,
            f"Direct calls go to {thing.resource}, and the mapping brings the messages to "
            f"{wanted}: that may be other code.",
            Wrong.SETTINGS,
            f"set {name} to {wanted}.",
        )
    table = deployed.settings.idempotency_table
    variables = called.configuration.get("Environment", {}).get("Variables", {})
    there = variables.get(f"{ENV_PREFIX}IDEMPOTENCY_TABLE")
    if not of_its_name and table is not None and there != table:
        yield Difference(
            Grade.AMBER,
            thing,
            f"Direct calls go to {thing.resource}, which has no queue's messages, and the "
            f"idempotency table {there}. The settings have {table}.",
            Wrong.SETTINGS,
            f"name in {name} the function of this project and this stage.",
        )


@deployed_rule("deployed-runtime", "A runtime that comes to its end")
def runtime(deployed: Deployed) -> Iterator[Difference]:
    """The function's runtime is deprecated, will be within 180 days, or is another than it must be.

    A deprecated runtime gets no security updates, and later the function cannot be updated.
    With `[tool.lambda-celery]`, it is compared with that, too. An image brings its own.
    """
    today = datetime.now(UTC).date()
    for each in deployed.functions():
        name = each.configuration.get("Runtime")
        if name is None:
            continue
        must = deployed.deployment.runtime if deployed.deployment is not None else name
        if name != must and each.figures is not None:
            yield Difference(
                Grade.AMBER,
                each.thing,
                f"Runtime of the function is {name}. By pyproject.toml it must be {must}.",
                Wrong.AWS,
                f"set Runtime to {must}, by packaging and deploying anew.",
            )
        yield from _end_of(each, name, today)


def _end_of(each: Function, name: str, today: date) -> Iterator[Difference]:
    newest = [*RUNTIMES][-1]
    ends_on = ALL_RUNTIMES[name].deprecated_on if name in ALL_RUNTIMES else None
    if name not in RUNTIMES:
        yield Difference(
            Grade.RED,
            each.thing,
            f"The function's runtime is {name}, which Lambda Celery does not run on.",
            Wrong.AWS,
            f"move to {newest}.",
        )
    elif ends_on is not None and ends_on <= today + timedelta(days=_NOTICE_DAYS):
        yield Difference(
            Grade.RED if ends_on <= today else Grade.AMBER,
            each.thing,
            f"AWS deprecates the runtime {name} on {ends_on:%d %B %Y}: from then on it gets no "
            "security updates, and later the function cannot be updated.",
            Wrong.AWS,
            f"move to {newest}.",
        )


@deployed_rule("deployed-recursion", "A function whose retries Lambda stops")
def recursion(deployed: Deployed) -> Iterator[Difference]:
    """`RecursiveLoop` of the function is not `Allow`.

    Retries, long countdowns and chains go back to the function's own queue. Lambda takes that for
    a loop, and stops it after 16 rounds.
    """
    for name, each in deployed.functions_by_name().items():
        answer = deployed.reader.look(
            "lambda",
            "get_function_recursion_config",
            each.thing,
            "lambda:GetFunctionRecursionConfig",
            FunctionName=name,
        )
        if answer is not None and answer.said.get("RecursiveLoop") != "Allow":
            yield Difference(
                Grade.RED,
                each.thing,
                "RecursiveLoop of the function is not Allow: Lambda stops retries, long "
                "countdowns and chains after 16 rounds.",
                Wrong.AWS,
                "set RecursiveLoop to Allow.",
            )


@deployed_rule("deployed-alias", "A mapping that misses the snapshot")
def alias(deployed: Deployed) -> Iterator[Difference]:
    """SnapStart is on, and the mapping names the function without an alias or a version.

    Snapshots are taken of published versions alone. What names no version gets `$LATEST`, which
    starts without one. With `snap_start` in `[tool.lambda-celery]`, it must be on, and the mapping
    must name the alias that stands there.
    """
    must = deployed.deployment
    for each in deployed.functions():
        snap_start = each.configuration.get("SnapStart", {})
        is_on = snap_start.get("ApplyOn") == "PublishedVersions"
        wants = must is not None and must.snap_start and each.figures is not None
        if is_on and each.qualifier in (None, "$LATEST"):
            yield Difference(
                Grade.RED,
                each.thing,
                "SnapStart is on, and the mapping names no alias and no version: it gets $LATEST, "
                "of which there is no snapshot.",
                Wrong.AWS,
                "publish a version, let an alias point to it, and name the alias in the mapping.",
            )
        elif is_on and snap_start.get("OptimizationStatus") == "Off":
            yield Difference(
                Grade.AMBER,
                each.thing,
                "SnapStart is on for the function, and this version has no snapshot.",
                Wrong.AWS,
                "publish a new version, and let the alias point to it.",
            )
        if wants and not is_on:
            yield Difference(
                Grade.AMBER,
                each.thing,
                "SnapStart is off. By pyproject.toml it must be on.",
                Wrong.AWS,
                "set ApplyOn of SnapStart to PublishedVersions, by deploying anew.",
            )
        if wants and must is not None and each.qualifier not in (None, must.alias):
            yield Difference(
                Grade.AMBER,
                each.thing,
                f"The mapping names {each.qualifier}. By pyproject.toml it must name the alias "
                f"{must.alias}.",
                Wrong.AWS,
                f"change FunctionName of the mapping to {each.name}:{must.alias}.",
            )
