"""A direct call of the function: one task, whose caller is told, or sent on if it is not.

Who waits for the answer is told whatever becomes of the call: nothing of it goes to a queue. What
nobody waits for (``Event``) is run as if its queue had handed it over for the first time, and what
would stay there is sent there: so it has the queue's attempts, its back-off and its dead letters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import states
from kombu.utils.json import dumps

from lambda_celery import aws
from lambda_celery.conf import Settings
from lambda_celery.direct_calls import (
    CALL_FIELD,
    VERSION,
    Answer,
    InvocationType,
    read_answer,
)
from lambda_celery.exceptions import (
    CallFailedError,
    ConfigurationError,
    MessagesReturnedError,
)
from lambda_celery.publishing.marks import mark_for
from lambda_celery.publishing.publisher import Publisher
from lambda_runtime.answers import wait
from lambda_runtime.deadline import Deadline
from lambda_runtime.messages.delivery import Delivery
from lambda_runtime.messages.note import Fate
from lambda_runtime.messages.outcome import Forwarded, Parked, Returned
from lambda_runtime.messages.settlement import Settlement
from lambda_runtime.messages.source_queues import SourceQueues

#: What Celery's older protocol has in a message's body, and a call by hand may have.
_FIELDS_BY_HAND = (
    "args", "callbacks", "chord", "errbacks", "eta", "expires", "group", "id", "kwargs", "retries",
    "task", "taskset", "timelimit", "utc",
)  # fmt: skip
_MESSAGE_ID = re.compile(r"[\w.-]{1,100}", re.ASCII)


@dataclass(frozen=True)
class DirectCall:
    """What the function is called with, in the place of a batch."""

    record: Mapping[str, Any]
    invocation_type: InvocationType
    #: The queue of the task; the default one, where it is not known or none of ours.
    queue_url: str | None = None
    #: Whether its caller wants what the task returns, and no more.
    is_by_hand: bool = False

    def delivery(self, settings: Settings) -> Delivery:
        """Return it as a message. One that nobody waits for is of its queue.

        :raises ConfigurationError: there is no queue.
        """
        record = {**self.record, "messageId": _message_id(str(self.record["messageId"]))}
        if self.invocation_type is InvocationType.EVENT:
            url = self.queue_url if self.queue_url in settings.queue_urls else None
            url = url or settings.require("queue_url", "where a call that fails is tried again")
            record["eventSourceARN"] = aws.queue_arn(settings, url)
        return Delivery.from_record(record, self.invocation_type)

    def settlement(
        self, publisher: Publisher, queues: SourceQueues, deadline: Deadline
    ) -> AwaitedSettlement | EventSettlement:
        """Return what settles it."""
        is_awaited = self.invocation_type is InvocationType.REQUEST_RESPONSE
        kind = AwaitedSettlement if is_awaited else EventSettlement
        return kind(publisher, queues, deadline)


def read_call(event: Mapping[str, Any]) -> DirectCall:
    """Return the direct call that *event* is.

    :raises ConfigurationError: it is of another version, or malformed.
    """
    if event[CALL_FIELD] != VERSION:
        raise ConfigurationError(
            f"The direct call is of version {str(event[CALL_FIELD])[:20]}, and this function "
            f"knows {VERSION}: deploy the version of lambda-celery that the caller has."
        )
    record = event.get("message")
    fields = record if isinstance(record, Mapping) else {}
    if not all(isinstance(fields.get(name), str) for name in ("messageId", "body")):
        raise ConfigurationError("The direct call has no message with a messageId and a body.")
    queue_url = event.get("queue_url")
    return DirectCall(fields, _invocation_type(event.get("invocation_type")), queue_url)


def call_by_hand(event: Mapping[str, Any], request_id: str) -> DirectCall:
    """Return the direct call that a person, or a schedule, has written as *event*.

    Lambda tries an asynchronous invocation again under its *request_id*: it runs once.

    :raises ConfigurationError: it has a field that Celery's messages do not have.
    """
    known = {*_FIELDS_BY_HAND, "invocation_type"}
    if unknown := sorted(set(map(str, event)) - known):
        raise ConfigurationError(
            f"The call of {str(event['task'])[:200]} has the field {unknown[0][:200]!r}, which "
            f"means nothing here. Known are: {', '.join(sorted(known))}."
        )
    called = {name: event[name] for name in _FIELDS_BY_HAND if name in event}
    called = {"id": request_id, "args": [], "kwargs": {}, **called}
    envelope = {
        "body": dumps(called),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {},
        "properties": {"delivery_info": {}},
    }
    record = {"messageId": request_id, "body": json.dumps(envelope)}
    asked = event.get("invocation_type", InvocationType.EVENT.value)
    return DirectCall(record, _invocation_type(asked), is_by_hand=True)


def _message_id(given: str) -> str:
    """Return the id under which the attempts of a call are counted, as SQS would give it.

    A task's id may be anything, and this one travels in the attributes of messages.
    """
    return given if _MESSAGE_ID.fullmatch(given) else mark_for(given)


def _invocation_type(value: Any) -> InvocationType:
    try:
        return InvocationType(value)
    except ValueError as exc:
        raise ConfigurationError(f"The direct call's {exc}") from None


class AwaitedSettlement(Settlement):
    """Settles a call whose caller is told: by the answer, and nothing else."""

    def hand_back(self, delivery: Delivery, returned: Returned) -> None:
        """Have the caller told that it is to ask again."""
        delivery.note.stays(Fate.RETURNED, returned.reason)
        delivery.note.answer = delivery.note.answer or wait(returned)
        super().let_go(delivery)

    def send_on(self, delivery: Delivery, outcome: Forwarded) -> None:
        """Have the caller told when it is to ask again."""
        delivery.note.stays(Fate.RETURNED, "it is not its turn")
        delivery.note.answer = delivery.note.answer or wait(outcome)
        super().let_go(delivery)

    def park(self, delivery: Delivery, outcome: Parked) -> Exception | None:
        """Leave it to the answer: there is no message."""
        raise AssertionError(outcome)  # Decision has made another outcome of it

    def close_call(self, call: DirectCall, delivery: Delivery) -> Any:
        """Return what Lambda gives to the caller.

        :raises CallFailedError: the call was written by hand, and has no result.
        """
        answer = delivery.note.answer
        assert answer is not None
        return self._plain(answer) if call.is_by_hand else answer.to_fields()

    def _plain(self, answer: Answer) -> Any:
        """Return what the task returned, as JSON has it."""
        if answer.pointer:
            payloads = self._publisher.payloads
            answer = read_answer(json.loads(payloads.fetch(answer.pointer).text))
        result = answer.result or {}
        if answer.state == states.SUCCESS and "body" in result:
            return json.loads(result["body"])
        about = answer.reason
        if answer.state == states.FAILURE and "body" in result:
            about = f"{about}: {result['body']}"
        raise CallFailedError(f"The task ended as {answer.state}: {about}")


class EventSettlement(Settlement):
    """Settles a call that nobody waits for: what would stay on its queue is sent there."""

    #: What stood in the way of that.
    _failure: Exception | None = None

    def hand_back(self, delivery: Delivery, returned: Returned) -> None:
        """Send it to its queue, to come when it would be tried again."""
        eta = datetime.now(UTC) + timedelta(seconds=max(0, returned.delay_seconds))
        self.send_on(delivery, Forwarded(eta))

    def send_on(self, delivery: Delivery, outcome: Forwarded) -> None:
        """Send it to its queue, to come when it is due."""
        self._failure = self.forward(delivery, outcome)
        super().let_go(delivery)

    def close_call(self, call: DirectCall, delivery: Delivery) -> None:
        """Return what Lambda throws away.

        :raises MessagesReturnedError: it could not be sent to its queue: Lambda tries it again.
        """
        if self._failure is not None:
            raise MessagesReturnedError(
                f"The call {delivery.message_id} was not run to its end, and could not be sent to "
                f"its queue: {self._failure}"
            )
