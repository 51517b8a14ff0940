"""Tasks that call themselves, directly or by way of each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache

from lambda_celery.check.bodies import Call
from lambda_celery.check.facts import Facts
from lambda_celery.check.following import Step
from lambda_celery.check.model import Finding, Grade, registry

#: Bodies further away from the task's own say little of what it calls each time.
_NEAR = 2
_ROUNDS = 16


@registry.rule("self-call", "A task that calls itself")
def self_call(facts: Facts) -> Iterator[Finding]:
    """A task calls itself, or another task of the project that calls it in turn.

    Each round goes back to the function's own queue, and AWS takes that for a recursive loop:
    unless the function has `RecursiveLoop: Allow`, the message is dropped after 16 rounds. With
    `Allow`, which retries and long countdowns need as well, nothing stops what does not stop by
    itself, and each round costs. It is amber, and red where the task calls itself without a
    condition and without a `countdown`. Let something end it: a number of rounds among
    the arguments, or a query that gets empty. What runs at regular times belongs in a schedule.
    """
    called = {task.name: list(_called(facts, task.calls)) for task in facts.tasks}
    onward = {name: {target for _, _, target in calls} for name, calls in called.items()}

    @cache
    def reached(name: str) -> frozenset[str]:
        return frozenset(_reached(onward, name))

    for task in facts.tasks:
        for step, call, target in called[task.name]:
            if target != task.name and task.name not in reached(target):
                continue
            is_endless = target == task.name and not step.route and _is_unconditional(call)
            round_trip = "itself" if target == task.name else f"{target}, which calls it in turn"
            yield task.finding(
                "self-call",
                Grade.RED if is_endless else Grade.AMBER,
                f"{call.text}() has the task call {round_trip}"
                + (
                    ", each time and at once: it never ends."
                    if is_endless
                    else f": AWS drops the message after {_ROUNDS} rounds, unless the function "
                    "has RecursiveLoop: Allow."
                ),
                "Let something end it, such as a number of rounds among its arguments, and set "
                "RecursiveLoop to Allow; what runs at regular times belongs in a schedule.",
                call.place,
                step,
            )


def _called(facts: Facts, calls: Iterator[tuple[Step, Call]]) -> Iterator[tuple[Step, Call, str]]:
    for step, call in calls:
        # A retry has rules of its own.
        if len(step.route) <= _NEAR and call.attribute != "retry":
            for target in facts.called_task(call):
                if target is not None:
                    yield step, call, target


def _reached(onward: Mapping[str, set[str]], begin: str) -> set[str]:
    found: set[str] = set()
    pending = [begin]
    while pending:
        for each in onward.get(pending.pop(), ()):
            if each not in found:
                found.add(each)
                pending.append(each)
    return found


def _is_unconditional(call: Call) -> bool:
    """Whether the task's body comes to *call* each time, and the call is not for later."""
    if call.attribute not in ("delay", "apply_async", "delay_on_commit", "apply_async_on_commit"):
        return False
    if call.keyword("countdown") is not None or call.keyword("eta") is not None:
        return False
    for statement in getattr(call.body.node, "body", ()):
        if isinstance(statement, ast.Expr | ast.Assign | ast.Return) and any(
            each is call.node for each in ast.walk(statement)
        ):
            return not any(
                isinstance(each, ast.IfExp | ast.BoolOp | ast.Lambda | ast.comprehension)
                for each in ast.walk(statement)
            )
        if any(isinstance(each, ast.Return | ast.Raise) for each in ast.walk(statement)):
            return False
    return False
