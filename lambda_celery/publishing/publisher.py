"""The one place from which messages leave for SQS."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from weakref import WeakKeyDictionary

from celery import Celery

from lambda_celery import aws
from lambda_celery.celery_hooks.thread_state import worker_task
from lambda_celery.conf import Settings, setting_names, settings_of
from lambda_celery.exceptions import PublishError, ScheduleError
from lambda_celery.message import MAXIMUM_MESSAGE_SIZE_BYTES, OutgoingMessage
from lambda_celery.payloads import PayloadStore, is_pointer
from lambda_celery.publishing.held_messages import Outgoing, hold
from lambda_celery.publishing.marks import own_call

logger = logging.getLogger(__name__)

#: What every queue takes that nobody has set lower.
_SAFE_MESSAGE_SIZE_BYTES = 262_144


class Publisher:
    """Sends messages to SQS queues: big bodies through S3, far-off messages by Scheduler."""

    #: Whether each message is a call of its own, and so has a mark.
    marks_calls = True

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.payloads = PayloadStore(settings)
        self._limits: dict[str, int] = {}
        self._lock = threading.Lock()

    @contextmanager
    def with_settings(self, settings: Settings) -> Iterator[None]:
        """Send by other *settings* within the context: in a project's tests.

        Who holds this publisher, as the producer of each thread does, need not know.
        """
        before = self.settings, self.payloads, self._limits
        self.settings, self.payloads, self._limits = settings, PayloadStore(settings), {}
        try:
            yield
        finally:
            self.settings, self.payloads, self._limits = before

    def publish(self, queue_url: str, message: OutgoingMessage, sqs: Any = None) -> None:
        """Send *message*, or leave it to the :func:`~lambda_celery.batch` that is open.

        :raises PublishError: AWS did not take it; nothing was sent.
        """
        call = own_call(message.task_id)
        if call is not None and call.keep_own is not None:
            call.keep_own(message)
            return
        running = worker_task()
        # What a running task sends in its own place, as its retry, must outlive what it raises.
        is_own = running is not None and message.task_id == running.request.id
        if is_own or not hold(Outgoing(self, queue_url, message, sqs)):
            self.send(queue_url, message, sqs)

    def send(self, queue_url: str, message: OutgoingMessage, sqs: Any = None) -> None:
        """Send *message* now, or schedule it, where the settings name a role for that.

        :param sqs: the boto3 client to use, where it is not the settings' own.
        :raises PublishError: AWS did not take it; nothing was sent.
        """
        try:
            sqs = sqs or aws.client("sqs", self.settings)
            ready = self.prepared(queue_url, message, sqs)
            if ready is not None:
                sqs.send_message(QueueUrl=queue_url, **ready.parameters())
        except aws.AWS_ERRORS as exc:
            action = f"sqs:{getattr(exc, 'operation_name', 'SendMessage')}"
            sentence = aws.explain(exc, action=action, resource=queue_url, setting="queue_url")
            raise _refusal(sentence, exc) from aws.cause(exc, self.settings)

    def prepared(
        self, queue_url: str, message: OutgoingMessage, sqs: Any
    ) -> OutgoingMessage | None:
        """Return what to send to the queue; ``None`` if a schedule sends it.

        :raises PublishError: S3 or Scheduler did not take it, or it is too big.
        """
        self._check_due(message)
        message = self._offloaded(queue_url, message, sqs)
        return None if self._scheduled(queue_url, message) else message

    def threshold_bytes(self, queue_url: str, sqs: Any = None) -> int:
        """Return the size above which a message for the queue goes to S3."""
        limit = self.limit_bytes(queue_url, sqs)
        threshold = self.settings.payload_threshold_bytes
        return limit if threshold is None else min(threshold, limit)

    def limit_bytes(self, queue_url: str, sqs: Any = None) -> int:
        """Return the size of the largest message that the queue accepts; asked once a process."""
        with self._lock:
            if queue_url not in self._limits:
                try:
                    self._limits[queue_url] = _ask_limit(
                        queue_url, sqs or aws.client("sqs", self.settings)
                    )
                except aws.AWS_ERRORS as exc:
                    if aws.misconfigured(exc) and not aws.denied(exc):
                        raise
                    sentence = aws.explain(exc, action="sqs:GetQueueAttributes", resource=queue_url)
                    if not aws.denied(exc):
                        logger.info("%s Asking again with the next message.", sentence)
                        return _SAFE_MESSAGE_SIZE_BYTES
                    # A producer that may only send works, unless its queue has a lower limit.
                    logger.info(
                        "%s Assuming that it takes %d bytes.", sentence, MAXIMUM_MESSAGE_SIZE_BYTES
                    )
                    self._limits[queue_url] = MAXIMUM_MESSAGE_SIZE_BYTES
            return self._limits[queue_url]

    def _check_due(self, message: OutgoingMessage) -> None:
        """Refuse what is due so late that the function would not read it."""
        if message.due is None:
            return
        seconds = (message.due - datetime.now(UTC)).total_seconds()
        if seconds > self.settings.maximum_delay_seconds:
            raise PublishError(
                f"The task is due in {seconds:.0f} s, and {setting_names('maximum_delay_seconds')} "
                f"allows {self.settings.maximum_delay_seconds}: until then its message would hop "
                "through the queue. Keep such times in a database of your own."
            )

    def _offloaded(self, queue_url: str, message: OutgoingMessage, sqs: Any) -> OutgoingMessage:
        """Return *message*, or the pointer to it in S3 where it is too big for the queue."""
        if is_pointer(message.body):
            return message
        size = message.size_bytes
        if size <= self.threshold_bytes(queue_url, sqs):
            return message
        limit = self.limit_bytes(queue_url, sqs)
        bucket = self.settings.payload_bucket
        if bucket is None:
            if size <= limit:
                return message
            raise PublishError(
                f"The message has {size} bytes, but {queue_url} takes {limit}: set "
                f"{setting_names('payload_bucket')} to an S3 bucket for bodies of this size."
            )
        try:
            pointer, attributes = self.payloads.store(message.body, message.attributes)
        except aws.AWS_ERRORS as exc:
            sentence = aws.explain(
                exc, action="s3:PutObject", resource=f"s3://{bucket}", setting="payload_bucket"
            )
            raise _refusal(sentence, exc) from aws.cause(exc, self.settings)
        return replace(message, body=pointer, attributes=attributes)

    def _scheduled(self, queue_url: str, message: OutgoingMessage) -> bool:
        """Schedule *message* if it is far off; return whether that is done.

        Else it hops: it is sent with the longest delay, and the runtime sends it on.
        """
        settings = self.settings
        if not (settings.schedule_group and settings.schedule_role_arn and message.is_far_off):
            return False
        from lambda_celery.schedules import one_time, scheduler  # few messages are far off

        if not one_time.can_carry(queue_url, message):
            return False
        try:
            one_time.create_one_time_schedule(settings, queue_url, message)
        except aws.AWS_ERRORS as exc:
            sentence = scheduler.explain(exc, settings)
            if scheduler.misconfigured(exc):
                raise ScheduleError(sentence) from aws.cause(exc, settings)
            # It may be there after all: then there are two messages, of which one runs.
            logger.warning("%s The message goes to the queue instead, and hops.", sentence)
            return False
        return True


def publisher_of(app: Celery) -> Publisher:
    """Return the one publisher of *app*."""
    with _lock:
        if app not in _publishers:
            _publishers[app] = Publisher(settings_of(app))
        return _publishers[app]


_publishers: WeakKeyDictionary[Celery, Publisher] = WeakKeyDictionary()
_lock = threading.Lock()


def _ask_limit(queue_url: str, sqs: Any) -> int:
    answer = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["MaximumMessageSize"])
    limit = answer.get("Attributes", {}).get("MaximumMessageSize")
    return int(limit) if limit else MAXIMUM_MESSAGE_SIZE_BYTES


def _refusal(sentence: str, exc: Exception) -> PublishError:
    refusal = PublishError(sentence)
    refusal.is_misconfigured = aws.misconfigured(exc)
    refusal.is_transient = aws.is_transient(exc)
    return refusal
