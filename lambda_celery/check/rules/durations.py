"""How long a task may take, or waits."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from lambda_celery.check.bodies import Call
from lambda_celery.check.facts import Facts
from lambda_celery.check.model import Finding, Grade, registry
from lambda_celery.check.rules.finding import (
    MAXIMUM_SECONDS,
    option_place,
    seconds_of,
    shown_seconds,
    task_calls,
)

_MANAGED = "On Lambda Managed Instances a function may take 90 minutes."
_LONG_SLEEP_SECONDS = 10
_SLEEPS = ("time.sleep", "asyncio.sleep", "gevent.sleep", "eventlet.sleep", "trio.sleep",
           "anyio.sleep")  # fmt: skip
_HTTP = ("get", "post", "put", "patch", "delete", "head", "options", "request")
_WITHOUT_TIMEOUT = (
    *(f"requests.{verb}" for verb in _HTTP),
    *(f"requests.api.{verb}" for verb in _HTTP),
    *(f"requests.Session().{verb}" for verb in _HTTP),
    *(f"requests.session().{verb}" for verb in _HTTP),
    *(f"requests.sessions.Session().{verb}" for verb in _HTTP),
    "urllib.request.urlopen", "smtplib.SMTP", "smtplib.SMTP_SSL", "ftplib.FTP",
    "socket.create_connection", "imaplib.IMAP4", "imaplib.IMAP4_SSL", "poplib.POP3",
    "telnetlib.Telnet", "http.client.HTTPConnection", "http.client.HTTPSConnection",
)  # fmt: skip
#: Where the time-out is when it is given by its position.
_TIMEOUT_POSITION = {"urlopen": 2, "create_connection": 1, "SMTP": 3, "FTP": 4}


@registry.rule("time-limit", "A time limit of more than 15 minutes")
def time_limit(facts: Facts) -> Iterator[Finding]:
    """A `time_limit` or `soft_time_limit` of more than 900 s, of the task or in the settings.

    Lambda ends an invocation after 15 minutes at most (90 on Lambda Managed Instances). A task
    that needs longer is interrupted, comes back, and never ends. Split it into a chain or a
    group of shorter tasks, or let it stay on a worker with `lambda_celery=False`. Where it never
    takes that long, say so with a shorter limit.
    """
    conf = facts.app.conf
    for option in ("time_limit", "soft_time_limit"):
        setting = f"task_{option}"
        of_app = seconds_of(conf.get(setting))
        if of_app is not None and of_app > MAXIMUM_SECONDS:
            yield Finding(
                "time-limit",
                Grade.RED,
                setting,
                f"The setting {setting} allows {shown_seconds(of_app)}, but Lambda ends an "
                f"invocation after {MAXIMUM_SECONDS} s.",
                f"Set it to less than the function's time-out. {_MANAGED}",
            )
        for task in facts.tasks:
            limit = seconds_of(getattr(task.task, option, None))
            if limit is not None and limit > MAXIMUM_SECONDS:
                yield task.finding(
                    "time-limit",
                    Grade.RED,
                    f"The {option} is {shown_seconds(limit)}, but Lambda ends an invocation after "
                    f"{MAXIMUM_SECONDS} s: what takes longer never ends.",
                    "Split the task, keep it on a worker (lambda_celery=False), or lower the "
                    f"limit if it never takes that long. {_MANAGED}",
                    option_place(facts, task, option),
                )
    for site in facts.call_sites:
        for option in ("time_limit", "soft_time_limit"):
            limit = seconds_of(site.call.constant(site.options.get(option)))
            if limit is not None and limit > MAXIMUM_SECONDS:
                yield Finding(
                    "time-limit",
                    Grade.RED,
                    site.task,
                    f"The call gives a {option} of {shown_seconds(limit)}, but Lambda ends an "
                    f"invocation after {MAXIMUM_SECONDS} s.",
                    f"Lower it, or call a task that stays on a worker. {_MANAGED}",
                    site.call.place,
                )


@registry.rule("limit-order", "A soft limit that is not below the hard one")
def limit_order(facts: Facts) -> Iterator[Finding]:
    """A `soft_time_limit` that is as long as the `time_limit`, or longer, never strikes.

    Make it shorter, by the time that the task needs to tidy up.
    """
    for task in facts.tasks:
        soft = seconds_of(getattr(task.task, "soft_time_limit", None))
        hard = seconds_of(getattr(task.task, "time_limit", None))
        if soft and hard and soft >= hard:
            yield task.finding(
                "limit-order",
                Grade.AMBER,
                f"The soft_time_limit ({shown_seconds(soft)}) does not come before the time_limit "
                f"({shown_seconds(hard)}), so it never strikes.",
                "Make the soft limit shorter.",
                option_place(facts, task, "soft_time_limit"),
            )


@registry.rule("long-sleep", "A task that sleeps")
def long_sleep(facts: Facts) -> Iterator[Finding]:
    """A `sleep` of 10 s or more in a task; of more than 15 minutes it is red.

    Lambda's bill runs while a task sleeps, and its time-out comes nearer. Let the task end, and
    call itself or the next one with a `countdown`: waiting in the queue costs nothing.
    """
    for task, step, call in task_calls(facts, _SLEEPS):
        seconds = seconds_of(call.constant(call.argument(0, "secs") or call.keyword("delay")))
        if seconds is not None and seconds >= _LONG_SLEEP_SECONDS:
            is_too_long = seconds > MAXIMUM_SECONDS
            yield task.finding(
                "long-sleep",
                Grade.RED if is_too_long else Grade.AMBER,
                f"The task sleeps for {shown_seconds(seconds)}"
                + (", which is longer than an invocation." if is_too_long else ", and that costs."),
                "Use a countdown, or self.retry(countdown=…), in its place.",
                call.place,
                step,
            )


@registry.rule("polling-loop", "A loop that waits")
def polling_loop(facts: Facts) -> Iterator[Finding]:
    """A loop with a `sleep` in it, or a `while True:` without a way out.

    How long it takes depends on something else, and the invocation's end may come first. Let the
    task look once, and retry with a `countdown`: `raise self.retry(countdown=30)`.
    """
    for task in facts.tasks:
        for step in task.steps:
            sleeping = {id(call.node): call for call in step.body.calls if call.matches(_SLEEPS)}
            for loop in step.body.nodes:
                if not isinstance(loop, ast.While | ast.For | ast.AsyncFor):
                    continue
                inner = list(ast.walk(loop))
                sleeps: list[Call] = [sleeping[id(n)] for n in inner if id(n) in sleeping]
                is_endless = (
                    isinstance(loop, ast.While)
                    and isinstance(loop.test, ast.Constant)
                    and bool(loop.test.value)
                    and not any(isinstance(n, ast.Break | ast.Return | ast.Raise) for n in inner)
                )
                if sleeps or is_endless:
                    what = (
                        f"A loop waits with {sleeps[0].text}()"
                        if sleeps
                        else "A loop has no way out"
                    )
                    yield task.finding(
                        "polling-loop",
                        Grade.AMBER,
                        f"{what}, so the invocation's end may come before the loop's.",
                        "Look once, and come back by self.retry(countdown=…).",
                        step.body.source.place(loop.lineno),
                        step,
                    )


@registry.rule("no-timeout", "A connection without a time-out")
def no_timeout(facts: Facts) -> Iterator[Finding]:
    """A request or a connection that waits for ever: `requests.get(url)` without `timeout=`.

    On a worker it blocks one process. On Lambda it is paid for until the invocation's end, and
    takes the batch's other messages with it. Give it a `timeout`.
    """
    for task, step, call in task_calls(facts, _WITHOUT_TIMEOUT):
        position = _TIMEOUT_POSITION.get(call.attribute)
        is_given = (
            call.keyword("timeout") is not None
            or any(each.arg is None for each in call.node.keywords)
            or (position is not None and len(call.node.args) > position)
        )
        if not is_given:
            yield task.finding(
                "no-timeout",
                Grade.AMBER,
                f"{call.text}() has no time-out: if the other side is silent, it waits until the "
                "invocation's end.",
                "Give it timeout=…, shorter than the task may take.",
                call.place,
                step,
            )
