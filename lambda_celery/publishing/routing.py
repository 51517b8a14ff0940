"""Which tasks go to SQS, and to which queue: what :mod:`lambda_celery.celery_hooks.amqp` asks."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from celery import Celery
from kombu import Exchange

from lambda_celery.celery_hooks.amqp import routing_of
from lambda_celery.celery_hooks.apps import find_task
from lambda_celery.conf import settings_of
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


def queue_name(amqp: Any, options: dict[str, Any]) -> str:
    """Return the name of the Celery queue that the publish *options* lead to."""
    exchange, key = options.get("exchange"), options.get("routing_key")
    exchange = exchange.name if isinstance(exchange, Exchange) else exchange
    if exchange and key:  # both together win over the queue, which may be the default
        if exchange.startswith("celery_delayed_"):
            # Celery's delayed delivery on quorum queues: 28 bits of delay, and then the key.
            exchange, key = None, key.split(".", 28)[-1]
        for each in amqp.queues.values():
            if each.routing_key == key and exchange in (None, each.exchange.name):
                return str(each.name)
    queue = options.get("queue") or amqp.app.conf.task_default_queue
    return str(getattr(queue, "name", queue))
