"""Where all of Celery's publishing passes: ``app.amqp.send_task_message``.

It is called for every task message: by ``delay``, ``send_task``, retries, chains, groups and
chords, which bring a producer of the app's own broker along. There, and only there, the
producer is exchanged.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Protocol

from celery import Celery


class SQSWay(Protocol):
    """Says which messages go to SQS, and how."""

    is_in_function: bool
    producers: Any

    def takes(self, name: str, body: Any) -> bool:
        """Whether a message of the task *name*, with *body*, goes to SQS."""

    def options(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return the publish *options* as they mean the same to SQS."""

    def producer(self) -> Any:
        """Return the producer to send it by."""


class SQSRouting:
    """Mixin of :class:`celery.app.amqp.AMQP`: sends some tasks through SQS."""

    sqs_way: SQSWay

    @cached_property
    def send_task_message(self) -> Any:
        """Return the function that publishes a task message, as Celery's own does."""
        send = super().send_task_message  # type: ignore[misc]
        way = self.sqs_way

        def send_task_message(producer: Any, name: str, message: Any, **options: Any) -> Any:
            if not way.takes(name, message.body):
                return send(producer, name, message, **options)
            # A task-sent event would leave by this producer too, to a queue that is none.
            message = message._replace(sent_event=None)
            return send(way.producer(), name, message, **way.options(options))

        return send_task_message


def install_routing(app: Celery, way: SQSWay) -> None:
    """Have the messages that *way* takes leave by it; once an app."""
    amqp = app.amqp
    if not isinstance(amqp, SQSRouting):
        # An app may have an AMQP class of its own, and may have published already.
        amqp.__dict__.pop("send_task_message", None)
        amqp.__class__ = type("AMQP", (SQSRouting, type(amqp)), {"sqs_way": way})


def routing_of(app: Celery) -> SQSWay | None:
    """Return what *app* has been given by :func:`install_routing`, if it has."""
    return app.amqp.sqs_way if isinstance(app.amqp, SQSRouting) else None
