"""One call: it is sent until it is answered, and its answer is read.

A call has the id of its task, by which the function knows it: it may be sent as often as it takes,
and runs once.
"""

from __future__ import annotations

import asyncio
import builtins
import json
import logging
import os
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery import Celery, states
from celery.exceptions import (
    Ignore,
    TaskRevokedError,
    TimeLimitExceeded,
    TimeoutError,  # noqa: A004 - what Celery raises for a result that does not come
    WorkerLostError,
)

from lambda_celery import aws
from lambda_celery.aws.invoking import Reply
from lambda_celery.conf import Settings, setting_names
from lambda_celery.direct_calls import (
    MAXIMUM_EVENT_BYTES,
    MAXIMUM_SYNCHRONOUS_BYTES,
    NOT_KEPT,
    WAIT,
    Answer,
    InvocationType,
    call_event,
    decoded,
    read_answer,
    record_of,
)
from lambda_celery.exceptions import (
    CallFailedError,
    ConfigurationError,
    PayloadMissingError,
    UnreadableMessageError,
)
from lambda_celery.invoke.room import Room
from lambda_celery.invoke.stand_in import Client
from lambda_celery.payloads import PayloadStore, is_pointer
from lambda_celery.publishing.held_messages import Outgoing

logger = logging.getLogger(__name__)

#: The function itself has its own name there.
_OWN_FUNCTION_VARIABLE = "AWS_LAMBDA_FUNCTION_NAME"
#: Between two attempts: from the first to the second, and at most.
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 20.0
#: Before what the function asks for.
_SHORTEST_PAUSE_SECONDS = 0.05
#: How often it is asked whether a call is through that another attempt has begun.
_LONGEST_LOOK_SECONDS = 5.0
#: Lambda's error types of a process that has ended.
_ENDED = {"Runtime.ExitError", "Runtime.OutOfMemory"}
_TIMED_OUT = re.compile(r"timed out after (\d+(?:\.\d+)?) s", re.IGNORECASE)


class RemoteTraceback(Exception):  # noqa: N818 - the cause of what a task has raised, and no error
    """Where the task has raised what is raised here: the traceback, as text."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


@dataclass(frozen=True)
class CallResult:
    """What has become of one call."""

    #: Its place among the signatures, from 0 on.
    index: int
    task_id: str | None
    #: What the task returned; ``None`` if it did not.
    result: Any = None
    #: What it raised, or why there is nothing to tell.
    exception: BaseException | None = None

    def get(self) -> Any:
        """Return what the task returned, or raise what it raised."""
        if self.exception is not None:
            raise self.exception
        return self.result


def function_of(settings: Settings, given: str | None) -> str:
    """Return the function that calls go to: the one *given*, else the settings'.

    :raises ConfigurationError: there is none.
    """
    found = given or settings.function or os.environ.get(_OWN_FUNCTION_VARIABLE)
    if not found:
        raise ConfigurationError(
            f"Set {setting_names('function')}: the name or the ARN of the Lambda function that "
            "direct calls go to."
        )
    return found


class _End:
    """When a call is given up, *timeout* seconds from *now*, by its client's clock."""

    def __init__(self, timeout: float, now: float) -> None:
        self._timeout = timeout
        self.at = now + timeout

    def too_late(self, reason: str) -> TimeoutError:
        """Return what is raised then; *reason* is what was heard last."""
        because = f" The last that was heard: {reason}" if reason else ""
        return TimeoutError(
            f"The call has no answer after {self._timeout:g} s, and may still run: give it a "
            f"longer timeout.{because}"
        )


class Caller:
    """Calls the tasks of one app on one function."""

    def __init__(
        self,
        app: Celery,
        settings: Settings,
        client: Client,
        function: str,
        max_connections: int,
    ) -> None:
        """Call *function* by *client*; no more than *max_connections* calls are under way."""
        self._app = app
        self._settings = settings
        self._client = client
        self._function = function
        self._payloads = PayloadStore(settings)
        self._room = Room(max_connections)
        self._accept = app.conf.result_accept_content or app.conf.accept_content

    async def call(self, task_id: str, outgoing: Outgoing, timeout: float) -> Any:
        """Return what the task returns that *outgoing* calls.

        It is given up after *timeout* seconds. Raises what the task raises; or:

        :raises celery.exceptions.TimeoutError: there was no answer in time. It may still run.
        :raises CallFailedError: there is no result, and no exception of the task's own.
        """
        record: Mapping[str, Any] = record_of(task_id, outgoing.message)
        end = _End(timeout, self._client.time())
        while True:
            answer = await self._answer(record, outgoing.queue_url, end)
            if answer.state != states.RETRY or answer.message is None:
                return self._value(answer)
            # By the id it is told from another call of what a run of a task calls again.
            record = {**answer.message, "messageId": task_id}
            await self._pause(max(answer.seconds, _SHORTEST_PAUSE_SECONDS), end, answer.reason)

    async def send(self, task_id: str, outgoing: Outgoing, timeout: float) -> None:
        """Have the task run that *outgoing* calls, and wait for nothing.

        It is given up after *timeout* seconds.

        :raises celery.exceptions.TimeoutError: Lambda has not taken it in time.
        :raises CallFailedError: Lambda does not take it.
        """
        end = _End(timeout, self._client.time())
        record = record_of(task_id, outgoing.message)
        event, _ = await self._event(record, InvocationType.EVENT, outgoing.queue_url)
        await self._sent(event, InvocationType.EVENT, end)

    async def _answer(self, record: Mapping[str, Any], queue_url: str, end: _End) -> Answer:
        """Return what has become of *record*, which is asked for until it is known."""
        kind = InvocationType.REQUEST_RESPONSE
        event, pointer = await self._event(record, kind, queue_url)
        try:
            answer = await self._known(event, kind, end)
        except Exception:
            await self._forget(pointer)
            raise
        await self._forget(pointer)
        return answer

    async def _known(self, event: bytes, kind: InvocationType, end: _End) -> Answer:
        looks = 0
        while True:
            answer = await self._read(await self._sent(event, kind, end))
            if answer.state not in (WAIT, states.STARTED):
                return answer
            pause = answer.seconds
            if answer.state == states.STARTED:  # until when at most: it may be through before
                pause = min(pause, _backoff(looks, _LONGEST_LOOK_SECONDS))
            looks += 1
            await self._pause(max(pause, _SHORTEST_PAUSE_SECONDS), end, answer.reason)

    async def _forget(self, pointer: str | None) -> None:
        if pointer is not None:
            await asyncio.to_thread(self._payloads.delete, pointer)

    async def _event(
        self, record: Mapping[str, Any], kind: InvocationType, queue_url: str
    ) -> tuple[bytes, str | None]:
        """Return the event for *record*; and the pointer to its body, if that is in S3 now."""
        event = json.dumps(call_event(record, kind, queue_url)).encode()
        is_awaited = kind is InvocationType.REQUEST_RESPONSE
        limit = MAXIMUM_SYNCHRONOUS_BYTES if is_awaited else MAXIMUM_EVENT_BYTES
        if len(event) <= limit or is_pointer(record["body"]):
            return event, None
        if self._payloads.bucket is None:
            raise CallFailedError(
                f"The call has {len(event)} bytes, and Lambda takes {limit}: set "
                f"{setting_names('payload_bucket')} to an S3 bucket for calls of this size."
            )
        try:
            pointer, _ = await asyncio.to_thread(self._payloads.store, record["body"], {})
        except aws.AWS_ERRORS as exc:
            raise self._failure(
                exc, "s3:PutObject", f"s3://{self._payloads.bucket}"
            ) from aws.cause(exc, self._settings)
        event = json.dumps(call_event({**record, "body": pointer}, kind, queue_url)).encode()
        return event, pointer

    async def _sent(self, event: bytes, kind: InvocationType, end: _End) -> Reply:
        """Send *event* until Lambda has called the function."""
        attempt = 0
        reason = ""
        while True:
            longest = _LONGEST_PAUSE_SECONDS
            try:
                async with asyncio.timeout_at(end.at):
                    return await self._sent_once(event, kind)
            except ConnectionError as exc:
                reason = str(exc)
            except aws.AWS_ERRORS as exc:
                if not aws.is_transient(exc):
                    failure = self._failure(exc, "lambda:InvokeFunction", self._function)
                    raise failure from aws.cause(exc, self._settings)
                reason = str(exc)
                if aws.is_throttled(exc) and self._room.under_way:
                    longest = _FIRST_PAUSE_SECONDS  # then it waits until one of those has ended
            except builtins.TimeoutError:
                raise end.too_late(reason) from None
            await self._pause(_backoff(attempt, longest), end, reason)
            attempt += 1

    async def _sent_once(self, event: bytes, kind: InvocationType) -> Reply:
        room = self._room
        await room.take()
        ended = room.give_back
        try:
            reply = await self._client.invoke(self._function, event, kind.value)
            ended = room.accepted
        except aws.AWS_ERRORS as exc:
            if aws.is_throttled(exc):
                ended = room.refused
            raise
        finally:
            ended()
        return reply

    async def _pause(self, seconds: float, end: _End, reason: str) -> None:
        if self._client.time() + seconds >= end.at:
            raise end.too_late(reason)
        await self._client.pause(seconds)

    async def _read(self, reply: Reply) -> Answer:
        try:
            told = json.loads(reply.body)
        except ValueError as exc:
            raise CallFailedError(f"The function's answer is not JSON: {exc}.") from exc
        if reply.has_failed:
            raise _function_error(told)
        try:
            answer = read_answer(told)
            return await asyncio.to_thread(self._whole, answer) if answer.pointer else answer
        except UnreadableMessageError as exc:
            raise CallFailedError(str(exc)) from exc

    def _whole(self, answer: Answer) -> Answer:
        """Return the *answer* that is in the payload bucket."""
        try:
            payload = self._payloads.fetch(answer.pointer)
        except PayloadMissingError as exc:
            raise CallFailedError(NOT_KEPT) from exc
        except aws.AWS_ERRORS as exc:
            if aws.is_transient(exc):
                return Answer(WAIT, reason=str(exc), seconds=_LONGEST_LOOK_SECONDS)
            raise self._failure(
                exc, "s3:GetObject", f"s3://{self._payloads.bucket}"
            ) from aws.cause(exc, self._settings)
        whole = read_answer(json.loads(payload.text))
        if not answer.is_shared:
            self._payloads.delete(answer.pointer)
        return whole

    def _value(self, answer: Answer) -> Any:
        match answer.state:
            case states.SUCCESS if answer.result is not None:
                return _decoded(answer.result, self._accept)
            case states.FAILURE if answer.result is not None:
                written = _decoded(answer.result, self._accept)
                exc = self._app.backend.exception_to_python(written)
                if not isinstance(exc, BaseException):
                    raise CallFailedError(answer.reason)
                if isinstance(exc, StopIteration):  # which no coroutine can raise
                    raise CallFailedError(f"The task raised {exc!r}.")
                raise exc from (RemoteTraceback(answer.traceback) if answer.traceback else None)
            case states.REVOKED:
                raise TaskRevokedError(answer.reason)
            case states.IGNORED:
                raise Ignore(answer.reason)
        raise CallFailedError(f"The task ended as {answer.state}: {answer.reason}")

    def _failure(self, exc: Exception, action: str, resource: str) -> CallFailedError:
        failure = CallFailedError(aws.explain(exc, action=action, resource=resource))
        failure.is_misconfigured = aws.misconfigured(exc)
        failure.is_transient = aws.is_transient(exc)
        return failure


def _decoded(written: Mapping[str, str], accept: Any) -> Any:
    try:
        return decoded(written, accept)
    except UnreadableMessageError as exc:
        raise CallFailedError(str(exc)) from exc


def _backoff(attempt: int, longest: float) -> float:
    """Return how long to wait after the *attempt*, from 0 on: at random, up to what doubles."""
    return random.uniform(0.5, 1.0) * min(longest, _FIRST_PAUSE_SECONDS * 2.0 ** min(attempt, 20))


def _function_error(told: Any) -> BaseException:
    """Return what is raised for an error of the function itself, or of its environment."""
    fields = told if isinstance(told, Mapping) else {}
    kind, message = str(fields.get("errorType", "")), str(fields.get("errorMessage", told))
    if (timed_out := _TIMED_OUT.search(message)) is not None:
        limit: BaseException = TimeLimitExceeded(float(timed_out[1]))
        return limit
    if kind in _ENDED or "Runtime exited" in message:
        lost: BaseException = WorkerLostError(f"The function's process has ended: {message}")
        return lost
    return CallFailedError(f"The function could not be called: {kind}: {message}")
