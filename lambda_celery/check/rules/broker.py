"""What other brokers have, and SQS has not."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from lambda_celery.check.facts import Facts
from lambda_celery.check.model import Finding, Grade, registry
from lambda_celery.check.rules.finding import option_place, queue_of, routed
from lambda_celery.exceptions import ConfigurationError, PublishError

_CONNECTIONS = ("*.connection_for_write", "*.connection_for_read", "*.producer_pool.acquire",
                "*.producer_or_acquire", "*.connection_or_acquire", "*.default_connection",
                "kombu.Connection", "kombu.connection.Connection", "kombu.Producer",
                "kombu.Consumer", "kombu.simple.*", "pika.*", "amqp.*",
                "celery.*.amqp.TaskConsumer")  # fmt: skip


@registry.rule("priority", "A priority without a queue")
def priority(facts: Facts) -> Iterator[Finding]:
    """A task, a call or `task_default_priority` has a `priority`, and its queue none for it.

    SQS has no priorities. A call with one from 1 to 9 is refused in a sentence, unless
    `lambda_priority_queues` names a queue for it: `{"mail": {6: "mail-urgent"}}`. Name one, or
    leave the priority out.
    """
    remedy = "Name a queue for it in lambda_priority_queues, or leave the priority out."
    queues = facts.settings.priority_queues
    default = facts.app.conf.task_default_priority
    if default and not queues:
        yield Finding(
            "priority",
            Grade.RED,
            "task_default_priority",
            f"Each call gets the priority {default}, which SQS does not have: it is refused.",
            remedy,
        )
    for task in facts.tasks:
        value = task.task.priority
        if value and value != default and not _has_queue(facts, task.task, value):
            yield task.finding(
                "priority",
                Grade.RED,
                f"The priority is {value}, which SQS does not have: a call is refused.",
                remedy,
                option_place(facts, task, "priority"),
            )
        if of_route := _routed_priority(facts, task.task):
            yield task.finding(
                "priority",
                Grade.RED,
                f"task_routes gives the task the priority {of_route}, which SQS does not have: a "
                "call is refused.",
                remedy,
            )
    for site in facts.call_sites:
        node = site.options.get("priority")
        if node is None:
            continue
        value = site.call.constant(node)
        if value == 0 or (isinstance(node, ast.Constant) and value is None):
            continue
        task_object = facts.app.tasks.get(site.task) if site.task else None
        if task_object is not None and isinstance(value, int):
            if _has_queue(facts, task_object, value):
                continue
        elif queues:
            continue
        yield Finding(
            "priority",
            Grade.RED if isinstance(value, int) else Grade.AMBER,
            site.task,
            f"The call gives the priority {ast.unparse(node)}, which SQS does not have: it is "
            "refused.",
            remedy,
            site.call.place,
        )


def _routed_priority(facts: Facts, task: Any) -> int | None:
    try:
        value = facts.app.amqp.router.route({}, task.name, (), {}).get("priority")
    except Exception:  # noqa: BLE001 - a router of the project's may raise anything
        return None
    return value if isinstance(value, int) and not _has_queue(facts, task, value) else None


def _has_queue(facts: Facts, task: Any, value: int) -> bool:
    queues = facts.settings.priority_queues.get(queue_of(facts, task) or "", {})
    return any(value >= lowest for lowest in queues)


@registry.rule("route", "Exchanges that lead to no one queue")
def route(facts: Facts) -> Iterator[Finding]:
    """The task's route leads to no queue, or to several: by a topic, fanout or headers exchange.

    SQS has queues alone, and copies no message. Exchanges are looked up among the queues that the
    app knows, and must lead to one. Name the queue in `task_routes`, or use SNS for copies.
    """
    for task in facts.tasks:
        try:
            routed(facts, task.task)
        except PublishError as exc:
            yield task.finding(
                "route",
                Grade.RED,
                str(exc),
                "Name its queue in task_routes.",
                option_place(facts, task, "exchange"),
            )
        except Exception as exc:  # noqa: BLE001 - a router of the project's may raise anything
            yield task.finding(
                "route",
                Grade.AMBER,
                f"The task's route cannot be found out here: {type(exc).__name__}: {exc}.",
                "Look at task_routes, and at task_queues if task_create_missing_queues is off.",
            )


@registry.rule("queue-url", "A queue without an SQS queue")
def queue_url(facts: Facts) -> Iterator[Finding]:
    """`lambda_queues` names SQS queues, and a task's Celery queue is none of them.

    With `lambda_queue_url` all other queues would go there. Without it, a call is refused in a
    sentence. Name the queue, or set `lambda_queue_url`; or let the task stay on its broker.
    """
    if not facts.settings.queues or not facts.settings.enabled:
        return
    for task in facts.tasks:
        name = queue_of(facts, task.task)
        if name is None or getattr(task.task, "lambda_celery", None) is False:
            continue
        try:
            facts.settings.url_of(name)
        except ConfigurationError as exc:
            yield task.finding(
                "queue-url",
                Grade.RED,
                str(exc),
                "Or keep the task on its broker: lambda_celery=False.",
                option_place(facts, task, "queue"),
            )


@registry.rule("transport-options", "Options of another broker's transport")
def transport_options(facts: Facts) -> Iterator[Finding]:
    """`broker_transport_options` has what SQS does in another way.

    `visibility_timeout` is the queue's own attribute, six times the function's time-out.
    `priority_steps` and `queue_order_strategy` are priorities on Redis: name queues for them
    in `lambda_priority_queues`.
    """
    options = facts.app.conf.broker_transport_options or {}
    for name in ("priority_steps", "queue_order_strategy", "visibility_timeout"):
        if name in options:
            is_note = name == "visibility_timeout"
            yield Finding(
                "transport-options",
                Grade.GREEN if is_note else Grade.AMBER,
                "broker_transport_options",
                f"{name} means nothing to the function's queue.",
                "Set the queue's visibility time-out: six times the function's time-out."
                if is_note
                else "Name queues for priorities in lambda_priority_queues.",
            )


@registry.rule("broadcast", "Broadcast and other features of RabbitMQ's queues")
def broadcast(facts: Facts) -> Iterator[Finding]:
    """`task_queues` has a broadcast queue, a headers exchange, or RabbitMQ's `x-…` arguments.

    SQS has no fan-out: a broadcast is red. One SNS topic with a queue for each subscriber does
    that. `x-max-priority`, `x-message-ttl`, `x-dead-letter-exchange` and the others do nothing
    on SQS: the queue's attributes (retention, redrive policy) take their place.
    """
    for queue in facts.app.amqp.queues.values():
        exchange = queue.exchange
        kind = getattr(exchange, "type", "direct")
        subject = f"task_queues: {queue.name}"
        if kind in ("fanout", "headers"):
            yield Finding(
                "broadcast",
                Grade.RED,
                subject,
                f"The queue has a {kind} exchange, and SQS copies no message and knows no headers.",
                "Use an SNS topic with a queue for each subscriber, or one queue by its name.",
            )
        arguments = {**(queue.queue_arguments or {}), **(exchange.arguments or {})}
        if strange := sorted(str(each) for each in arguments if str(each).startswith("x-")):
            yield Finding(
                "broadcast",
                Grade.RED if "x-max-priority" in strange else Grade.AMBER,
                subject,
                f"The queue has {', '.join(strange)}, which SQS does not know.",
                "Use the SQS queue's own attributes, and lambda_priority_queues for priorities.",
            )


@registry.rule("delivery-info", "Reading what the broker says of a delivery")
def delivery_info(facts: Facts) -> Iterator[Finding]:
    """A task reads `self.request.delivery_info`, `hostname`, `reply_to` or `correlation_id`.

    On SQS there are no exchanges and routing keys that mean something, and `hostname` is no
    worker's. `delivery_info["redelivered"]` is right. Do not build on the others.
    """
    for task in facts.tasks:
        for step in task.steps:
            for node in step.body.nodes:
                if (
                    isinstance(node, ast.Attribute)
                    and node.attr in ("delivery_info", "hostname", "reply_to")
                    and isinstance(node.value, ast.Attribute)
                    and node.value.attr == "request"
                ):
                    yield task.finding(
                        "delivery-info",
                        Grade.AMBER,
                        f"The task reads {ast.unparse(node)}, which says something else on SQS.",
                        "Pass what the task needs as an argument.",
                        step.body.source.place(node.lineno),
                        step,
                    )


@registry.rule("broker-connection", "Talking to the broker in a task")
def broker_connection(facts: Facts) -> Iterator[Finding]:
    """A task opens a connection to the broker: `app.connection_for_write()`, kombu, pika.

    The function needs a way to that broker, its client among its packages, and its password.
    Publishing by `delay()` to a task that stays on the other broker needs them too.
    """
    for task in facts.tasks:
        for step, call in task.calls:
            if call.matches(_CONNECTIONS):
                yield task.finding(
                    "broker-connection",
                    Grade.AMBER,
                    f"{call.text}() opens a connection to a broker, which the function must reach.",
                    "Give the function the way, the package and the credentials for it.",
                    call.place,
                    step,
                )
