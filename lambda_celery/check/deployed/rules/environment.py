"""The function's environment variables."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import fields
from typing import Any
from urllib.parse import urlsplit

from lambda_celery.check.deployed.deployment import Deployed, Function
from lambda_celery.check.deployed.rule import Difference, Wrong, deployed_rule
from lambda_celery.check.model import Grade
from lambda_celery.conf import APP_VARIABLE, CONF_PREFIX, ENV_PREFIX, Settings
from lambda_celery.exceptions import ConfigurationError

#: What is rightly another there: this machine's way to AWS.
_OF_THE_MACHINE = {"endpoint_url", "region"}


@deployed_rule("deployed-environment", "A function that is told something else")
def environment(deployed: Deployed) -> Iterator[Difference]:
    """A variable of the function is missing, cannot be read, or says other than the settings.

    The function needs `LAMBDA_CELERY_APP`, a queue and an idempotency table, the latter two from
    its variables or from the settings in its code. A `LAMBDA_CELERY_…` variable must be what the
    project's settings say, as far as both say something. With `[tool.lambda-celery]`, the
    variables in its `environment` must be there. Values of other variables are not shown.
    """
    for each in deployed.functions():
        error = each.configuration.get("Environment", {}).get("Error")
        if error:
            deployed.reader.could_not_see(
                each.thing,
                "Lambda does not show its environment variables: "
                f"{error.get('Message') or error.get('ErrorCode')}. Allow kms:Decrypt on the "
                "function's key in the IAM policy of this process's role.",
            )
            continue
        yield from _app(deployed, each)
        yield from _settings(deployed, each)
        yield from _own_variables(deployed, each)


def _app(deployed: Deployed, each: Function) -> Iterator[Difference]:
    there = each.variables.get(APP_VARIABLE)
    must = deployed.deployment.app if deployed.deployment is not None else deployed.app_name
    if not there:
        yield Difference(
            Grade.RED,
            each.thing,
            f"The function has no {APP_VARIABLE}: it does not know which app's tasks to run.",
            Wrong.AWS,
            f"set {APP_VARIABLE} of the function to {must or 'what stands after celery -A'}.",
        )
    elif must and _app_place(there) != _app_place(must):
        yield Difference(
            Grade.RED,
            each.thing,
            f"{APP_VARIABLE} of the function is {there}, and the project's app is {must}.",
            Wrong.AWS,
            f"set {APP_VARIABLE} of the function to {must}.",
        )


def _app_place(name: str) -> tuple[str, str]:
    """Return module and attribute that `celery -A name` finds, as far as the name tells."""
    module, _, attribute = name.partition(":")
    return module.removesuffix(".celery"), "" if attribute in ("app", "celery") else attribute


def _settings(deployed: Deployed, each: Function) -> Iterator[Difference]:
    try:
        there = Settings.from_app(deployed.app, each.variables)
    except ConfigurationError as exc:
        yield Difference(
            Grade.RED,
            each.thing,
            f"The function cannot read its settings. {exc}",
            Wrong.AWS,
            "correct that variable of the function.",
        )
        return
    for name, what in (
        ("idempotency_table", "its records have no place, and no task runs"),
        ("queue_urls", "it cannot send retries and further tasks"),
    ):
        if not getattr(there, name):
            variable = ENV_PREFIX + ("QUEUE_URL" if name == "queue_urls" else name.upper())
            yield Difference(
                Grade.RED,
                each.thing,
                f"The function has no {variable}, and its code sets none: {what}.",
                Wrong.AWS,
                f"set {variable} of the function.",
            )
    for setting in fields(Settings):
        variable = ENV_PREFIX + setting.name.upper()
        if setting.name in _OF_THE_MACHINE or not each.variables.get(variable):
            continue
        if not (os.environ.get(variable) or _in_conf(deployed, setting.name)):
            continue
        own, other = getattr(deployed.settings, setting.name), getattr(there, setting.name)
        if _comparable(setting.name, own) != _comparable(setting.name, other):
            yield Difference(
                Grade.RED if setting.name.endswith(("_url", "queues", "table", "bucket"))
                else Grade.AMBER,
                each.thing,
                f"{variable} of the function is {other}, and the project's settings say {own}.",
                Wrong.AWS,
                f"set {variable} of the function to what the settings say. If the function's is "
                f"meant, the settings are wrong: change {CONF_PREFIX}{setting.name}.",
            )  # fmt: skip


def _in_conf(deployed: Deployed, name: str) -> bool:
    return deployed.app.conf.get(CONF_PREFIX + name) is not None


def _comparable(name: str, value: Any) -> Any:
    """Return *value* for a comparison: a queue has several addresses, with one account and name."""
    if name.endswith("queue_url") and isinstance(value, str):
        return urlsplit(value).path.strip("/").split("/")[-2:]
    if name == "queues":
        return {key: _comparable("queue_url", each.url) for key, each in value.items()}
    return value


def _own_variables(deployed: Deployed, each: Function) -> Iterator[Difference]:
    wanted = deployed.deployment.environment if deployed.deployment and each.figures else {}
    for name, value in wanted.items():
        if each.variables.get(name) != value:
            state = "has another value than" if name in each.variables else "is missing; it is"
            yield Difference(
                Grade.AMBER,
                each.thing,
                f"The variable {name} of the function {state} in environment of pyproject.toml.",
                Wrong.AWS,
                "deploy anew.",
            )
