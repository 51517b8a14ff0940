"""What lives in a worker's process, or talks to it."""

from __future__ import annotations

import inspect
import sys
import weakref
from collections.abc import Iterator
from types import FunctionType
from typing import Any

from celery import Task, signals

from lambda_celery.check.bodies import Call
from lambda_celery.check.facts import Facts
from lambda_celery.check.model import Finding, Grade, Place, registry
from lambda_celery.check.sources import is_of_project, place_of

_NEVER_SENT = (
    "worker_init", "worker_before_create_process", "worker_ready", "worker_shutting_down",
    "worker_shutdown", "worker_process_shutdown", "celeryd_init", "celeryd_after_setup",
    "beat_init", "beat_embedded_init", "heartbeat_sent", "eventlet_pool_started",
    "eventlet_pool_preshutdown", "eventlet_pool_postshutdown", "eventlet_pool_apply",
)  # fmt: skip
_CONTROL = ("inspect", "broadcast", "ping", "rate_limit", "time_limit", "pool_grow",
            "pool_shrink", "pool_restart", "autoscale", "shutdown", "add_consumer",
            "cancel_consumer", "enable_events", "disable_events", "terminate", "election",
            "purge", "discard_all", "heartbeat")  # fmt: skip
_WORKER_SETTINGS = {
    "worker_max_tasks_per_child": "Lambda ends environments when it likes",
    "worker_max_memory_per_child": "the function's memory is the limit",
    "worker_prefetch_multiplier": "the event source mapping's batch size takes its place",
    "worker_disable_prefetch": "the event source mapping's batch size takes its place",
    "worker_concurrency": "lambda_concurrency and MaximumConcurrency take its place",
    "worker_pool": "lambda_concurrency and lambda_processes take its place",
    "worker_autoscaler": "Lambda scales by itself",
    "worker_consumer": "there is no consumer",
}


@registry.rule("bootstep", "Bootsteps")
def bootstep(facts: Facts) -> Iterator[Finding]:
    """`app.steps` has bootsteps. They build a worker, so they do not run in the function.

    What they set up belongs in a receiver of `worker_process_init`, or at a module's top level.
    """
    for blueprint, steps in facts.app.steps.items():
        for step in sorted(steps, key=repr):
            yield Finding(
                "bootstep",
                Grade.AMBER,
                f"app.steps[{blueprint!r}]",
                f"The bootstep {getattr(step, '__name__', step)} does not run in the function.",
                "Move what tasks need of it to a receiver of worker_process_init.",
                _place(facts, step),
            )


@registry.rule("worker-signal", "Signals of a worker")
def worker_signal(facts: Facts) -> Iterator[Finding]:
    """The project listens to a `worker_*` signal that never comes, such as `worker_ready`.

    Of these `worker_process_init` alone is sent in the function, once in a process that runs
    tasks. `worker_shutdown` and `worker_process_shutdown` have no counterpart: Lambda ends an
    environment without a word. What is to be ready before the first task belongs in
    `worker_process_init`, or at the module's top level.
    """
    for name in _NEVER_SENT:
        for receiver in _receivers(getattr(signals, name, None)):
            yield Finding(
                "worker-signal",
                Grade.AMBER,
                name,
                f"{receiver.__qualname__}() listens to {name}, which is never sent in the "
                "function.",
                "Use worker_process_init, or do it where the module is imported.",
                place_of(receiver.__code__.co_filename, receiver.__code__.co_firstlineno),
            )


def _receivers(signal: Any) -> Iterator[FunctionType]:
    for _, reference in list(getattr(signal, "receivers", None) or ()):
        target = reference() if isinstance(reference, weakref.ref) else reference
        function = inspect.unwrap(target) if callable(target) else target
        function = getattr(function, "__func__", function)
        if isinstance(function, FunctionType) and is_of_project(function.__code__.co_filename):
            yield function


def _place(facts: Facts, step: Any) -> Place | None:
    # Not by inspect: the class of bootsteps gives them names with which it finds none.
    module = sys.modules.get(getattr(step, "__module__", ""))
    source = facts.sources.get(getattr(module, "__file__", None))
    node = source.classes.get(getattr(step, "__name__", "")) if source is not None else None
    return source.place(node.lineno) if source is not None and node is not None else None


@registry.rule("remote-control", "Remote control")
def remote_control(facts: Facts) -> Iterator[Finding]:
    """The project calls `app.control` or `inspect()`: there is no worker that could answer.

    In a task it is red, elsewhere amber: it reaches the workers that are left, and not the
    function. The queue's attributes and the function's metrics say what waits and what runs.
    `revoke` does reach the function, by the table, for what has not started; `terminate=True`
    does not. `rate_limit` at run time is the event source mapping's `MaximumConcurrency`, and
    `purge` is SQS's PurgeQueue.
    """
    for task in facts.tasks:
        for step, call in task.calls:
            if what := _controlled(call):
                yield task.finding(
                    "remote-control",
                    Grade.RED,
                    f"{call.text}() {what}",
                    "Use the queue's attributes and the function's metrics.",
                    call.place,
                    step,
                )
    for call in facts.project_calls:
        if what := _controlled(call):
            yield Finding(
                "remote-control",
                Grade.AMBER,
                None,
                f"{call.text}() {what}",
                "Use the queue's attributes and the function's metrics.",
                call.place,
            )


def _controlled(call: Call) -> str | None:
    written = call.text
    is_control = ".control." in f".{written}" and ("app" in written or "control." in written)
    named = any(
        name.startswith(("celery.app.control.", "celery.task.control.")) or ".control." in name
        for name in call.names
    )
    if call.attribute in _CONTROL and (is_control or named):
        return "asks workers, and the function is none: it has no answer."
    if call.attribute == "revoke" and call.constant(call.keyword("terminate")):
        return "cannot end a task that runs in the function; one that has not started is revoked."
    return None


@registry.rule("events", "Events")
def events(facts: Facts) -> Iterator[Finding]:
    """Events are switched on, or received: Flower, `app.events`, `task-sent`, `send_event`.

    The function sends none, and with the transport a receiver is refused. Celery's own task
    signals are sent, and the log lines are JSON with the task's name, id, retries and age.
    """
    conf = facts.app.conf
    for setting in ("worker_send_task_events", "task_send_sent_event"):
        if conf.get(setting):
            yield Finding(
                "events",
                Grade.AMBER,
                setting,
                f"The setting {setting} is on, but the function sends no events, and Flower does "
                "not see it.",
                "Use the log lines, the function's metrics, or Celery's task signals.",
            )
    patterns = ("celery.events.*", "*.events.Receiver", "*.events.State", "*.events.Dispatcher")
    for task in facts.tasks:
        for step, call in task.calls:
            if call.attribute == "send_event" or call.matches(patterns):
                yield task.finding(
                    "events",
                    Grade.AMBER,
                    f"{call.text}() is about events, which do not reach or leave the function.",
                    "Use a log line, a metric, or update_state.",
                    call.place,
                    step,
                )
    for call in facts.project_calls:
        if call.matches(patterns):
            yield Finding(
                "events",
                Grade.AMBER,
                None,
                f"{call.text}() receives events, and the function sends none.",
                "Use the log lines, or Celery's task signals.",
                call.place,
            )


@registry.rule("worker-request", "A task with a Request or Strategy of its own")
def worker_request(facts: Facts) -> Iterator[Finding]:
    """The task's class has a `Request` or a `Strategy` of its own: parts of a worker's consumer.

    The function receives messages in its own way, and uses neither. What such a class does, for
    example on a time-out, does not happen. Use the task's hooks (`on_failure`, `before_start`).
    """
    for task in facts.tasks:
        for name in ("Request", "Strategy"):
            value = getattr(task.task, name, None)
            if value not in (getattr(Task, name), None) and not _is_batches(task.task):
                yield task.finding(
                    "worker-request",
                    Grade.RED if name == "Strategy" else Grade.AMBER,
                    f"The task has a {name} of its own, {value!r}, which the function does not "
                    "use.",
                    "Use the task's hooks, such as on_failure and before_start.",
                )


def _is_batches(task: Task) -> bool:
    return any(each.__module__.startswith("celery_batches") for each in type(task).__mro__)


@registry.rule("worker-setting", "Settings of a worker")
def worker_setting(facts: Facts) -> Iterator[Finding]:
    """A setting that tunes a worker's process is set: `worker_max_tasks_per_child` and its kin.

    It does nothing in the function. A note, since nothing breaks; it says what takes the setting's
    place. `worker_direct` is red: there is no worker to address.
    """
    for setting, instead in _WORKER_SETTINGS.items():
        if setting in facts.written_settings:
            yield Finding(
                "worker-setting",
                Grade.GREEN,
                setting,
                f"The setting {setting} does nothing in the function.",
                f"Nothing is to be done: {instead}.",
            )
    if facts.app.conf.get("worker_direct"):
        yield Finding(
            "worker-setting",
            Grade.RED,
            "worker_direct",
            "The setting worker_direct addresses one worker, and the function is none.",
            "Give such tasks a queue of their own.",
        )
