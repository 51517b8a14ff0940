"""The settings of the queue in memory: the project's own, and what a test has chosen."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from celery import Celery

from lambda_celery.conf import Settings
from lambda_celery.exceptions import ConfigurationError
from lambda_celery.testing.aws import REGION

_ACCOUNT = "000000000000"
#: What the queue in memory has one way of: all is on, one by one, in this process, and hops.
_HELD = frozenset(
    {
        "async_concurrency", "concurrency", "enabled", "endpoint_url", "processes",
        "report_batch_item_failures", "schedule_group", "schedule_role_arn",
    }
)  # fmt: skip


def settings_in_memory(app: Celery, chosen: Mapping[str, Any]) -> Settings:
    """Return the settings of *app* as its tests have them: all on, and nothing at random.

    :param chosen: by a test, by their names; each is read as it is from the configuration, but
        for ``None``: not set.
    :raises ConfigurationError: one is no setting, or cannot be chosen, or has a value that is none
        for it.
    """
    return replace(_in_memory(Settings.from_app(app)), **_read(chosen))


def _read(chosen: Mapping[str, Any]) -> dict[str, Any]:
    parsers = {each.name: each.metadata["parse"] for each in fields(Settings)}
    values: dict[str, Any] = {}
    for name, value in chosen.items():
        if name not in parsers:
            close = difflib.get_close_matches(_plain(name), parsers, 1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise ConfigurationError(
                f"{name} is neither a setting of Lambda Celery by its name without a prefix, nor "
                f"max_receive_count or timeout_seconds.{hint}"
            )
        if name in _HELD:
            raise ConfigurationError(
                f"{name} cannot be chosen for a test: its queue is in memory, and tasks run one by "
                "one in this process. Leave it out."
            )
        try:
            values[name] = None if value is None else parsers[name](value)
        except (TypeError, ValueError) as exc:
            raise ConfigurationError(f"{name} is {value!r}, but must be {exc}.") from exc
    return values


def _plain(name: str) -> str:
    """Return *name* without what is before it elsewhere."""
    return name.lower().removeprefix("celery_").removeprefix("lambda_").removeprefix("celery_")


def _in_memory(settings: Settings) -> Settings:
    """Return the *settings* of a project as its tests have them: all on, and nothing at random."""
    region = settings.aws_region or REGION
    url = f"https://sqs.{region}.amazonaws.com/{_ACCOUNT}/celery"
    return replace(
        settings,
        enabled=True,
        queue_url=settings.queue_url or (None if settings.queues else url),
        function=settings.function or "lambda-celery",
        idempotency_table=settings.idempotency_table or "lambda-celery",
        payload_bucket=settings.payload_bucket or "lambda-celery-payloads",
        region=region,
        endpoint_url=None,
        fast_requests=False,
        retry_jitter=False,
        # One task at a time, on the test's thread and its database connections.
        concurrency=1,
        async_concurrency=1,
        processes=0,
        report_batch_item_failures=True,
        log_format="text",
        metrics_namespace="",
        # What is far off hops through the queue.
        schedule_group=None,
        schedule_role_arn=None,
    )
