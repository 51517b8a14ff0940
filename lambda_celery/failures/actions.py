"""What is done with failed tasks: found, sent back, sent as new calls, discarded.

A message is published before its dead letter is deleted, so that it is never in no place; where
the process dies in between, it is in two, and the idempotency key keeps it from running twice. The
dead letter is looked for before that: one that is there later is that of another failure.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from celery import Celery

from lambda_celery import aws
from lambda_celery.conf import setting_names, settings_of
from lambda_celery.exceptions import (
    ConfigurationError,
    FailedTaskError,
    NoLongerFailedError,
    PayloadMissingError,
    UnreadableMessageError,
)
from lambda_celery.failures.dead_letters import MAXIMUM_LOOKED_AT, DeadLetters, Fate
from lambda_celery.failures.record import REASON_ATTRIBUTE, Failure
from lambda_celery.failures.refusals import refused
from lambda_celery.failures.rewriting import Call
from lambda_celery.failures.selection import Selection
from lambda_celery.failures.sending import plain_attributes, queue_url_of, url_of_name
from lambda_celery.failures.signature import check_arguments
from lambda_celery.failures.store import Failures
from lambda_celery.message import MAXIMUM_ATTRIBUTES, OutgoingMessage, is_fifo
from lambda_celery.payloads import POINTER_ATTRIBUTES, is_pointer
from lambda_celery.publishing.publisher import publisher_of
from lambda_celery.table.schema import FAILURE_PREFIX, failure_key
from lambda_celery.trace_context import xray_header


@dataclass(frozen=True)
class Done:
    """What was done with a failure."""

    failure: Failure
    #: What has become of its dead letter.
    dead_letter: Fate
    #: Why that could not be looked for, if it could not.
    refusal: str = ""
    #: The call that was published, if one was: its id, its queue, and the SQS body.
    task_id: str = ""
    queue_url: str = ""
    body: str = ""

    def __str__(self) -> str:
        name = f"{self.failure.task or 'a message'} {self.failure.task_id}".strip()
        if not self.queue_url:
            done = "discarded"
        elif self.task_id == self.failure.task_id:
            done = f"sent back to {self.queue_url}"
        else:
            done = f"sent again, as {self.task_id}, to {self.queue_url}"
        return f"{name}: {done}. {self._of_dead_letter()}"

    def _of_dead_letter(self) -> str:
        if self.refusal:
            return f"Its dead letter stays where it is: {self.refusal}"
        if self.dead_letter is Fate.DELETED:
            return "Its dead letter is deleted."
        if self.dead_letter is Fate.ABSENT:
            return "Its dead letter is not on the queue any longer."
        return (
            f"Its dead letter is not among the {MAXIMUM_LOOKED_AT} messages that were looked at, "
            "or somebody else holds it just now: it stays until its retention ends."
        )


@dataclass(frozen=True)
class _Message:
    """The message that failed, as it is to be published."""

    body: str
    attributes: Mapping[str, Mapping[str, Any]]
    group: str


@dataclass(frozen=True)
class _Letter:
    """The dead letter of a failure: in several copies, or in none; or why it is not known."""

    found: Sequence[Mapping[str, Any]] = ()
    refusal: str = ""


class FailedTasks(AbstractContextManager["FailedTasks"]):
    """The failed tasks of *app*, and what can be done with them.

    ::

        from lambda_celery.failures import FailedTasks, Selection

        with FailedTasks(app) as failed:
            for failure in failed.select(Selection(task="shop.*", exception="ConnectionError")):
                print(failed.retry(failure))

    Dead letters that are looked at on the way are hidden from others until the context ends. Each
    method raises a :exc:`~lambda_celery.exceptions.LambdaCeleryError` where AWS refuses.
    """

    def __init__(self, app: Celery) -> None:
        self.app = app
        self.settings = settings_of(app)
        self.records = Failures(self.settings)
        self._publisher = publisher_of(app)
        self._walks: dict[str, DeadLetters] = {}
        self._urls: dict[str, str] = {}

    def __exit__(self, *_: object) -> None:
        """Give back the dead letters that were looked at."""
        for walk in self._walks.values():
            walk.close()

    def select(
        self, selection: Selection | None = None, *, newest_first: bool = True
    ) -> Iterator[Failure]:
        """Yield the failures that *selection* means by their time, as the index has them."""
        chosen = selection or Selection()
        if chosen.ids:
            found = self._by_ids(chosen.ids)
        else:
            found = self.records.all(newest_first=newest_first)
        return filter(chosen.matches, found)

    def get(self, failure_id: str) -> Failure:
        """Return the whole failure with that id, its message included.

        :raises NoLongerFailedError: there is none.
        """
        found = self.records.get(failure_id)
        if found is None:
            raise NoLongerFailedError(
                f"There is no failure {failure_id}: it has run since, was discarded, or its time "
                "is over."
            )
        return found

    def arguments(self, failure: Failure) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments of the call that failed.

        :raises UnreadableMessageError: the message, or its body in S3, cannot be read.
        """
        whole = self.get(failure.id)
        message = self._message(whole, None if whole.body is not None else self._letter(whole))
        return self._call(message).arguments()

    def retry(
        self,
        failure: Failure,
        queue: str | None = None,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> Done:
        """Publish the message of *failure* again, under its id, and delete its dead letter.

        It runs once, even if the dead letter is sent back by another way as well.

        :param queue: the name of a Celery queue, or the URL of one of SQS, if it is another.
        :param args: other positional arguments.
        :param kwargs: other keyword arguments.
        :raises FailedTaskError: it cannot be sent back; nothing has changed.
        :raises UnreadableMessageError: its body in S3 is gone, or what is to be changed cannot be
            read; nothing has changed.
        :raises PublishError: AWS did not take it; nothing has changed.
        """
        failure = self._unless_retried(failure)
        letter = self._letter(failure)
        message = self._message(failure, letter)
        try:
            call = self._call(message)
            expired_at = call.expired_at
        except PayloadMissingError:
            raise
        except UnreadableMessageError:
            if args is not None or kwargs is not None:
                raise
            # As it is: what could not read it may have been mended.
            done = self._sent(failure, message, None, queue, is_changed=False)
        else:
            if expired_at is not None:
                raise FailedTaskError(
                    f"The task {failure.task_id} expired at {expired_at.isoformat()} and "
                    "would not run: send it again, as a new call."
                )
            is_changed = self._set_arguments(call, args, kwargs)
            done = self._sent(failure, message, call, queue, is_changed=is_changed)
        if failure_key(done.body) == failure.id:
            return self._settled(done, letter, self.records.mark_retried)
        # With another body: that it runs tells the function nothing of this failure.
        return self._settled(done, letter, self.records.forget)

    def send_again(
        self,
        failure: Failure,
        queue: str | None = None,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
    ) -> Done:
        """Publish what failed as a new call, with a new id, and delete its dead letter.

        :param task_id: the new id; with one that is derived of something, the call that is sent
            twice runs once. The other parameters, and what is raised, are those of :meth:`retry`.
        """
        failure = self._unless_retried(failure)
        letter = self._letter(failure)
        message = self._message(failure, letter)
        call = self._call(message)
        self._set_arguments(call, args, kwargs)
        call.set_id(task_id or str(uuid.uuid4()))
        done = self._sent(failure, message, call, queue, is_changed=True)
        return self._settled(done, letter, self.records.forget)

    def discard(self, failure: Failure) -> Done:
        """Delete the dead letter of *failure*, and forget it.

        :raises FailedTaskError: the dead letter was not found, and may still be there; or SQS
            refuses. Nothing has changed.
        """
        failure = self._unless_retried(failure)
        walk = self._walk(failure)
        fate = walk.delete(failure, walk.find(failure))
        done = Done(failure, fate)
        if fate is Fate.UNKNOWN:
            raise FailedTaskError(str(done).replace("discarded", "not discarded"))
        self.records.forget(failure)
        return done

    def _unless_retried(self, failure: Failure) -> Failure:
        """Return all that is known of *failure*, unless somebody has sent it back since."""
        whole = self.get(failure.id)
        if whole.failed_at != failure.failed_at:
            raise NoLongerFailedError(
                f"It has failed again at {whole.failed_at.isoformat(timespec='seconds')}, since it "
                "was looked up."
            )
        if failure.retried_at is None and whole.retried_at is not None:
            raise NoLongerFailedError(
                f"It was sent back at {whole.retried_at.isoformat(timespec='seconds')}, since it "
                "was looked up."
            )
        return whole

    def _by_ids(self, ids: frozenset[str]) -> Iterator[Failure]:
        for each in sorted(ids):
            if each.startswith(FAILURE_PREFIX):
                found = self.records.get(each)
                yield from [found] if found is not None else []
            else:
                yield from self.records.of_task(each)

    def _letter(self, failure: Failure) -> _Letter:
        try:
            return _Letter(self._walk(failure).find(failure))
        except FailedTaskError as exc:
            if exc.is_transient:
                raise  # nothing has changed, and a little later the dead letter goes as well
            return _Letter(refusal=str(exc))

    def _message(self, failure: Failure, letter: _Letter | None) -> _Message:
        if failure.body is not None:
            return _Message(failure.body, failure.attributes, failure.message_group_id)
        found = next(iter(letter.found), None) if letter is not None else None
        if found is None:
            why = letter.refusal if letter is not None else ""
            raise FailedTaskError(
                f"The message of {failure.task} {failure.task_id} was too large to be kept in the "
                f"table, and was not found on the dead-letter queue. {why}".rstrip()
            )
        group = found.get("Attributes", {}).get("MessageGroupId", "")
        return _Message(found["Body"], found.get("MessageAttributes", {}), group)

    def _call(self, message: _Message) -> Call:
        if not is_pointer(message.body):
            return Call(self.app, self.settings, message.body)
        payloads = self._publisher.payloads
        try:
            payload = payloads.fetch(message.body)
        except aws.AWS_ERRORS as exc:
            raise refused(exc, action="s3:GetObject", resource="the message's body") from aws.cause(
                exc, self.settings
            )
        payloads.renew(message.body, payload.stored_at)
        return Call(self.app, self.settings, payload.text)

    def _set_arguments(
        self, call: Call, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None
    ) -> bool:
        """Give *call* the arguments that are not ``None``, and say whether it has others now."""
        if args is None and kwargs is None:
            return False
        before = call.arguments()
        after = (
            list(before[0] if args is None else args),
            dict(before[1] if kwargs is None else kwargs),
        )
        if after == before:
            return False
        check_arguments(self.app, call.task, *after)
        call.set_arguments(*after)
        return True

    def _sent(
        self,
        failure: Failure,
        message: _Message,
        call: Call | None,
        queue: str | None,
        *,
        is_changed: bool,
    ) -> Done:
        """Publish *message*; or *call* in its place, if that is changed, or its queue is."""
        if queue is not None and "://" not in queue:
            url = url_of_name(self.app, self.settings, queue)
            if call is not None:
                call.set_queue(queue)
                is_changed = True
        else:
            url = queue or self._url_of_arn(failure, call)
        body, attributes = message.body, plain_attributes(message.attributes)
        if call is not None and is_changed:
            body = call.text()
            attributes = {n: each for n, each in attributes.items() if n not in POINTER_ATTRIBUTES}
        if len(attributes) < MAXIMUM_ATTRIBUTES:
            reason = {"DataType": "String", "StringValue": failure.reason or "failed"}
            attributes.setdefault(REASON_ATTRIBUTE, reason)
        fifo = is_fifo(url)
        self._publisher.send(
            url,
            OutgoingMessage(
                body,
                attributes,
                message_group_id=message.group or ("default" if fifo else None),
                deduplication_id=str(uuid.uuid4()) if fifo else None,
                trace_header=xray_header(failure.trace_id),
            ),
        )
        task_id = call.task_id if call is not None else failure.task_id
        return Done(failure, Fate.UNKNOWN, task_id=task_id, queue_url=url, body=body)

    def _settled(self, done: Done, letter: _Letter, note: Callable[[Failure], bool]) -> Done:
        """Delete the dead letter of what was published, and have *note* write that down.

        In this order: whoever dies in between is not done with it, and comes to both again.
        """
        if letter.refusal:
            done = replace(done, refusal=letter.refusal)
        else:
            try:
                fate = self._walk(done.failure).delete(done.failure, letter.found)
                done = replace(done, dead_letter=fate)
            except FailedTaskError as exc:
                done = replace(done, refusal=str(exc))
        try:
            note(done.failure)
        except ConfigurationError as exc:
            told = ConfigurationError(
                f"It was sent to {done.queue_url}, but is still listed: {exc}"
            )
            told.is_transient = exc.is_transient
            raise told from exc.__cause__
        return done

    def _walk(self, failure: Failure) -> DeadLetters:
        url = failure.dead_letter_queue
        if not url:
            raise FailedTaskError(
                f"It is not known on which dead-letter queue {failure.task} {failure.task_id} is: "
                f"set {setting_names('dead_letter_queue_url')}."
            )
        return self._walks.setdefault(url, DeadLetters(self.settings, url))

    def _url_of_arn(self, failure: Failure, call: Call | None) -> str:
        """Return the URL of the queue that *failure* came from."""
        arn = failure.queue
        if not arn:
            if call is None or call.queue is None:
                raise FailedTaskError(
                    "It is not known which queue the message came from: name one with --queue."
                )
            return url_of_name(self.app, self.settings, call.queue)
        if arn not in self._urls:
            self._urls[arn] = queue_url_of(self.settings, arn)
        return self._urls[arn]
