"""The kombu transport: kombu's own for SQS, with our publisher behind it.

An app that moves its whole broker sets ``broker_transport =
"lambda_celery.transport:Transport"``; the connection behind the ``task``
decorator uses the same class. What is added to kombu's:

- a due time up to 900 s ahead becomes ``DelaySeconds``, and beyond that a one-time
  schedule, where the settings name a role for it;
- bodies that are too big go to S3, and a worker fetches and deletes them there;
- queues come from the settings, so nothing is listed, created, declared or deleted, and only
  what is a queue of tasks is consumed;
- channels share one boto3 client, which takes about 100 ms to make.
"""

from __future__ import annotations

import base64
import logging
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

from celery import current_app
from celery.utils.time import maybe_iso8601, maybe_make_aware, rate
from kombu.transport import SQS
from kombu.transport.virtual.base import queue_declare_ok_t
from kombu.utils.json import dumps
from kombu.utils.objects import cached_property

from lambda_celery import aws
from lambda_celery.celery_hooks.apps import find_task
from lambda_celery.celery_hooks.thread_state import worker_task
from lambda_celery.conf import Settings, setting_names
from lambda_celery.envelope import MARK_HEADER, redacted
from lambda_celery.exceptions import ConfigurationError, PublishError, UnreadableMessageError
from lambda_celery.message import OutgoingMessage, delay_until, is_fifo
from lambda_celery.payloads import is_pointer
from lambda_celery.publishing.marks import mark_of, own_call
from lambda_celery.publishing.publisher import Publisher, publisher_of
from lambda_celery.publishing.task_queues import check_is_kept, check_is_of_tasks
from lambda_celery.trace_context import XRAY_HEADER, current_xray_header, xray_header

logger = logging.getLogger(__name__)

#: The transport option under which a connection carries its publisher.
PUBLISHER_OPTION = "lambda_celery_publisher"
#: Under this key a received message carries the pointer in whose place its body is.
_POINTER = "LambdaCeleryPointer"


def due_time(headers: Mapping[str, Any]) -> datetime | None:
    """Return the ``eta`` in a message's *headers*; a naive one is UTC, as for a worker."""
    eta = headers.get("eta")
    if not eta:
        return None
    aware: datetime = maybe_make_aware(maybe_iso8601(eta), current_app.timezone)
    return aware


def _check_fifo(properties: Mapping[str, Any], headers: Mapping[str, Any]) -> None:
    """Refuse a call that a FIFO queue cannot do justice to.

    What a running task sends on, such as its retry, is let through: it is too late to refuse
    that. It comes to the head of its group, and waits there.
    """
    if worker_task() is not None:
        return
    eta = due_time(headers)
    if properties.get("DelaySeconds") or (eta is not None and eta > datetime.now(UTC)):
        raise PublishError(
            "A FIFO queue cannot delay a single message, and one that waits would stop its message "
            "group: leave countdown and eta out, or send the task to a standard queue."
        )
    task = find_task(current_app, headers.get("task"))
    if rate(getattr(task, "rate_limit", None)):
        raise PublishError(
            f"The task {task.name} has a rate_limit, and what waits for its turn on a FIFO queue "
            "is received again and again, and so spent: send it to a standard queue."
        )


class Channel(SQS.Channel):
    """A channel that publishes through :class:`~lambda_celery.publishing.publisher.Publisher`."""

    @cached_property
    def publisher(self) -> Publisher:
        """The connection's publisher; that of the current app's settings if it has none."""
        found: Publisher | None = self.transport_options.get(PUBLISHER_OPTION)
        return found or publisher_of(current_app._get_current_object())

    @property
    def _settings(self) -> Settings:
        publisher: Publisher = self.publisher
        return publisher.settings

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        if message.get("redelivered"):
            # A worker restores a message that it had received: its visibility is changed.
            super()._put(queue, message, **kwargs)
            return
        if "task" not in message["headers"]:  # nor has a task's in the older protocol
            self._check_is_of_tasks(queue)
        elif not self._settings.enabled:
            raise ConfigurationError(
                f"{setting_names('enabled')} is off, but the broker's transport is that of Lambda "
                "Celery: set broker_transport, and broker_url, to the app's own broker."
            )
        elif self.publisher.marks_calls:
            message["headers"] = {**message["headers"], MARK_HEADER: mark_of(message)}
        trace_header = current_xray_header()
        if trace_header is None:
            trace_header = xray_header(message["headers"].get(XRAY_HEADER))
        else:
            message["headers"] = {**message["headers"], XRAY_HEADER: trace_header}
        properties = message["properties"]
        attributes = properties.pop("message_attributes", None) or {}
        queue = self._queue_for_priority(queue, properties)
        url = self._resolve_queue_url(queue)
        group = properties.get("MessageGroupId")
        if own := own_call(message["headers"].get("id")):
            # Celery's retry knows nothing of them: all groups would be one, and a filter of the
            # event source mapping would delete what lacks an attribute.
            group = group or own.message_group_id
            attributes = {**own.message_attributes, **attributes}
        deduplication = delay = due = None
        if is_fifo(url):
            _check_fifo(properties, message["headers"])
            group = group or "default"
            deduplication = properties.get("MessageDeduplicationId") or str(uuid.uuid4())
        else:
            delay = self._resolve_delay_seconds(properties)
            eta = due_time(message["headers"])
            if delay is None and eta is not None:
                delay, due = delay_until(eta) or None, eta
        if self._settings.redact_arguments:
            message["headers"] = redacted(message["headers"])
        body = dumps(message)
        if self.sqs_base64_encoding:
            body = base64.b64encode(body.encode()).decode()
        self.publisher.publish(
            url,
            OutgoingMessage(
                body,
                attributes,
                delay,
                group,
                deduplication,
                due=due,
                task_id=message["headers"].get("id"),
                trace_header=trace_header,
            ),
            self.sqs(queue=self.canonical_queue_name(queue)),
        )

    def _queue_for_priority(self, queue: str, properties: dict[str, Any]) -> str:
        """Return the queue for the message's priority, and note it in its *properties*.

        SQS knows no priorities. From the note a retry knows where its task was: it, and what
        else a running task sends on, is not refused. Nor is the project's default: no call asks
        for it.
        """
        priority = properties.get("priority") or 0
        if not priority:
            return queue
        mapped = self._settings.priority_queues
        if queue in mapped:
            reached = [each for each in mapped[queue] if each <= priority]
            return self._noted(queue, mapped[queue][max(reached)], properties) if reached else queue
        if any(queue in queues.values() for queues in mapped.values()):
            return queue
        if worker_task() is not None:
            return queue
        if str(priority) == str(current_app.conf.task_default_priority):
            _tell_of_default_priority(priority)
            return queue
        raise PublishError(
            f"The call has priority {priority}, but SQS has no priorities: name the queue that "
            f"such calls of {queue!r} go to in {setting_names('priority_queues')}, or leave "
            "the priority out."
        )

    def _noted(self, queue: str, chosen: str, properties: dict[str, Any]) -> str:
        if chosen != queue and self._resolve_queue_url(chosen) == self._resolve_queue_url(queue):
            raise PublishError(
                f"{setting_names('priority_queues')} names {chosen!r} for calls of {queue!r}, but "
                f"both are the same SQS queue: add {chosen!r} to {setting_names('queues')}."
            )
        properties["delivery_info"].update(exchange="", routing_key=chosen)
        return chosen

    def basic_publish(
        self, message: dict[str, Any], exchange: str, routing_key: str, **kwargs: Any
    ) -> Any:
        """Publish *message*; refuse a task that no queue is bound for, instead of dropping it.

        So is what remote control sends to all workers. Events are dropped, as by kombu.
        """
        if exchange and "task" in message["headers"] and not self._lookup(exchange, routing_key):
            raise PublishError(
                f"No queue is bound to the exchange {exchange!r} with the routing key "
                f"{routing_key!r}, so the task was not sent: name its queue in task_queues."
            )
        if exchange and self._is_to_all_workers(exchange):
            raise PublishError(
                "Remote control does not reach workers by SQS: the command was not sent. Only "
                "revoke has a way of its own, by the idempotency table, to Lambda."
            )
        return super().basic_publish(message, exchange, routing_key, **kwargs)

    def _receive_message(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return self._with_bodies(super()._receive_message(*args, **kwargs))

    def _on_messages_ready(self, queue: str, qname: str, messages: dict[str, Any]) -> int:
        received: int = super()._on_messages_ready(queue, qname, self._with_bodies(messages))
        return received

    def _with_bodies(self, response: dict[str, Any]) -> dict[str, Any]:
        """Return a receive's *response* with the bodies from S3 in the place of their pointers.

        A message whose body cannot be had is left out. It comes again when its visibility
        time-out ends; kombu would delete what it cannot read.
        """
        messages = []
        for message in response.get("Messages") or []:
            pointer = message["Body"]
            if is_pointer(pointer):
                try:
                    message["Body"] = self.publisher.payloads.fetch(pointer).text
                except (UnreadableMessageError, *aws.AWS_ERRORS) as exc:
                    logger.error("Message %s stays on its queue: %s", message["MessageId"], exc)
                    continue
                message[_POINTER] = pointer
            messages.append(message)
        return {**response, "Messages": messages}

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        """Acknowledge a message, and then delete its body from S3."""
        try:
            info = self.qos.get(delivery_tag).delivery_info
        except KeyError:
            info = {}
        super().basic_ack(delivery_tag, multiple)
        if pointer := info.get("sqs_message", {}).get(_POINTER):
            self.publisher.payloads.delete(pointer)

    def queue_declare(
        self, queue: str | None = None, passive: bool = False, **kwargs: Any
    ) -> queue_declare_ok_t:
        """Ask for the queue's size only where the caller does, by *passive*.

        :raises ConfigurationError: it is none of tasks, or to be deleted after its use.
        """
        is_transient = bool(kwargs.get("auto_delete") or kwargs.get("exclusive") or not queue)
        check_is_kept(str(queue), is_transient=is_transient)
        if passive:
            self._check_is_of_tasks(str(queue))
            declared: queue_declare_ok_t = super().queue_declare(queue, passive=True, **kwargs)
            return declared
        return queue_declare_ok_t(queue, 0, 0)

    def basic_consume(self, queue: str, *args: Any, **kwargs: Any) -> Any:
        """Consume from a queue of tasks.

        :raises ConfigurationError: it is none.
        """
        self._check_is_of_tasks(queue)
        return super().basic_consume(queue, *args, **kwargs)

    def basic_get(self, queue: str, *args: Any, **kwargs: Any) -> Any:
        """Take a message from a queue of tasks.

        :raises ConfigurationError: it is none.
        """
        self._check_is_of_tasks(queue)
        return super().basic_get(queue, *args, **kwargs)

    def queue_purge(self, queue: str, **kwargs: Any) -> Any:
        """Delete all messages in a queue of tasks.

        :raises ConfigurationError: it is none.
        """
        self._check_is_of_tasks(queue)
        return super().queue_purge(queue, **kwargs)

    def _delete(self, queue: str, *args: Any, **kwargs: Any) -> None:
        logger.warning(
            "The queue %r is not deleted: a queue of SQS belongs to whoever made it. Delete it by "
            "your stack, or in the console.",
            queue,
        )

    def _check_is_of_tasks(self, queue: str) -> None:
        check_is_of_tasks(queue, current_app, self._settings, self.predefined_queues)

    def _is_to_all_workers(self, exchange: str) -> bool:
        return exchange.endswith(".pidbox") and not (
            self.supports_fanout or self._lookup(exchange, "")
        )

    def _resolve_queue_url(self, queue: str) -> str:
        url = super()._resolve_queue_url if self.predefined_queues else self._settings.url_of
        return str(url(queue))

    def _update_queue_cache(self, queue_name_prefix: str) -> None:
        if self.predefined_queues:
            super()._update_queue_cache(queue_name_prefix)

    def sqs(self, queue: str | None = None) -> Any:
        """Return the process's client for *queue*; the broker URL has no part in it."""
        if self.transport_options.get("sts_role_arn"):
            return super().sqs(queue)
        entry = self.predefined_queues.get(queue, {})
        return aws.client(
            "sqs",
            self._settings,
            region=entry.get("region") or self.region,
            aws_access_key_id=entry.get("access_key_id"),
            aws_secret_access_key=entry.get("secret_access_key"),
        )

    @cached_property
    def region(self) -> str | None:
        """The region of the transport options or the settings; else boto3's usual search."""
        # kombu falls back to us-east-1, where nobody would look for the mistake.
        return self.transport_options.get("region") or self._settings.aws_region

    @cached_property
    def endpoint_url(self) -> str | None:
        """The endpoint of the settings; else boto3's usual search."""
        return self._settings.endpoint_url


class Transport(SQS.Transport):
    """kombu's SQS transport, publishing through Lambda Celery."""

    Channel = Channel


@cache  # once a process, not with every call
def _tell_of_default_priority(priority: Any) -> None:
    logger.warning(
        "task_default_priority is %s, but SQS has no priorities: calls are sent without one. Name "
        "the queue that they go to in %s, or leave task_default_priority out.",
        priority,
        setting_names("priority_queues"),
    )
