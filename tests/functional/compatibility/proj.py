"""The project whose tasks the suite runs: on Lambda, on a worker, and published by the tests.

Its configuration comes from the environment, as JSON. Tasks leave a trace in Redis
under a key of the test's own, so that a test can wait for runs, count them and see
their order.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import redis
from celery import Celery, Task, chord, current_task, group, signals
from celery.exceptions import Ignore, MaxRetriesExceededError, Reject, SoftTimeLimitExceeded
from kombu.serialization import register
from pydantic import BaseModel

from lambda_celery import install

register(
    "shouting",
    lambda value: json.dumps(value).upper(),
    lambda text: json.loads(text.lower()),
    content_type="application/x-shouting",
    content_encoding="utf-8",
)


class TracedTask(Task):
    """A base class that traces its hooks under the task's first argument."""

    def before_start(self, task_id, args, kwargs):
        note(args[0], "before_start")

    def __call__(self, *args, **kwargs):
        note(args[0], "__call__")
        return super().__call__(*args, **kwargs)

    def on_success(self, retval, task_id, args, kwargs):
        note(args[0], f"on_success {retval}")

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        note(args[0], f"on_failure {exc}")

    def on_retry(self, exc, task_id, args, kwargs, einfo):
        note(args[0], f"on_retry {einfo.exception.exc.when:g}")

    def after_return(self, status, retval, task_id, args, kwargs, einfo):
        note(args[0], f"after_return {status}")


class TenantTask(Task):
    """The app's own task class: each call says which tenant it is of."""

    tenant = "acme"

    def apply_async(self, args=None, kwargs=None, **options):
        headers = {"x-tenant": self.tenant} | (options.pop("headers", None) or {})
        return super().apply_async(args, kwargs, headers=headers, **options)


class App(Celery):
    task_cls = TenantTask


config = json.loads(os.environ["PROJ_CONFIG"])
app = App("proj")
app.conf.update(config)
if config["task_serializer"] == "auth":
    app.setup_security()
if "lambda_queue_url" in config:
    install(app)

# Without a time-out of the socket's own: tasks wait in commands that have one.
_redis = redis.Redis.from_url(
    os.environ["PROJ_TRACE_URL"], decode_responses=True, socket_timeout=None
)


def note(key: str, value: Any) -> None:
    """Add *value*, which JSON can hold, to the trace under *key*."""
    _redis.rpush(f"trace:{key}", json.dumps(value))


def wait_for_go(key: str) -> None:
    """Wait until the test says that it has seen what it wanted to see of a running task."""
    assert _redis.blpop([f"go:{key}"], timeout=20), f"the test never said go to {key}"


def task(*, acks_failure=True, **options):
    """Declare a task of this app alone, under the name ``proj.FUNCTION``.

    Its failures are acknowledged, which on a worker is the default.
    """
    if acks_failure:
        options["acks_on_failure_or_timeout"] = True
    options.setdefault("default_retry_delay", 0)

    def declare(function):
        return app.task(name=f"proj.{function.__name__}", shared=False, **options)(function)

    return declare


# Plain tasks.


@task()
def add(x, y=0):
    return x + y


@task()
def tsum(numbers):
    return sum(numbers)


@task()
def echo(value):
    return value


@task()
def echo_type(value):
    return [type(value).__name__, value]


@task()
def write(key, value):
    note(key, value)
    return value


@task()
def write_result(value, key):
    note(key, value)
    return value


@task()
def fail(message="no such template"):
    raise ValueError(message)


@task(acks_failure=False)
def fail_undeclared(key):
    note(key, "ran")
    raise ValueError("no such template")


@task(throws=(KeyError,))
def throw():
    raise KeyError("expected")


@task(ignore_result=True)
def forgettable(key):
    note(key, "ran")
    return 1


@task(typing=False)
def untyped(x):
    return x


class Order(BaseModel):
    number: int
    item: str = "book"


@task(pydantic=True)
def order(order: Order) -> Order:
    return Order(number=order.number + 1, item=order.item.upper())


@task(bind=True, base=TracedTask)
def hooked(self, key, how):
    note(key, "body")
    if how == "fail":
        raise ValueError("bug")
    if how == "retry" and self.request.retries == 0:
        raise self.retry(countdown=0)
    return "done"


@task(bind=True)
def configured_task(self):
    return [self.rate_of_interest, self.ignore_result]


# Coroutine functions, which only an app has that is installed.


@task()
async def async_add(x, y=0):
    await asyncio.sleep(0)
    return x + y


@task(bind=True)
async def async_request(self, key):
    async def look():
        await asyncio.sleep(0)
        return [self.request.id, current_task.name]

    names = ("id", "root_id", "parent_id", "retries", "headers", "args", "kwargs")
    fields = {name: getattr(self.request, name) for name in names}
    note(key, {**fields, "children": await asyncio.gather(look(), look())})


@task(bind=True)
async def async_retry(self, key):
    note(key, self.request.retries)
    await asyncio.sleep(0)
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return "sent"


@task(bind=True, autoretry_for=(OSError,), dont_autoretry_for=(PermissionError,), max_retries=2)
async def async_autoretry(self, key, kind):
    note(key, self.request.retries)
    await asyncio.sleep(0)
    raise {"timeout": TimeoutError, "permission": PermissionError}[kind](kind)


@task(bind=True, base=TracedTask)
async def async_hooked(self, key, how):
    await asyncio.sleep(0)
    note(key, "body")
    if how == "fail":
        raise ValueError("bug")
    return "done"


@task(soft_time_limit=1)
async def async_waits():
    await asyncio.Event().wait()


@task()
async def async_cancelled():
    asyncio.current_task().cancel()
    await asyncio.sleep(0)


# What a task sees of its request.


@task(bind=True)
def request_fields(self, key=None):
    request = self.request
    fields = {
        name: getattr(request, name, None)  # one that is run eagerly has fewer
        for name in (
            "id", "root_id", "parent_id", "group", "retries", "hostname", "is_eager", "origin",
            "called_directly", "timelimit", "headers", "shadow", "argsrepr", "kwargsrepr",
            "args", "kwargs", "task", "lang", "expires", "eta", "reply_to", "correlation_id",
            "stamps", "stamped_headers", "ignore_result",
        )
    }  # fmt: skip
    delivery_info = request.delivery_info or {}
    for name in ("redelivered", "routing_key", "priority"):
        fields[name] = delivery_info.get(name)
    if key is not None:
        note(key, fields)
    return fields


@task(bind=True, queue="other")
def on_other_queue(self):
    return {"routing_key": self.request.delivery_info["routing_key"]}


@task(bind=True)
def stamps(self, value=None):
    request = self.request
    return {name: request.stamps.get(name) for name in request.stamped_headers or ()}


# Retries.


@task(bind=True)
def retry_with(self, key, how, times=1):
    """Retry with the options *how*, *times* times."""
    note(key, [self.request.retries, self.request.headers])
    if self.request.retries < times:
        options = dict(how)
        if (seconds := options.pop("eta_in", None)) is not None:
            options["eta"] = datetime.now(UTC) + timedelta(seconds=seconds)
        raise self.retry(**options)
    return self.request.retries


@task(bind=True)
def retry_changed(self, key, value, word="first"):
    note(key, [self.request.id, value, word])
    if self.request.retries == 0:
        raise self.retry(args=(key, value + 1), kwargs={"word": "second"})
    return value


@task(bind=True)
def retry_on(self, key):
    """Go on after ``retry(throw=False)``."""
    note(key, self.request.retries)
    if self.request.retries == 0:
        self.retry(throw=False, countdown=0)
        note(key, "went on")


@task(bind=True, ignore_result=True)
def send_all(self, key, addresses):
    """Retry each that failed by itself, as django-celery-email does."""
    if len(addresses) == 1:
        note(key, [self.request.id, *addresses])
        return
    for address in addresses:
        self.retry(args=(key, [address]), throw=False, countdown=0)


@task(bind=True, max_retries=None)
def retry_forever(self):
    if self.request.retries < 6:
        raise self.retry(countdown=0)
    return self.request.retries


@task(bind=True, max_retries=1)
def give_up(self, exc=None):
    raise self.retry(exc=exc and ConnectionError(exc), countdown=0)


@task(bind=True, max_retries=1)
def give_up_caught(self):
    try:
        raise self.retry(countdown=0)
    except MaxRetriesExceededError:
        return f"gave up after {self.request.retries}"


@task(bind=True, autoretry_for=(OSError,), dont_autoretry_for=(PermissionError,), max_retries=2)
def autoretry(self, key, kind):
    note(key, self.request.retries)
    raise {"timeout": TimeoutError, "permission": PermissionError, "value": ValueError}[kind](kind)


def backing_off(name, **options):
    """Declare a task that notes, in ``on_retry``, how long its retry is to wait."""

    @app.task(
        name=f"proj.{name}", shared=False, base=TracedTask, autoretry_for=(OSError,), **options
    )
    def body(key):
        raise OSError("451")

    return body


backoff = backing_off("backoff", retry_backoff=100, retry_jitter=False)
backoff_max = backing_off(
    "backoff_max", retry_backoff=100, retry_backoff_max=60, retry_jitter=False
)
backoff_jitter = backing_off("backoff_jitter", retry_backoff=100)
backoff_delay = backing_off("backoff_delay", default_retry_delay=70)
backoff_kwargs = backing_off("backoff_kwargs", retry_kwargs={"countdown": 50, "max_retries": 1})


@task(bind=True, acks_failure=False)
def raise_then_retry(self, key):
    """Raise at the first receive, retry at the second, return at the next message's first."""
    redelivered = self.request.delivery_info["redelivered"]
    note(key, [self.request.retries, redelivered])
    if self.request.retries == 0:
        if not redelivered:
            raise ValueError("once")
        raise self.retry(countdown=0)


# Canvas.


@task(bind=True)
def replace_by(self, how, x):
    """Replace itself by the signature, group or chord that adds one."""
    if how == "signature":
        raise self.replace(add.s(x, 1))
    members = add.s(x, 0), add.s(0, 1)
    if how == "group":
        raise self.replace(group(*members))
    raise self.replace(chord(members, tsum.s()))


@task(bind=True)
def join_chord(self, x):
    self.add_to_chord(add.s(x, 100))
    return x


@task()
def errback_old_style(failed_id, key):
    note(key, ["old", failed_id])


@task()
def errback_new_style(request, exc, traceback, key):
    note(key, ["new", request.id, str(exc), "ValueError" in str(traceback)])


@task(lambda_celery=False)
def stays(x):
    """A task that is not for SQS: its messages go to the app's own broker."""
    return x * 10


@task(bind=True, lambda_celery=False)
def stays_where(self, x):
    return [x, self.request.hostname]


# Results.


@task(track_started=True)
def tracked(key):
    note(key, "running")
    wait_for_go(key)
    return "done"


@task(bind=True)
def reports_progress(self, key):
    self.update_state(state="PROGRESS", meta={"done": 1, "of": 2})
    note(key, "half way")
    wait_for_go(key)
    return "all"


@task()
def waits():
    return add.delay(1, 2).get(timeout=5)


@task()
def exits():
    sys.exit("by mistake")


@task(bind=True)
def ignores(self, key):
    self.update_state(state="CUSTOM", meta={"left": "as it is"})
    note(key, "ran")
    raise Ignore


@task(bind=True, acks_late=True)
def late(self):
    return self.acks_late


@task(acks_late=True)
def rejects(key):
    note(key, "ran")
    raise Reject("no", requeue=False)


@task(bind=True, acks_late=True)
def rejects_once(self, key):
    redelivered = self.request.delivery_info["redelivered"]
    note(key, redelivered)
    if not redelivered:
        raise Reject("not now", requeue=True)
    return "done"


# Time limits.


@task(soft_time_limit=1)
def soft_limit(catch):
    try:
        signal.pause()
    except SoftTimeLimitExceeded:
        if catch:
            return "cleaned up"
        raise


@task(soft_time_limit=1)
def loop():
    while True:
        time.sleep(0.01)  # what waits in C for long is not interrupted on a thread


@task(time_limit=1)
def hard_limit():
    signal.pause()


@task()
def hang():
    signal.pause()


# Side by side.


@task(bind=True)
def meet(self, key, n):
    """Note where it runs, once the same key has been seen on the other side as well."""
    here, there = "worker", "lambda"
    if self.request.hostname.startswith("lambda@"):
        here, there = there, here
    _redis.rpush(f"arrived:{key}:{here}", n)
    there = f"arrived:{key}:{there}"
    assert _redis.blmove(there, there, timeout=20), f"nothing arrived on {there}"
    note(key, [here, n if isinstance(n, int) else len(n)])


# What a worker on SQS cannot do.


@task(rate_limit="4/s")
def limited(key, n):
    note(key, n)


@task(bind=True, idempotency_key=lambda key, order: (key, order), idempotency_ttl_seconds=3600)
def confirm(self, key, order):
    note(key, [order, self.request.retries])
    if self.request.retries == 0:
        raise self.retry(countdown=0)


@task(bind=True)
def urgent(self, key):
    note(key, self.request.delivery_info["routing_key"])
    if self.request.retries == 0:
        raise self.retry(countdown=0)


@task(acks_failure=False)
def in_order(key, n):
    """Fail once for each even number."""
    if n % 2 == 0 and _redis.incr(f"failed:{key}:{n}") == 1:
        raise ValueError("not yet")
    note(key, n)


# Signals, traced under the task's id.

HEARD = (
    "task_received", "task_prerun", "task_postrun", "task_success", "task_failure", "task_retry",
    "task_revoked",
)  # fmt: skip


@task(bind=True)
def heard(self, how):
    if how == "fail":
        raise ValueError("bug")
    if how == "retry" and self.request.retries == 0:
        raise self.retry(countdown=0)


def _trace_signal(name: str) -> None:
    def receiver(sender=None, request=None, task_id=None, **_: Any) -> None:
        task_name = getattr(sender, "name", None) or getattr(request, "name", None)
        if task_name == "proj.heard":
            note(task_id or (request or sender.request).id, name)

    getattr(signals, name).connect(receiver, weak=False)


# The publishing process has no part in these.
if os.environ.get("PROJ_RUNS_TASKS"):
    for _name in HEARD:
        _trace_signal(_name)


@app.task
def names_of(**kwargs):
    return sorted(kwargs)
