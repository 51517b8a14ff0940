"""Results: waiting for them, where they are stored, and chords, which need them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from celery import Task

from lambda_celery.check.bodies import Body, Call, is_a
from lambda_celery.check.facts import Facts
from lambda_celery.check.model import Finding, Grade, registry

_WAITING = {"get", "join", "join_native", "wait", "get_leaf", "collect", "iter_native", "iterate"}
_RESULTS = ("celery.result.*", "celery.*AsyncResult()", "celery.app.base.Celery().AsyncResult()")
_LOCAL_HOSTS = {"localhost", "127.0.0.1", "::1", "0.0.0.0", "host.docker.internal"}  # noqa: S104
#: These count the parts of a chord, and not which.
_COUNTERS = {"dynamodb", "cache+memcached", "cache+pylibmc", "memcached", "gs"}
#: These let ``celery.chord_unlock`` ask.
_POLLED = {"db", "django-db", "file", "filesystem", "mongodb", "cassandra", "couchbase",
           "elasticsearch", "s3"}  # fmt: skip
_CHORDS = ("celery.chord", "celery._chord")


@registry.rule("result-in-task", "Waiting for a result in a task")
def result_in_task(facts: Facts) -> Iterator[Finding]:
    """A task waits for another task's result: `other.delay().get()`, `join()`, or polls `ready()`.

    Celery refuses that in a task, on a worker and here. With `allow_join_result()` or
    `disable_sync_subtasks=False` it is allowed, and amber: the waiting is paid for, and where
    all environments wait for tasks that none of them runs, all of them time out. Use a chain or
    a chord, or `self.replace`.
    """
    for task in facts.tasks:
        for step, call in task.calls:
            if call.receiver is None or call.attribute not in _WAITING | {"ready"}:
                continue
            if not is_result(call.body, call.receiver):
                continue
            in_loop = any(
                isinstance(node, ast.While) and any(n is call.node for n in ast.walk(node))
                for node in call.body.nodes
            )
            if call.attribute == "ready" and not in_loop:
                continue
            is_allowed = call.attribute == "ready" or _is_allowed(call)
            yield task.finding(
                "result-in-task",
                Grade.AMBER if is_allowed else Grade.RED,
                f"The task waits for another task's result with {call.text}(), "
                + ("which costs as long as it waits." if is_allowed else "which is refused."),
                "Use a chain or a chord, or self.replace(…).",
                call.place,
                step,
            )


def _is_allowed(call: Call) -> bool:
    if call.constant(call.keyword("disable_sync_subtasks")) is False:
        return True
    return any(
        isinstance(node, ast.With)
        and "allow_join_result" in ast.unparse(node.items[0].context_expr)
        and any(n is call.node for n in ast.walk(node))
        for node in call.body.nodes
    )


def is_result(body: Body, node: ast.expr, depth: int = 0) -> bool:
    """Whether *node* is a task's result, or a group's."""
    if depth > 6:
        return False
    if isinstance(node, ast.Name):
        return any(is_result(body, each, depth + 1) for each in body.assigned.get(node.id, []))
    if isinstance(node, ast.Subscript):
        return is_result(body, node.value, depth + 1)
    if isinstance(node, ast.Call):
        function = node.func
        if isinstance(function, ast.Attribute):
            if function.attr in ("delay", "apply_async", "send_task", "AsyncResult", "GroupResult"):
                return True
            if function.attr == "restore":
                return True
        names = body.meaning(function).names
        if {"celery.result.AsyncResult", "celery.result.GroupResult"} & names:
            return True
        # group(…)() and chord(…)(…): the call of a signature.
        if isinstance(function, ast.Call | ast.Name):
            return _is_signature(body, function)
    return False


def _is_signature(body: Body, node: ast.expr) -> bool:
    if isinstance(node, ast.Name):
        return any(_is_signature(body, each) for each in body.assigned.get(node.id, []))
    if not isinstance(node, ast.Call):
        return False
    names = body.meaning(node.func).names
    return any(
        name in ("celery.group", "celery.chord", "celery.chain", "celery._chord", "celery._chain")
        for name in names
    )


@registry.rule("result-backend", "A result back end that the function cannot reach")
def result_backend(facts: Facts) -> Iterator[Finding]:
    """The result back end is one that a function cannot use, or not from AWS.

    `rpc://` keeps results in queues of the producer's process: red, and refused with the
    transport. Results in memory or in local files, SQLite included, do not leave the
    environment: red. A host such as `localhost` is amber: it is this machine's setting, and the
    function needs another. Name Redis or a database in the function's VPC, or results in
    DynamoDB: `lambda-dynamodb://`.
    """
    url = str(facts.app.conf.result_backend or "")
    if not url:
        return
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    host = urlsplit("//" + rest).hostname if rest else None
    remedy = "Use a back end that the function reaches: Redis in its VPC, or lambda-dynamodb://."
    sentence, grade = "", Grade.RED
    if scheme in ("rpc", "amqp"):
        sentence = "keeps results in queues of the caller's process, which the function has not."
    elif "memory" in scheme or url.startswith("cache+memory"):
        sentence = "keeps results in the process's memory."
    elif scheme.startswith(("file", "filesystem")):
        sentence = "keeps results in local files, and Lambda's file system is read-only."
    elif "sqlite" in scheme:
        sentence = "keeps results in a SQLite file, and Lambda's file system is read-only."
    elif host in _LOCAL_HOSTS or scheme.endswith("+socket") or scheme == "socket":
        sentence, grade = "is on this machine, which the function does not reach.", Grade.AMBER
    if sentence:
        yield Finding(
            "result-backend",
            grade,
            "result_backend",
            f"The result back end {scheme}:// {sentence}",
            remedy,
        )


@registry.rule("chord", "A chord without a fitting back end")
def chord(facts: Facts) -> Iterator[Finding]:
    """The project makes a chord (also by a group followed by a task), and no back end counts it.

    A chord's body starts when the back end has all results of its header. Without a result back
    end, or with `rpc://`, Celery refuses it or it never starts. A member with
    `ignore_result=True` has no result to give: amber. Back ends without an own counter, such as
    a database, have `celery.chord_unlock` ask every second, and each time is a message.
    `dynamodb://`, memcached and `gs://` only count: a part that runs twice counts twice.
    """
    scheme = str(facts.app.conf.result_backend or "disabled").partition("://")[0].lower()
    is_unfit = scheme in ("disabled", "disabled://", "rpc", "amqp") or "memory" in scheme
    is_polled = scheme.partition("+")[0] in _POLLED
    ignored = bool(facts.app.conf.task_ignore_result)
    for subject, call in _chords(facts):
        if is_unfit:
            sentence, grade = (
                f"A chord needs a result back end, and there is {_named(scheme)}.",
                Grade.RED,
            )
            remedy = "Set result_backend to Redis or lambda-dynamodb://."
        elif members := _ignoring_members(call, ignored):
            sentence, grade = (
                f"The chord's header has {', '.join(sorted(members))}, which ignores its result.",
                Grade.AMBER,
            )
            remedy = "Set ignore_result=False on the members of a chord."
        elif scheme in _COUNTERS:
            sentence, grade = (
                f"{scheme}:// has a counter alone, so a part that runs twice is counted twice.",
                Grade.AMBER,
            )
            remedy = "Use Redis or lambda-dynamodb:// as the result back end of chords."
        elif is_polled:
            sentence, grade = (
                f"With {scheme}:// a chord is waited for by a task that asks every second.",
                Grade.AMBER,
            )
            remedy = "Use Redis or lambda-dynamodb:// as the result back end, which count."
        else:
            continue
        yield Finding("chord", grade, subject, sentence, remedy, call.place)


def _named(scheme: str) -> str:
    return "none" if scheme.startswith("disabled") else f"{scheme}://"


def _chords(facts: Facts) -> Iterator[tuple[str | None, Call]]:
    for task in facts.tasks:
        for _, call in task.calls:
            if call.matches(_CHORDS):
                yield task.name, call
    for call in facts.project_calls:
        if call.matches(_CHORDS):
            yield None, call
    reached = _reached(facts)
    for subject, body in [
        *((task.name, step.body) for task in facts.tasks for step in task.steps),
        *((None, body) for body in facts.project_bodies if body.place not in reached),
    ]:
        for node in body.nodes:
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
                left = node.left
                if isinstance(left, ast.BinOp) and isinstance(left.op, ast.BitOr):
                    left = left.right
                if isinstance(left, ast.Name):
                    values = body.assigned.get(left.id, [])
                    left = values[0] if len(values) == 1 else left
                if isinstance(left, ast.Call) and "celery.group" in body.meaning(left.func).names:
                    yield subject, Call(left, body.meaning(left.func), body)


def _reached(facts: Facts) -> frozenset[Any]:
    return frozenset(step.body.place for task in facts.tasks for step in task.steps)


def _ignoring_members(call: Call, is_default: bool) -> set[str]:
    """Return the tasks in the header of the chord *call* that ignore their results."""
    header = call.node.args[0] if call.node.args else call.keyword("header")
    found = set()
    for node in ast.walk(header) if header is not None else ():
        if isinstance(node, ast.Name | ast.Attribute):
            value = call.body.meaning(node).value
            if is_a(value, Task):
                ignore = value.ignore_result
                if ignore or (ignore is None and is_default):
                    found.add(str(value.name))
    return found
