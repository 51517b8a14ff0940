"""The message that a schedule puts on the queue, the same for each of its occurrences.

It is an ordinary Celery message, built by Celery and kombu on the way that a call takes.
Scheduler replaces :data:`~lambda_celery.schedules.scheduler.SCHEDULED_TIME` in it as text, so its
envelope is not base64; its arguments are, and stay as they are.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from numbers import Real
from typing import Any

from celery import Celery
from celery.app.task import extract_exec_options
from celery.beat import BeatLazyFunc, ScheduleEntry
from kombu import Connection
from kombu.utils.functional import maybe_list

from lambda_celery import aws
from lambda_celery.celery_hooks.amqp import routing_of
from lambda_celery.conf import settings_of
from lambda_celery.envelope import SCHEDULE_HEADER
from lambda_celery.exceptions import ConfigurationError, LambdaCeleryError
from lambda_celery.message import OutgoingMessage, is_fifo
from lambda_celery.publishing.publisher import Publisher
from lambda_celery.publishing.routing import TASK_ATTRIBUTE, followed_task, goes_to_sqs
from lambda_celery.publishing.transport import PUBLISHER_OPTION, Transport
from lambda_celery.schedules.scheduler import MAXIMUM_INPUT_BYTES, SCHEDULED_TIME

#: In the place of the process that published it: the message must not change with each look.
_ORIGIN = "scheduler.amazonaws.com"
#: Options of a publication of its own, which a schedule's message does not have.
_PUBLISHING = (
    "add_to_parent", "connection", "producer", "publisher", "result_cls", "retry", "retry_policy",
    "router",
)  # fmt: skip
_IMPOSSIBLE = ("task_id", "DelaySeconds", "MessageDeduplicationId", "message_attributes")


@dataclass(frozen=True)
class OccurrenceMessage:
    """A queue, and what a schedule is to put there."""

    queue_url: str
    body: str
    message_group_id: str | None


class _Captured(Exception):  # noqa: N818 - ends a publication, and is no error
    """Stops Celery where a message would leave, so that it announces no publication."""

    def __init__(self, queue_url: str, message: OutgoingMessage) -> None:
        self.queue_url = queue_url
        self.message = message


class _CapturingPublisher(Publisher):
    #: The message is that of many calls, which their ids tell apart.
    marks_calls = False

    def publish(self, queue_url: str, message: OutgoingMessage, sqs: Any = None) -> None:
        raise _Captured(queue_url, message)


def is_for_sqs(app: Celery, entry: ScheduleEntry) -> bool:
    """Whether the messages of *entry* go to SQS: by its task's choice, or with the whole broker."""
    if _is_whole_broker(app):
        return getattr(app.tasks.get(entry.task), TASK_ATTRIBUTE, None) is not False
    name = followed_task(entry.task, (entry.args or (), entry.kwargs))
    return routing_of(app) is not None and goes_to_sqs(app, name)


def occurrence_message(app: Celery, entry: ScheduleEntry, name: str) -> OccurrenceMessage:
    """Return the message for the occurrences of *entry*, whose schedule is called *name*.

    Its task id is that name and the occurrence's time: another one for each occurrence, and
    the same if Scheduler delivers an occurrence twice.

    Raises :exc:`LambdaCeleryError` for what no message, or no schedule, can hold.
    """
    task_id = f"{name}-{SCHEDULED_TIME}"
    try:
        captured = _capture(app, entry, task_id)
    except LambdaCeleryError:
        raise
    except Exception as exc:  # options, routers and arguments are the project's
        raise ConfigurationError(f"Its message cannot be built: {exc!r}.") from exc
    message = captured.message
    if message.attributes:
        raise ConfigurationError(
            "A schedule's message has no message attributes: leave out message_attributes."
        )
    envelope = json.loads(message.body)
    envelope["properties"]["delivery_tag"] = task_id  # kombu's is drawn at random
    body = json.dumps(envelope)
    if len(body.encode()) > MAXIMUM_INPUT_BYTES:
        raise ConfigurationError(
            f"Its message has {len(body.encode())} bytes, and EventBridge Scheduler takes "
            f"{MAXIMUM_INPUT_BYTES}: keep the data elsewhere, and have the task fetch it."
        )
    return OccurrenceMessage(captured.queue_url, body, message.message_group_id)


def _capture(app: Celery, entry: ScheduleEntry, task_id: str) -> _Captured:
    task = app.tasks.get(entry.task)
    args, kwargs = tuple(entry.args or ()), dict(entry.kwargs)
    options = {**(extract_exec_options(task) if task else {}), **entry.options}
    _check(args, kwargs, options)
    for each in _PUBLISHING:
        options.pop(each, None)
    relative = _relative_times(options)
    options["headers"] = {**(options.get("headers") or {}), "celery_beat_task": True} | (
        {SCHEDULE_HEADER: {"time": SCHEDULED_TIME, **relative}} if relative else {}
    )
    options["callbacks"] = maybe_list(options.pop("link", None))
    options["errbacks"] = maybe_list(options.pop("link_error", None))
    if task:
        options.setdefault("ignore_result", task.ignore_result)
        options["shadow"] = options.get("shadow") or task.shadow_name(args, kwargs, options)
    options = app.amqp.router.route(options, entry.task, args, kwargs, task)
    message = app.amqp.as_task_v2(
        task_id, entry.task, args, kwargs, **{"origin": _ORIGIN, **options}
    )
    of_message = {
        *inspect.signature(app.amqp.as_task_v2).parameters,
        *(options.get("stamped_headers") or ()),
    }
    publishing = {option: value for option, value in options.items() if option not in of_message}
    captured = _send(app, entry.task, message, publishing)
    if is_fifo(captured.queue_url):
        _check_fifo(app, captured.queue_url, relative)
    return captured


def _check(args: tuple[Any, ...], kwargs: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    if any(isinstance(each, BeatLazyFunc) for each in (*args, *kwargs.values())):
        raise ConfigurationError(
            "Its arguments are computed anew for each occurrence (BeatLazyFunc), and a schedule's "
            "message is the same for all: have the task compute them."
        )
    for each in _IMPOSSIBLE:
        if options.get(each) is not None:
            raise ConfigurationError(f"A schedule's message has no {each}: leave the option out.")


def _relative_times(options: dict[str, Any]) -> dict[str, float]:
    """Take from *options* what counts from each occurrence; a date stays where it is."""
    relative = {}
    if countdown := options.pop("countdown", None):
        relative["countdown_seconds"] = float(countdown)
    if isinstance(options.get("expires"), Real):
        relative["expires_seconds"] = float(options.pop("expires"))
    return relative


def _send(app: Celery, name: str, message: Any, options: dict[str, Any]) -> _Captured:
    """Publish *message* as Celery does, up to the point where it would leave."""
    transport_options = dict(app.conf.broker_transport_options) if _is_whole_broker(app) else {}
    transport_options.pop("body_encoding", None)
    connection = Connection(
        "sqs",
        transport=Transport,
        transport_options={
            **transport_options,
            "sqs_base64_encoding": False,
            PUBLISHER_OPTION: _CapturingPublisher(settings_of(app)),
        },
    )
    producer = app.amqp.Producer(connection, auto_declare=False)
    routing = routing_of(app)
    with routing.producers.replaced(producer) if routing else nullcontext():
        try:
            app.amqp.send_task_message(producer, name, message, retry=False, **options)
        except _Captured as captured:
            return captured
    raise AssertionError("a message has left although nothing was to be sent")


def _check_fifo(app: Celery, queue_url: str, relative: Mapping[str, float]) -> None:
    if "countdown_seconds" in relative:
        raise ConfigurationError(
            "A FIFO queue cannot delay a single message: leave countdown out, or move the schedule."
        )
    attribute = "ContentBasedDeduplication"
    try:
        answer = aws.client("sqs", settings_of(app)).get_queue_attributes(
            QueueUrl=queue_url, AttributeNames=[attribute]
        )
    except aws.AWS_ERRORS as exc:
        sentence = aws.explain(exc, action="sqs:GetQueueAttributes", resource=queue_url)
        raise ConfigurationError(sentence) from aws.cause(exc, settings_of(app))
    if answer.get("Attributes", {}).get(attribute) != "true":
        raise ConfigurationError(
            f"EventBridge Scheduler gives no deduplication id: turn on {attribute} of {queue_url}."
        )


def _is_whole_broker(app: Celery) -> bool:
    return issubclass(app.connection_for_write().get_transport_cls(), Transport)
