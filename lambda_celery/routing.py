"""Which tasks go to SQS, decided where all of Celery's publishing passes.

``app.amqp.send_task_message`` is called for every task message: by ``delay``,
``send_task``, retries, chains, groups and chords, which bring a producer of the
app's own broker along. There, and only there, the producer is exchanged.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import cached_property, partial
from typing import Any

from celery import Celery, _state
from kombu import Connection, Exchange
from kombu.utils.imports import symbol_by_name

from lambda_celery.asynchronous import install_registry
from lambda_celery.conf import settings_of

#: The attribute of a task that says which way its messages go.
TASK_ATTRIBUTE = "lambda_celery"
#: Celery's own task at the end of a group by which a task was replaced.
_ACCUMULATE = "celery.accumulate"


def install(app: Celery | None = None) -> None:
    """Make the tasks of *app* that are meant for SQS go there; of all apps, if none is given.

    And let *app* have tasks that are coroutine functions (``async def``).

    The ``task`` decorator and ``lambda_celery.django`` in ``INSTALLED_APPS`` call
    it. Call it yourself where tasks are chosen by ``lambda_tasks`` alone, without
    Django. Calling it again changes nothing.
    """
    if app is not None:
        _install(app)
        return
    _state.connect_on_app_finalize(_install)  # a set: once, for apps yet to come
    for each in _state._get_active_apps():
        _install(each)


def _install(app: Celery) -> None:
    amqp = app.amqp
    if not isinstance(amqp, SQSRouting):
        # An app may have an AMQP class of its own, and may have published already.
        amqp.__dict__.pop("send_task_message", None)
        amqp.__class__ = type("AMQP", (SQSRouting, type(amqp)), {})
    install_registry(app)
    if not (isinstance(app.control_cls, partial) and app.control_cls.func is control):
        # Not made here: that would read the app's configuration before it is complete.
        app.control_cls = partial(control, app.control_cls)
        app.__dict__.pop("control", None)


def control(base: Any, *args: Any, **kwargs: Any) -> Any:
    """Return the remote control of an app: its own class, *base*, which also reaches Lambda."""
    from lambda_celery.control import LambdaControl

    cls = symbol_by_name(base)
    return type(cls.__name__, (LambdaControl, cls), {})(*args, **kwargs)


class SQSRouting:
    """Mixin of :class:`celery.app.amqp.AMQP`: sends some tasks through SQS."""

    app: Celery
    #: Whether this process is the function's. What ends a group there, in the place of a task
    #: that was replaced by it, ends on the same way: a project may have no other broker.
    is_in_function = False

    @cached_property
    def send_task_message(self) -> Any:
        """Return the function that publishes a task message, as Celery's own does."""
        send = super().send_task_message  # type: ignore[misc]

        def send_task_message(producer: Any, name: str, message: Any, **options: Any) -> Any:
            if not goes_to_sqs(self.app, followed_task(name, message.body)):
                return send(producer, name, message, **options)
            options |= {
                # The other broker's exchanges mean nothing to SQS: the queue is all there is.
                "queue": queue_name(self, options),
                "exchange": None,
                "routing_key": None,
                "exchange_type": "direct",
                "declare": [],  # the queue exists; asking costs a request
            }
            # A task-sent event would leave by this producer too, to a queue that is none.
            message = message._replace(sent_event=None)
            return send(self.sqs_producers.get(), name, message, **options)

        return send_task_message

    @cached_property
    def sqs_producers(self) -> ThreadProducers:
        """The producers of messages to SQS."""
        return ThreadProducers(self.app)


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


def goes_to_sqs(app: Celery, name: str) -> bool:
    """Whether messages of the task *name* go to SQS: its attribute says, else the settings do."""
    # A task published by name must not take another way because its module's tasks are not
    # registered yet.
    tasks = app.tasks if app.finalized or app.autofinalize else app._tasks
    choice = getattr(tasks.get(name), TASK_ATTRIBUTE, None)
    if choice is not None:
        return bool(choice)
    if name == _ACCUMULATE and app.amqp.is_in_function:
        return True
    return any(fnmatchcase(name, pattern) for pattern in settings_of(app).tasks)


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


class ThreadProducers:
    """One kombu producer a thread; the client behind them is shared."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._local = threading.local()

    def get(self) -> Any:
        """Return this thread's producer, a new one after a fork."""
        # Here, because it loads boto3: importing a task must not cost a web process that.
        from lambda_celery.publisher import publisher_of
        from lambda_celery.transport import PUBLISHER_OPTION, Transport

        made = getattr(self._local, "made", None)
        if made is None or made[0] != os.getpid():
            options = dict(self._app.conf.broker_transport_options or {})
            # A foreign broker's options are not ours, but kombu's two encodings are.
            kept = {k: options[k] for k in ("sqs_base64_encoding", "body_encoding") if k in options}
            connection = Connection(
                "sqs",  # a name in messages; without one, kombu warns
                transport=Transport,
                transport_options={**kept, PUBLISHER_OPTION: publisher_of(self._app)},
            )
            made = self._local.made = (
                os.getpid(),
                self._app.amqp.Producer(connection, auto_declare=False),
            )
        return made[1]

    @contextmanager
    def replaced(self, producer: Any) -> Iterator[None]:
        """Have this thread publish by *producer*, within the context."""
        before = getattr(self._local, "made", None)
        self._local.made = (os.getpid(), producer)
        try:
            yield
        finally:
            self._local.made = before
