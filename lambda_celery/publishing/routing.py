"""Which tasks go to SQS, and to which queue: what :mod:`lambda_celery.celery_hooks.amqp` asks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from celery import Celery
from kombu import Exchange, Queue

from lambda_celery.celery_hooks.amqp import routing_of
from lambda_celery.celery_hooks.apps import find_task
from lambda_celery.conf import settings_of
from lambda_celery.exceptions import PublishError
from lambda_celery.publishing.producers import ThreadProducers

#: The attribute of a task that says which way its messages go.
TASK_ATTRIBUTE = "lambda_celery"
#: Celery's own task at the end of a group by which a task was replaced.
_ACCUMULATE = "celery.accumulate"


class Routing:
    """The way to SQS of an app's task messages."""

    #: Whether this process is the function's. What ends a group there, in the place of a task
    #: that was replaced by it, ends on the same way: a project may have no other broker.
    is_in_function = False

    def __init__(self, app: Celery) -> None:
        self._app = app
        #: The producers of messages to SQS.
        self.producers = ThreadProducers(app)

    def takes(self, name: str, body: Any) -> bool:
        """Whether a message of the task *name*, with *body*, goes to SQS."""
        return goes_to_sqs(self._app, followed_task(name, body))

    def options(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return the publish *options* as they mean the same to SQS.

        The other broker's exchanges mean nothing there: the queue is all there is.
        """
        return {
            **options,
            "queue": queue_name(self._app.amqp, options),
            "exchange": None,
            "routing_key": None,
            "exchange_type": "direct",
            "declare": [],  # the queue exists; asking costs a request
        }

    def producer(self) -> Any:
        """Return the producer for this thread."""
        return self.producers.get()


def goes_to_sqs(app: Celery, name: str) -> bool:
    """Whether messages of the task *name* go to SQS: its attribute says, else the settings do.

    None does while the setting ``enabled`` is off.
    """
    if not settings_of(app).enabled:
        return False
    choice = getattr(find_task(app, name), TASK_ATTRIBUTE, None)
    if choice is not None:
        return bool(choice)
    routing = routing_of(app)
    if name == _ACCUMULATE and routing is not None and routing.is_in_function:
        return True
    return any(fnmatchcase(name, pattern) for pattern in settings_of(app).tasks)


def followed_task(name: str, body: Any) -> str:
    """Return the task whose way a message of the task *name* goes: its own, for all but a few.

    Celery's own tasks that wait for a chord, or map a task, go where that task goes.
    """
    args, kwargs = (body["args"], body["kwargs"]) if isinstance(body, Mapping) else body[:2]
    if name == "celery.chord_unlock" and len(args) > 1:
        followed = args[1]
    elif name in ("celery.map", "celery.starmap"):
        followed = kwargs.get("task")
    else:
        return name
    return str(followed["task"]) if isinstance(followed, Mapping) else name


def queue_name(amqp: Any, options: Mapping[str, Any]) -> str:
    """Return the name of the Celery queue that the publish *options* lead to.

    An exchange is looked up as a broker does, by its type: among the queues that the app knows.

    :raises PublishError: they lead to no queue, or to several: SQS copies no message.
    """
    queue: Any = options.get("queue")
    exchange: Any = options.get("exchange")
    key: Any = options.get("routing_key")
    kind = options.get("exchange_type")
    if isinstance(exchange, Exchange):
        exchange, kind = exchange.name, kind or exchange.type
    if queue is None and exchange is None:
        queue = amqp.default_queue
    elif isinstance(queue, str):
        queue = amqp.queues[queue]
    if queue is not None:
        kind = kind or queue.exchange.type
    # The rest is as Celery's send_task_message has it.
    if (not exchange or not key) and (kind or "direct") == "direct":
        return str(queue.name if queue is not None else amqp.app.conf.task_default_queue)
    if exchange is None:
        exchange = queue.exchange.name or amqp.app.conf.task_default_exchange
        key = key or queue.routing_key or amqp.app.conf.task_default_routing_key
    if exchange.startswith("celery_delayed_"):
        # Celery's delayed delivery on quorum queues: 28 bits of delay, and then the key.
        exchange, key = None, key.split(".", 28)[-1]
    known = list(amqp.queues.values())
    if queue is not None and all(queue.name != each.name for each in known):
        known.append(queue)
    bound = [each.name for each in known if _is_bound(each, exchange, key)]
    if len(bound) == 1:
        return str(bound[0])
    name = exchange or "of the delayed delivery"
    if bound:
        raise PublishError(
            f"The exchange {name!r} leads a call with the routing key {key!r} to the queues "
            f"{', '.join(bound)}, but SQS copies no message: call the task once for each queue, "
            "or let SNS copy its message."
        )
    raise PublishError(
        f"No queue is bound to the exchange {name!r} with the routing key {key!r}, so the task "
        "was not sent: name its queue in task_queues, or in the call."
    )


def _is_bound(queue: Queue, exchange: str | None, key: str | None) -> bool:
    """Whether a message to *exchange*, or whichever it is, with *key* gets to *queue*."""
    if exchange not in (None, queue.exchange.name):
        return False
    if queue.exchange.type == "fanout":
        return exchange is not None
    if queue.exchange.type == "topic":
        from kombu.transport.virtual.exchange import TopicExchange  # few projects have any

        pattern = TopicExchange(None).key_to_pattern(queue.routing_key or "")
        return re.match(pattern, key or "") is not None
    return bool(queue.routing_key == key)
