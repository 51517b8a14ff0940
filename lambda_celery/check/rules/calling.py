"""How tasks are called: when, with which options, and with what."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator

from celery import Task

from lambda_celery.check.facts import CallSite, Facts
from lambda_celery.check.model import Finding, Grade, registry
from lambda_celery.check.rules.finding import (
    option_place,
    queue_of,
    seconds_of,
    shown_seconds,
)
from lambda_celery.exceptions import ConfigurationError
from lambda_celery.message import is_fifo

_HOP_SECONDS = 900
_CALL_OPTIONS = {
    "args", "kwargs", "task_id", "producer", "link", "link_error", "shadow", "countdown", "eta",
    "expires", "retry", "retry_policy", "queue", "exchange", "routing_key", "priority",
    "serializer", "compression", "add_to_parent", "publisher", "headers", "time_limit",
    "soft_time_limit", "connection", "ignore_result", "immutable", "reply_to", "root_id",
    "parent_id", "group_id", "group_index", "chord", "argsrepr", "kwargsrepr",
    "replaced_task_nesting",
    "stamped_headers", "stamps", "router", "result_cls", "route_name", "delivery_mode", "mandatory",
    "immediate", "content_type", "content_encoding", "declare", "expiration", "retries",
    "MessageGroupId", "MessageDeduplicationId", "MessageAttributes", "message_properties",
    "exchange_type", "origin", "periodic_task_name", "user_id", "app", "options", "properties",
    "correlation_id", "timeout", "timestamp", "once", "confirm_timeout",
}  # fmt: skip
_TASK_OPTIONS = {
    *(name for name in vars(Task) if not name.startswith("_")),
    "autoretry_for", "dont_autoretry_for", "retry_kwargs", "retry_backoff", "retry_backoff_max",
    "retry_jitter", "pydantic", "pydantic_strict", "pydantic_context", "pydantic_dump_kwargs",
    "queue", "exchange", "routing_key", "exchange_type", "delivery_mode", "mandatory",
    "immediate", "compression", "lambda_celery", "idempotency_key", "idempotency_ttl_seconds",
    "once", "unique_on", "lock_expiry", "raise_on_duplicate", "run_every", "options", "shadow",
    "description", "flush_every", "flush_interval", "delay_many", "apply_async_many", "adelay",
    "aapply_async", "store_eager_result", "link_error", "base", "abstract",
}  # fmt: skip


def _when(site: CallSite, option: str) -> float | None:
    return seconds_of(site.call.constant(site.options.get(option)))


@registry.rule("countdown", "Countdowns and ETAs")
def countdown(facts: Facts) -> Iterator[Finding]:
    """A call or a retry has a `countdown` or an `eta`.

    Up to 15 minutes SQS holds the message: nothing is said. What is longer, or cannot be told,
    is a green note: it travels in hops of 900 s, each a message received and sent, or by a
    one-time schedule where `lambda_schedule_group` and `lambda_schedule_role_arn` are set. More
    than ten hops without these two are amber. On a FIFO queue a countdown is refused, but for a
    retry's: red. So is what is later than `lambda_maximum_delay_seconds`, 366 days.
    """
    settings = facts.settings
    has_scheduler = bool(settings.schedule_group and settings.schedule_role_arn)
    for site in facts.call_sites:
        given = [each for each in ("countdown", "eta") if each in site.options]
        if not given or (
            site.options[given[0]].__class__ is ast.Constant
            and (getattr(site.options[given[0]], "value", 0) is None)
        ):
            continue
        option = given[0]
        seconds = _when(site, option) if option == "countdown" else _until(site)
        if _is_fifo(facts, site) and seconds != 0 and site.call.attribute != "retry":
            yield Finding(
                "countdown",
                Grade.RED,
                site.task,
                f"The call has a {option}, which is refused on a FIFO queue.",
                "Use a standard queue for it, or let the task be called later.",
                site.call.place,
            )
        elif seconds is not None and seconds > settings.maximum_delay_seconds:
            yield Finding(
                "countdown",
                Grade.RED,
                site.task,
                f"The {option} is {shown_seconds(seconds)} away, and what is later than "
                f"{shown_seconds(settings.maximum_delay_seconds)} is refused.",
                "Raise lambda_maximum_delay_seconds, or keep the date in the database.",
                site.call.place,
            )
        elif seconds is None and site.call.attribute == "retry":
            continue  # back-off, most often
        elif (seconds is None or seconds > _HOP_SECONDS) and not has_scheduler:
            is_long = seconds is not None and seconds > 10 * _HOP_SECONDS
            hops = f"{-(-seconds // _HOP_SECONDS):,.0f} hops" if seconds else "hops"
            yield Finding(
                "countdown",
                Grade.AMBER if is_long else Grade.GREEN,
                site.task,
                f"The {option} travels in {hops} of {_HOP_SECONDS} s through the queue"
                + (
                    ", each of them a message received and sent."
                    if seconds is not None
                    else " where it is longer than 15 minutes."
                ),
                "Set lambda_schedule_group and lambda_schedule_role_arn for a one-time schedule."
                if is_long
                else "Nothing is to be done; EventBridge Scheduler can take its place.",
                site.call.place,
            )


def _until(site: CallSite) -> float | None:
    """Return in how many seconds an ``eta=now() + timedelta(…)`` is due."""
    node = site.options["eta"]
    if isinstance(node, ast.Name):
        assigned = site.call.body.assigned.get(node.id, [])
        node = assigned[0] if len(assigned) == 1 else node
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return seconds_of(site.call.constant(node.right)) or seconds_of(
            site.call.constant(node.left)
        )
    return None


def _is_fifo(facts: Facts, site: CallSite) -> bool:
    queue = site.call.constant(site.options.get("queue"))
    if isinstance(queue, str):
        return _is_fifo_queue(facts, queue)
    return _goes_to_fifo(facts, facts.app.tasks.get(site.task) if site.task else None)


def _goes_to_fifo(facts: Facts, task: Task | None) -> bool:
    name = queue_of(facts, task) if task is not None else None
    return _is_fifo_queue(facts, name or str(facts.app.conf.task_default_queue))


def _is_fifo_queue(facts: Facts, queue: str) -> bool:
    stanza = facts.stanza.get("queues")
    of_stanza = stanza.get(queue, {}) if isinstance(stanza, dict) else {}
    if isinstance(of_stanza, dict) and of_stanza.get("fifo"):
        return True
    try:
        return is_fifo(facts.settings.url_of(queue))
    except ConfigurationError:
        return is_fifo(queue)


@registry.rule("expires", "Expiry")
def expires(facts: Facts) -> Iterator[Finding]:
    """A call or a task `expires`. That works: what comes too late is REVOKED.

    A green note says so. It is red where the `countdown` is not before the expiry, since then the
    task never runs, and amber below 60 s: a cold start and a retry take time as well.
    """
    for task in facts.tasks:
        seconds = seconds_of(task.options.get("expires"))
        if task.options.get("expires") is not None:
            yield task.finding(
                "expires",
                Grade.AMBER if seconds is not None and seconds < 60 else Grade.GREEN,
                f"The task expires{f' after {shown_seconds(seconds)}' if seconds else ''}; what "
                "comes too late is revoked.",
                "Nothing is to be done if a cold start and the queue's age fit into that.",
                option_place(facts, task, "expires"),
            )
    for site in facts.call_sites:
        node = site.options.get("expires")
        if node is None or (isinstance(node, ast.Constant) and node.value is None):
            continue
        seconds, delay = _when(site, "expires"), _when(site, "countdown")
        if seconds is not None and delay is not None and seconds <= delay:
            grade, sentence = (
                Grade.RED,
                "The call expires before its countdown ends: it never runs.",
            )
        elif seconds is not None and seconds < 60:
            grade = Grade.AMBER
            sentence = f"The call expires after {shown_seconds(seconds)}: a cold start takes some."
        else:
            grade, sentence = Grade.GREEN, "The call expires; what comes too late is revoked."
        yield Finding(
            "expires",
            grade,
            site.task,
            sentence,
            "Let it expire later." if grade else "Nothing is to be done.",
            site.call.place,
        )


@registry.rule("rate-limit", "Rate limits")
def rate_limit(facts: Facts) -> Iterator[Finding]:
    """A task has a `rate_limit`, or the settings a default one.

    On a worker it holds in each worker; here it holds for all environments together, and
    takes a read of the table for each task. Multiply it by the workers that you had, if that
    was meant. A limit changed at run time by remote control does not reach the function. On a FIFO
    queue a call of such a task is refused: red.
    """
    default = facts.app.conf.task_default_rate_limit
    for task in facts.tasks:
        limit = task.task.rate_limit
        if limit:
            if _goes_to_fifo(facts, task.task):
                yield task.finding(
                    "rate-limit",
                    Grade.RED,
                    f"The task has the rate_limit {limit!r}, and a call to a FIFO queue with one "
                    "is refused.",
                    "Send it to a standard queue.",
                    option_place(facts, task, "rate_limit"),
                )
                continue
            of_whom = " by task_default_rate_limit" if limit == default else ""
            yield task.finding(
                "rate-limit",
                Grade.AMBER,
                f"The rate_limit {limit!r}{of_whom} holds for all environments together, not for "
                "each worker.",
                "Multiply it by the workers that you have, if each was meant to do as many.",
                option_place(facts, task, "rate_limit"),
            )


@registry.rule("unknown-option", "An option that looks like a typo")
def unknown_option(facts: Facts) -> Iterator[Finding]:
    """A task's decorator or a call has an option that Celery does not know.

    Celery makes an attribute of it, or a property of the message, and says nothing: so
    `time_limt=60` is no limit. Amber, with the option that it is like.
    """
    for task in facts.tasks:
        for option in _declared_options(task.task):
            if option in _TASK_OPTIONS or option.startswith("_"):
                continue
            close = difflib.get_close_matches(option, _TASK_OPTIONS, 1, 0.75)
            if close:
                yield task.finding(
                    "unknown-option",
                    Grade.AMBER,
                    f"The option {option} is none of Celery's. It looks like {close[0]}.",
                    f"Write {close[0]}, if that is meant.",
                    option_place(facts, task, option),
                )
    for site in facts.call_sites:
        if site.call.attribute not in ("apply_async", "aapply_async", "send_task"):
            continue
        for option, node in site.options.items():
            if option in _CALL_OPTIONS or option == "name":
                continue
            close = difflib.get_close_matches(option, _CALL_OPTIONS, 1, 0.75)
            hint = f" It looks like {close[0]}." if close else ""
            yield Finding(
                "unknown-option",
                Grade.AMBER,
                site.task,
                f"The option {option} of the call is none of Celery's.{hint}",
                f"Write {close[0]}, if that is meant."
                if close
                else "Arguments of the task go into args and kwargs.",
                site.call.body.source.place(node.lineno),
            )


def _declared_options(task: Task) -> list[str]:
    """Return the options in the decorator of *task*: attributes of the class that it has made."""
    cls = type(task)
    if "_decorated" not in vars(cls):
        return []
    return [
        name
        for name, value in vars(cls).items()
        if not name.startswith("__") and not callable(value)
    ]


@registry.rule("retry-policy", "Retries without an end")
def retry_policy(facts: Facts) -> Iterator[Finding]:
    """`max_retries=None`, or more than `lambda_maximum_retries`.

    Each retry is a new message and an invocation, so what never ends costs for ever: amber. A
    retry number above `lambda_maximum_retries` (100,000) is unreadable, and its message goes to
    the dead-letter queue: red.
    """
    for task in facts.tasks:
        most = task.task.max_retries
        given = task.options.get("retry_kwargs")
        if isinstance(given, dict) and "max_retries" in given:
            most = given["max_retries"]
        retries = task.options.get("autoretry_for") or any(
            call.attribute == "retry" for _, call in task.calls
        )
        if most is None and retries:
            yield task.finding(
                "retry-policy",
                Grade.AMBER,
                "max_retries is None: the task is tried for ever, and each time costs.",
                "Set a number, so that the message ends in the dead-letter queue.",
                option_place(facts, task, "max_retries"),
            )
        elif isinstance(most, int) and most > facts.settings.maximum_retries:
            yield task.finding(
                "retry-policy",
                Grade.RED,
                f"max_retries is {most:,}, and the retry {facts.settings.maximum_retries + 1:,} is "
                "not read.",
                "Lower it, or raise lambda_maximum_retries.",
                option_place(facts, task, "max_retries"),
            )


_OBJECTS = ("get", "create", "get_or_create", "first", "last", "latest", "earliest", "filter",
            "all", "exclude", "select_related", "get_object_or_404")  # fmt: skip


@registry.rule("object-argument", "An object as an argument")
def object_argument(facts: Facts) -> Iterator[Finding]:
    """A call passes a model's instance, a queryset, an uploaded file or the request.

    JSON cannot carry it, so the call fails; pickle carries a copy, which may be out of date when
    the task runs, needs the same code on both sides, and may be too large for SQS. An uploaded
    file in a temporary file is not there in the function. Pass the primary key, or the
    name in the storage.
    """
    for site in facts.call_sites:
        if site.call.attribute in ("delay", "s", "si", "adelay", "delay_on_commit"):
            arguments = [*site.call.node.args, *(k.value for k in site.call.node.keywords)]
        elif site.call.attribute in ("apply_async", "aapply_async", "send_task"):
            arguments = []
            given = [*site.call.node.args, site.options.get("args"), site.options.get("kwargs")]
            for each in given:
                if isinstance(each, ast.List | ast.Tuple):
                    arguments += each.elts
                elif isinstance(each, ast.Dict):
                    arguments += each.values
        else:
            continue
        for argument in arguments:
            if what := _object(site, argument):
                yield Finding(
                    "object-argument",
                    Grade.AMBER,
                    site.task,
                    f"The argument {ast.unparse(argument)} is {what}, which JSON cannot carry.",
                    "Pass its primary key, or the file's name in the storage.",
                    site.call.place,
                )


def _object(site: CallSite, node: ast.expr) -> str | None:
    text = ast.unparse(node)
    if text in ("request", "self.request", "info.context"):
        return "the request"
    if text in ("request.user", "self.request.user"):
        return "a user"
    if "request.FILES" in text or text.endswith((".FILES", "UploadedFile")):
        return "an uploaded file"
    if isinstance(node, ast.Name):
        for assigned in site.call.body.assigned.get(node.id, []):
            if what := _object(site, assigned):
                return what
        return None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        written = ast.unparse(node.func)
        if ".objects." in written and node.func.attr in _OBJECTS:
            many = node.func.attr in ("filter", "all", "exclude", "select_related")
            return "a queryset" if many else "a model's instance"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return "a model's instance" if node.func.id == "get_object_or_404" else None
    return None
