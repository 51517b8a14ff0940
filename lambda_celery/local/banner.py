"""What ``celery -A proj lambda local`` is told to do, and shows that it does."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from celery import Celery

from lambda_celery import __version__
from lambda_celery.celery_hooks.amqp import routing_of
from lambda_celery.celery_hooks.apps import is_nobodys
from lambda_celery.conf import CONF_PREFIX, ENV_PREFIX, Settings
from lambda_celery.django_doors import tasks_in_use
from lambda_celery.local.emulator import DEFAULT_PORT
from lambda_celery.local.endpoint import INVOKE_VARIABLE, Endpoint
from lambda_celery.local.function import DEFAULT_HANDLER, FUNCTION_NAME
from lambda_celery.local.provision import queue_name
from lambda_celery.publishing.routing import goes_to_sqs


@dataclass(frozen=True)
class LocalOptions:
    """The command's options; see ``celery lambda local --help``."""

    app_name: str
    handler: str = DEFAULT_HANDLER
    batch_size: int = 10
    batch_window_seconds: int = 0
    concurrency: int = 4
    timeout_seconds: int = 30
    per_execution_environment_max_concurrency: int | None = None
    max_receive_count: int | None = None
    writable: tuple[Path, ...] = ()
    reload: bool = False
    log_format: str = "json"
    no_color: bool = False
    port: int = DEFAULT_PORT
    dashboard_port: int | None = None
    invoke_port: int | None = None


def banner(
    app: Celery,
    configured: Settings,
    options: LocalOptions,
    endpoint: Endpoint,
    *,
    page: str,
    invoke_url: str,
) -> str:
    """Return what is shown at the start, in the manner of a worker's banner.

    Arguments:
        app: its task modules are imported.
        configured: the project's settings, as they are.
        options: the command's.
        endpoint: where the function runs, and with which settings.
        page: where the page of its figures is, or why it is nowhere; "" to say nothing of it.
        invoke_url: where the function is called as Lambda's Invoke API takes it.
    """
    whose = "ministack, ends with this command, with all messages"
    if not endpoint.emulated:
        whose = "configured"
    used = endpoint.settings
    per_environment = ""
    if (number := options.per_execution_environment_max_concurrency) is not None:
        per_environment = f", up to {number} in an environment (Lambda Managed Instances)"
    lines = [
        f"lambda local v{__version__}",
        "",
        "[config]",
        f".> app:         {options.app_name}",
        f".> handler:     {options.handler} (time-out {options.timeout_seconds} s)",
        f".> concurrency: {options.concurrency} processes{per_environment}; tasks at a time in "
        f"each: {used.concurrency}, asynchronous ones: {used.loop_concurrency}",
        f".> endpoint:    {endpoint.url} ({whose})",
        f".> invoke:      {invoke_url} (the function {FUNCTION_NAME})",
    ]
    if page:
        lines.append(f".> page:        {page}")
    for name in ("queue_url", "idempotency_table", "payload_bucket"):
        made, wanted = getattr(used, name), getattr(configured, name)
        if made and not wanted and not (name == "queue_url" and configured.queues):
            lines.append(f".> made up:     {made}, since {CONF_PREFIX}{name} is not set")
    lines += ["", "[queues]"]
    for url in used.queue_urls:
        lines.append(
            f".> {queue_name(url)} (batch size {options.batch_size}, "
            f"window {options.batch_window_seconds} s)"
        )
    if (dead_letters := used.dead_letter_queue_url) is not None:
        lines.append(f".> dead letters: {dead_letters}")
    lines += ["", "[tasks that go to SQS]", *(f"  . {name}" for name in _tasks_to_sqs(app))]
    if configured.tasks and routing_of(app) is None:
        lines.append(
            f"  {CONF_PREFIX}tasks is set, but nobody looks at it: add lambda_celery.django to "
            "INSTALLED_APPS, or call lambda_celery.install(app)."
        )
    exports = {**endpoint.exports, INVOKE_VARIABLE: invoke_url}
    if configured.function is None:
        exports[f"{ENV_PREFIX}FUNCTION"] = FUNCTION_NAME
    variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in exports.items())
    what = "publish to it, and to call it," if endpoint.exports else "call it"
    lines += ["", f"To {what} from another process:", f"  export {variables}"]
    return "\n".join([*lines, "", "Press Ctrl-C to stop."])


def _tasks_to_sqs(app: Celery) -> list[str]:
    in_use = tasks_in_use()
    names = sorted(n for n, task in app.tasks.items() if n in in_use or not is_nobodys(task))
    if str(app.conf.broker_transport or "").startswith("lambda_celery."):
        return names
    if routing_of(app) is None:
        return []
    return [name for name in names if goes_to_sqs(app, name)]
