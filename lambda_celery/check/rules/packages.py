"""Packages for Celery that rest on a worker, and locks that are held while a task runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lambda_celery.check.facts import Facts
from lambda_celery.check.model import Finding, Grade, registry
from lambda_celery.check.rules.finding import task_calls

_LOCKS = (
    "django.core.cache.cache.add", "django.core.cache.caches[].add",
    "django.core.cache.cache.lock", "django.core.cache.caches[].lock", "redis.*.lock",
    "redis.lock.Lock", "redis_lock.*", "redlock.*", "pottery.*", "redis.*.set_nx", "redis.*.setnx",
    "django_redis.*.lock", "pymemcache.*.add", "pylibmc.*.add", "sherlock.*", "celery_once.*",
    "django_pglocks.advisory_lock",
)  # fmt: skip


def _bases(task: Any) -> set[str]:
    return {(each.__module__ or "").partition(".")[0] for each in type(task).__mro__}


@registry.rule("celery-batches", "celery-batches")
def celery_batches(facts: Facts) -> Iterator[Finding]:
    """The task's base is `Batches` of celery-batches.

    It gathers messages in a worker's consumer, which the function does not have: the task would
    be called with arguments that it does not expect. Publish one task with a list, or use
    `chunks`. The event source mapping makes batches of messages for the function by itself.
    """
    for task in facts.tasks:
        if "celery_batches" in _bases(task.task):
            yield task.finding(
                "celery-batches",
                Grade.RED,
                "celery-batches lives in a worker's consumer, which the function does not have.",
                "Publish one task with a list, or use chunks.",
            )


@registry.rule("once-lock", "celery-once and celery-singleton")
def once_lock(facts: Facts) -> Iterator[Finding]:
    """The task's base is celery-once's `QueueOnce` or celery-singleton's `Singleton`.

    They take a lock when the task is called, and release it when it has ended. The function must
    reach the Redis that has the lock. A task that a dead process leaves behind keeps it until its
    time-out, and so does one that waits for its next attempt. celery-once's file back end is
    red. `idempotency_key` is the function's own way: a call runs once for each key. What
    `lambda_celery.batch()` drops has its lock released by `on_dropped`.
    """
    for task in facts.tasks:
        packages = {"celery_once", "celery_singleton"} & _bases(task.task)
        if not packages:
            continue
        package = sorted(packages)[0].replace("_", "-")
        once = (facts.app.conf.get("ONCE") or {}) if package == "celery-once" else {}
        is_file = "file" in str(once.get("backend", "")).lower()
        yield task.finding(
            "once-lock",
            Grade.RED if is_file else Grade.AMBER,
            f"{package} keeps its lock in a file, which no other environment sees."
            if is_file
            else f"{package} holds a lock from the call to the task's end, over all its attempts.",
            "Use idempotency_key, or give the lock a time-out that fits the queue's attempts.",
        )


@registry.rule("held-lock", "A lock that is held while the task runs")
def held_lock(facts: Facts) -> Iterator[Finding]:
    """A task takes a lock in the cache or in Redis: `cache.add`, `cache.lock`, `redis.lock`.

    A process that Lambda ends (time-out, memory) does not release it. The message comes back
    meanwhile, finds the lock, and a task that then returns is lost. Give the lock a time-out a
    little above the function's, and raise or retry where it is taken. "Once per order" is
    `idempotency_key`; "one at a time" is a FIFO queue's message group.
    """
    patterns = (*_LOCKS,)
    for task, step, call in task_calls(facts, patterns, ("lock",)):
        if call.attribute == "lock" and not call.matches(patterns):
            written = call.text.lower()
            if not any(each in written for each in ("redis", "cache", "client", "conn")):
                continue
        yield task.finding(
            "held-lock",
            Grade.AMBER,
            f"{call.text}() takes a lock, which stays when Lambda ends the process.",
            "Give it a time-out, and retry where it is taken; or use idempotency_key.",
            call.place,
            step,
        )
