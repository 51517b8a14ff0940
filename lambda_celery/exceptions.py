"""The one tree of exceptions. Every message is a sentence that says what to do."""

from __future__ import annotations

from typing import NamedTuple

from celery.exceptions import ImproperlyConfigured
from kombu.exceptions import OperationalError


class LambdaCeleryError(Exception):
    """Anything that Lambda Celery itself raises."""

    #: Whether it stays so until somebody changes a setting or a permission.
    is_misconfigured = False
    #: Whether AWS may do a little later what it did not do now.
    is_transient = False


class ConfigurationError(LambdaCeleryError, ImproperlyConfigured):
    """A setting is missing or contradicts another; the message names it."""

    is_misconfigured = True


class PublishError(LambdaCeleryError, OperationalError):
    """AWS did not take a message. It was not sent, and nothing was dropped silently.

    It is a :exc:`kombu.exceptions.OperationalError`, which is what Celery
    documents for a ``delay()`` that could not reach the broker.
    """


class UnsentTask(NamedTuple):
    """A task that AWS did not take, and why."""

    task_id: str | None
    reason: str


class BatchPublishError(PublishError):
    """AWS did not take some of the messages that were sent together.

    :ivar failed: exactly those that were not sent.
    :ivar sent: how many were.
    """

    def __init__(self, failed: tuple[UnsentTask, ...], sent: int) -> None:
        super().__init__(failed, sent)
        self.failed = failed
        self.sent = sent

    def __str__(self) -> str:
        total = len(self.failed) + self.sent
        if total == 1:  # a mail, to whoever knows of no batch
            return f"The task {self.failed[0].task_id} was not sent: {self.failed[0].reason}"
        return (
            f"{len(self.failed)} of {total} tasks were not sent. The first is "
            f"{self.failed[0].task_id}: {self.failed[0].reason} "
            "The attribute failed has each of them: call those again."
        )


class ScheduleError(PublishError):
    """EventBridge Scheduler did not take a schedule, or does not delete one."""


class UnsupportedMailError(LambdaCeleryError):
    """A mail holds what cannot travel to the function, or what the function cannot read."""


class CallFailedError(LambdaCeleryError):
    """A direct call of the function has no result, and no exception of the task's own."""


class FailedTaskError(LambdaCeleryError):
    """A failed task cannot be found, sent back or discarded as it was asked for."""


class NoLongerFailedError(FailedTaskError):
    """A failed task has run since, was sent back or discarded by somebody, or has failed anew."""


#: What a sender has written into a message is repeated up to here, in a log line or a reason.
MAXIMUM_TEXT_CHARACTERS = 1000


def cut(text: str) -> str:
    """Return *text*, or its beginning: whoever sends a megabyte must not log a megabyte."""
    if len(text) <= MAXIMUM_TEXT_CHARACTERS:
        return text
    return f"{text[:MAXIMUM_TEXT_CHARACTERS]}… ({len(text)} characters)"


class MessagesReturnedError(LambdaCeleryError):
    """Some messages of a batch stay on the queue, and their mapping takes no list of them."""


class UnreadableMessageError(LambdaCeleryError):
    """A message on the queue is not a Celery task message that may be decoded here."""

    def __str__(self) -> str:
        return cut(super().__str__())


class PayloadMissingError(UnreadableMessageError):
    """The S3 object that an SQS message points to is gone."""
