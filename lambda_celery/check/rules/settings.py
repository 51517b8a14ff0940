"""Settings: misspelt, refused, or in contradiction to each other."""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from celery.app.defaults import NAMESPACES, flatten

from lambda_celery.celery_hooks.amqp import routing_of
from lambda_celery.check.facts import STANZA, Facts
from lambda_celery.check.model import Finding, Grade, registry
from lambda_celery.check.rules.databases import databases
from lambda_celery.check.rules.finding import MAXIMUM_SECONDS, seconds_of, shown_seconds
from lambda_celery.conf import APP_VARIABLE, CONF_PREFIX, ENV_PREFIX, Settings
from lambda_celery.exceptions import ConfigurationError
from lambda_celery.infrastructure.computed import SECONDS_PER_DAY, compute, record_life_seconds
from lambda_celery.infrastructure.inputs import KEYS_OF_OTHERS, Deployment
from lambda_celery.infrastructure.resources import resources

_DEFAULTS = Deployment.parse({"app": "proj", "name": "proj"})
#: What a database server takes, unless somebody has changed it: PostgreSQL's max_connections.
_USUAL_CONNECTIONS = 100
#: What psycopg's pool holds, unless it is told otherwise.
_USUAL_POOL = 4
_STANZA_KEYS = {each.name for each in fields(Deployment)}.union(KEYS_OF_OTHERS)


@registry.rule("unknown-setting", "A setting that looks like a typo")
def unknown_setting(facts: Facts) -> Iterator[Finding]:
    """A setting that neither Celery nor Lambda Celery knows, and that is like one they know.

    Celery says nothing of `task_time_limt`, and takes the default. Red is a misspelt setting
    of Lambda Celery, since what it should say is missing on AWS.
    """
    known = {name for name, _ in flatten(NAMESPACES)}
    own = {CONF_PREFIX + each.name for each in fields(Settings)}
    old = {name.upper() for name in known}
    prefix = str(facts.app.conf.prefix or "")
    spelt = set(facts.spelt_settings)
    spelt |= {each for each in os.environ if each.startswith(ENV_PREFIX) and each != APP_VARIABLE}
    of_django = sys.modules.get("django.conf.global_settings")
    for name in sorted(spelt):
        if hasattr(of_django, name):
            continue  # where Celery is given all of Django's settings
        if name.startswith(ENV_PREFIX):
            plain = CONF_PREFIX + name.removeprefix(ENV_PREFIX).lower()
        elif prefix and name.startswith(prefix):
            plain = name.removeprefix(prefix).lower()
        elif prefix and name.isupper():
            continue  # of Django
        else:
            plain = name.lower() if name not in old else name
        if plain in known | own | old or plain.upper() in old:
            continue
        candidates = own if plain.startswith(CONF_PREFIX) else known
        close = difflib.get_close_matches(plain, candidates, 1, 0.8)
        if close or plain.startswith(CONF_PREFIX):
            hint = f" It looks like {close[0]}." if close else ""
            yield Finding(
                "unknown-setting",
                Grade.RED if plain.startswith(CONF_PREFIX) else Grade.AMBER,
                name,
                f"{name} is no setting.{hint}",
                f"Write {close[0]}, if that is meant." if close else "Remove it.",
            )
    stanza_keys = {*map(str, facts.stanza)} - _STANZA_KEYS
    for key in sorted(stanza_keys):
        close = difflib.get_close_matches(key, _STANZA_KEYS, 1, 0.6)
        hint = f" It looks like {close[0]}." if close else ""
        yield Finding(
            "unknown-setting",
            Grade.RED,
            f"[tool.{STANZA}] {key}",
            f"{key} is no key of [tool.{STANZA}].{hint}",
            f"Write {close[0]}, if that is meant." if close else "Remove it.",
        )


@registry.rule("refused-setting", "A setting with a value that is refused")
def refused_setting(facts: Facts) -> Iterator[Finding]:
    """A setting of Lambda Celery has a value that is not of its kind, or contradicts another.

    The function, and each call to SQS, would end with this sentence.
    """
    if facts.settings_error:
        yield Finding(
            "refused-setting", Grade.RED, None, facts.settings_error, "Correct the setting."
        )


@registry.rule("not-installed", "Tasks that are chosen, and that nothing sends to SQS")
def not_installed(facts: Facts) -> Iterator[Finding]:
    """`lambda_tasks` chooses tasks, and nothing has made the app send them to SQS.

    They go to the broker, as if the setting were not there. In a Django project add
    `lambda_celery.django` to `INSTALLED_APPS`; else call `lambda_celery.install(app)`.
    """
    has_transport = str(facts.app.conf.broker_transport or "").startswith("lambda_celery.")
    if facts.settings.tasks and routing_of(facts.app) is None and not has_transport:
        yield Finding(
            "not-installed",
            Grade.RED,
            "lambda_tasks",
            "It chooses tasks, but nothing sends them to SQS: they go to the broker.",
            'Add "lambda_celery.django" to INSTALLED_APPS, or call lambda_celery.install(app).',
        )


@registry.rule("always-eager", "Tasks that run where they are called")
def always_eager(facts: Facts) -> Iterator[Finding]:
    """`task_always_eager` is on: no task is published, on any broker.

    That is for tests. In the settings of the web process it means that nothing reaches Lambda.
    """
    if facts.app.conf.task_always_eager:
        yield Finding(
            "always-eager",
            Grade.AMBER,
            "task_always_eager",
            "Each task runs where it is called, so nothing is sent to Lambda.",
            "Leave it to the settings of the tests.",
        )


@registry.rule("direct-calls", "Direct calls without aiohttp")
def direct_calls(facts: Facts) -> Iterator[Finding]:
    """`lambda_function` names a function for [direct calls](direct-calls.md); aiohttp is missing.

    It makes the connections, so that each direct call is refused where it is not installed; in the
    function, too, where a task calls others. Require `lambda-celery[invoke]` wherever such calls
    are made. If none is made in this environment, switch the rule off.
    """
    if facts.settings.function is not None and importlib.util.find_spec("aiohttp") is None:
        yield Finding(
            "direct-calls",
            Grade.AMBER,
            CONF_PREFIX + "function",
            f"Direct calls go to {facts.settings.function}, and aiohttp, which makes them, is not "
            "installed here.",
            "Add lambda-celery[invoke] to the project's requirements.",
        )


def _number(stanza: Mapping[str, Any], key: str, default: float) -> float:
    value = stanza.get(key, default)
    return float(value) if isinstance(value, int | float) else default


@registry.rule("function-limits", "Limits that AWS refuses, or that cannot hold together")
def function_limits(facts: Facts) -> Iterator[Finding]:
    """`[tool.lambda-celery]` asks for what AWS refuses, or for what contradicts itself.

    A `timeout` of 1 to 900 s; `maximum_concurrency` of 2 to 1,000, or `provisioned_pollers`, never
    both; and [all else](infrastructure.md#inputs) that `lambda init` would refuse. A task whose
    time limit is longer than the time-out of each function is red as well, and a
    `max_receive_count` below 5 is amber.
    """
    receives = _number(facts.stanza, "max_receive_count", facts.settings.max_receive_count or 5)
    if receives < 5:
        yield Finding(
            "function-limits",
            Grade.AMBER,
            "max_receive_count",
            f"After {receives:g} receives a message is spent, and a throttled invocation counts as "
            "one.",
            "Set 5 or more.",
        )
    stanza = {key: value for key, value in facts.stanza.items() if key in _STANZA_KEYS}
    if not stanza:
        return
    try:
        # What is missing, `lambda init` asks for.
        deployment = Deployment.parse({"app": "proj", "name": "proj"} | stanza)
        resources(deployment)  # what has the name of something else shows when all is made
    except ConfigurationError as exc:
        named = [key for key in stanza if re.search(rf"\b{re.escape(key)}\b", str(exc))]
        place = " ".join([f"[tool.{STANZA}]", *named[:1]])
        yield Finding("function-limits", Grade.RED, place, str(exc), "Correct the stanza.")
        return
    timeout = max(each.timeout_seconds for each in compute(deployment).functions.values())
    for task in facts.tasks:
        limit = seconds_of(task.task.time_limit) or seconds_of(task.task.soft_time_limit)
        if limit and MAXIMUM_SECONDS >= limit > timeout:
            yield task.finding(
                "function-limits",
                Grade.RED,
                f"The task's limit is {shown_seconds(limit)}, and the function's time-out "
                f"{shown_seconds(timeout)}: the invocation ends first.",
                "Raise the timeout in the stanza, or lower the task's limit.",
            )


@registry.rule("record-life", "A record that is forgotten too early")
def record_life(facts: Facts) -> Iterator[Finding]:
    """`lambda_idempotency_ttl_seconds` is shorter than a copy of a message can live.

    That is: the queue's retention twice, and the dead-letter queue's once. A message that comes
    from the dead-letter queue after its record is gone runs again. Leave the setting out, or set
    it to that and a day.
    """
    stanza = facts.stanza
    retention = _number(stanza, "message_retention_seconds", _DEFAULTS.message_retention_seconds)
    parked = _number(
        stanza, "dlq_message_retention_seconds", _DEFAULTS.dlq_message_retention_seconds
    )
    # A day less than what is deployed with it.
    needed = record_life_seconds(int(retention), int(parked)) - SECONDS_PER_DAY
    lives = {"lambda_idempotency_ttl_seconds": facts.settings.idempotency_ttl_seconds} | {
        f"lambda_queues[{name!r}]": queue.idempotency_ttl_seconds
        for name, queue in facts.settings.queues.items()
    }
    for setting, life in lives.items():
        if life is not None and life < needed:
            yield Finding(
                "record-life",
                Grade.AMBER,
                setting,
                f"A record lives {shown_seconds(life)}, but a message up to "
                f"{shown_seconds(needed)} with these retentions: what is redriven late runs again.",
                f"Leave it out, or set {needed + SECONDS_PER_DAY}.",
            )
    if retention > parked:
        yield Finding(
            "record-life",
            Grade.AMBER,
            f"[tool.{STANZA}] dlq_message_retention_seconds",
            "The dead-letter queue keeps messages for less time than the queue, and their age "
            "counts on: some are deleted as soon as they are parked.",
            "Set it to 1209600, which is 14 days.",
        )


@registry.rule("backoff-order", "Back-off that contradicts itself")
def backoff_order(facts: Facts) -> Iterator[Finding]:
    """The back-off's begin is above its end, or the reserve leaves a task no time.

    `lambda_retry_backoff_seconds` is the first delay after a failure, and
    `lambda_retry_backoff_max_seconds` the longest. A task's soft limit of less than
    `lambda_time_reserve_seconds` is fine.
    """
    settings = facts.settings
    if settings.retry_backoff_seconds > settings.retry_backoff_max_seconds:
        yield Finding(
            "backoff-order",
            Grade.AMBER,
            "lambda_retry_backoff_seconds",
            f"The first delay ({shown_seconds(settings.retry_backoff_seconds)}) is longer than the "
            f"longest ({shown_seconds(settings.retry_backoff_max_seconds)}).",
            "Raise lambda_retry_backoff_max_seconds.",
        )


@registry.rule("database-connections", "More environments than database connections")
def database_connections(facts: Facts) -> Iterator[Finding]:
    """Environments, times processes, times what each connects is more than a server takes.

    For each database alias, a process of an environment has a connection for each task at once.
    With `OPTIONS["pool"]` its tasks share the pool's: up to `max_size`, 4 if nothing is said.
    PostgreSQL takes 100 unless it is told otherwise, and Lambda starts as many environments as
    `maximum_concurrency` allows, or as the account does if it says nothing. Lower it, raise the
    server's limit, or put RDS Proxy or PgBouncer between.
    """
    found = databases()
    if not found:
        return
    environments = _number(facts.stanza, "maximum_concurrency", 10)
    processes = max(facts.settings.processes, 1)
    tasks = facts.settings.most_concurrency
    each_process = sum(_connections(each, tasks) for each in found.values())
    most = environments * processes * each_process
    if most > _USUAL_CONNECTIONS:
        yield Finding(
            "database-connections",
            Grade.AMBER,
            "DATABASES",
            f"{environments:g} environments hold up to {most:,.0f} connections: {each_process} for "
            "each process.",
            "Lower maximum_concurrency or a pool's max_size, raise the server's limit, or use RDS "
            "Proxy.",
        )


def _connections(database: Mapping[str, Any], tasks: int) -> int:
    """Return how many connections a process has to *database*, with so many *tasks* at once."""
    if not (pool := (database.get("OPTIONS") or {}).get("pool")):
        return tasks
    sizes = pool if isinstance(pool, Mapping) else {}
    most: int = sizes.get("max_size") or sizes.get("min_size", _USUAL_POOL)
    return most
