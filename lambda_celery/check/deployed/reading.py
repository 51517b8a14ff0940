"""Reading AWS: each call once, bounded in number and in time; and what could not be read."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lambda_celery import aws
from lambda_celery.conf import Settings
from lambda_celery.exceptions import ConfigurationError

#: What one call may take, with its repeats.
CALL_SECONDS = 10
#: What all calls may take together.
TOTAL_SECONDS = 90
#: Many times what a project with twenty queues needs.
MAXIMUM_CALLS = 1000
#: AWS's codes for what is not there.
_ABSENT = {
    "404", "AWS.SimpleQueueService.NonExistentQueue", "NoSuchBucket", "NoSuchBucketPolicy",
    "NoSuchEntity", "NoSuchLifecycleConfiguration", "NoSuchPublicAccessBlockConfiguration",
    "NotFound", "QueueDoesNotExist", "ResourceNotFoundException",
    "ServerSideEncryptionConfigurationNotFoundError",
}  # fmt: skip


@dataclass(frozen=True)
class Thing:
    """Something on AWS.

    :ivar subject: what it is called in a report, such as ``queue mail``.
    :ivar resource: its ARN, URL or name.
    :ivar setting: the field of :class:`~lambda_celery.conf.Settings` that names it.
    """

    subject: str
    resource: str
    setting: str | None = None


@dataclass(frozen=True)
class Answer:
    """What AWS said of a thing.

    :ivar is_there: ``False`` if it said that there is no such thing.
    """

    said: Mapping[str, Any]
    is_there: bool = True


@dataclass(frozen=True)
class Unseen:
    """What could not be looked at.

    :ivar is_general: whether the same stands in the way of everything, or of a whole service.
    """

    thing: Thing
    sentence: str
    is_general: bool


@dataclass
class Reader:
    """Asks AWS, with the clients of *settings*. What was asked once is remembered."""

    settings: Settings
    #: What was there.
    seen: dict[str, Thing] = field(default_factory=dict)
    #: What the calls since the last :meth:`take_unseen` could not look at.
    _unseen: list[Unseen] = field(default_factory=list)
    _answers: dict[tuple[str, ...], Answer | Unseen] = field(default_factory=dict)
    #: Why a service is asked no more; that of ``*`` is for all.
    _given_up: dict[str, str] = field(default_factory=dict)
    _ends_at: float | None = None

    def look(
        self,
        service: str,
        operation: str,
        thing: Thing,
        action: str,
        *,
        proves: bool = True,
        **arguments: Any,
    ) -> Answer | None:
        """Return what *operation* of *service* says of *thing*; ``None`` if it cannot be asked.

        :param operation: as a method of boto3's client; it must change nothing.
        :param action: the IAM action that it needs.
        :param proves: whether *thing* is there if that is answered. A list may be empty.
        :param arguments: of the operation.
        """
        key = (service, operation, repr(sorted(arguments.items())))
        if key not in self._answers:
            self._answers[key] = self._ask(service, operation, thing, action, arguments)
        answer = self._answers[key]
        if isinstance(answer, Unseen):
            self._unseen.append(answer)
            return None
        if proves and answer.is_there:
            self.seen.setdefault(thing.subject, thing)
        return answer

    def could_not_see(self, thing: Thing, sentence: str) -> None:
        """Note that something of *thing* was not in an answer: *sentence* says what, and why."""
        self._unseen.append(Unseen(thing, sentence, is_general=False))

    def take_unseen(self) -> list[Unseen]:
        """Return what could not be looked at since the last time."""
        taken, self._unseen = self._unseen, []
        return taken

    def _ask(
        self,
        service: str,
        operation: str,
        thing: Thing,
        action: str,
        arguments: Mapping[str, Any],
    ) -> Answer | Unseen:
        for each in ("*", service):
            if each in self._given_up:
                # The same for each thing, so that it is told once.
                return Unseen(_everything(each), self._given_up[each], is_general=True)
        now = time.time()
        if self._ends_at is None:
            self._ends_at = now + TOTAL_SECONDS
        if now > self._ends_at or len(self._answers) >= MAXIMUM_CALLS:
            return self._give_up(
                "*",
                f"The check asks AWS for {TOTAL_SECONDS} s and {MAXIMUM_CALLS} times at most, "
                "and the rest was not looked at.",
            )
        try:
            with aws.ending_at(min(now + CALL_SECONDS, self._ends_at)):
                client = aws.client(service, self.settings, fast=False)
                said = getattr(client, operation)(**arguments)
        except ConfigurationError as exc:
            return self._give_up("*", str(exc))
        except aws.AWS_ERRORS as exc:
            if aws.error_code(exc) in _ABSENT:
                return Answer({}, is_there=False)
            sentence = aws.explain(
                exc, action=action, resource=f"the {thing.subject}", setting=thing.setting
            )
            if aws.misconfigured(exc) and not aws.denied(exc):
                return self._give_up("*", sentence)
            if not isinstance(exc, aws.ClientError):  # no answer: of no address of that service
                return self._give_up(service, sentence)
            return Unseen(thing, sentence, is_general=False)
        return Answer(said)

    def _give_up(self, what: str, sentence: str) -> Unseen:
        self._given_up[what] = sentence
        return Unseen(_everything(what), sentence, is_general=True)


def _everything(service: str) -> Thing:
    return Thing("AWS" if service == "*" else f"all of {service}", service)
