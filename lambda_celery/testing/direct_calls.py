"""Direct calls in a test: the function is this process, and waiting is the queue's clock."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lambda_celery.aws.invoking import Reply
from lambda_celery.celery_hooks.running_loop import hidden_loop
from lambda_celery.direct_calls import InvocationType
from lambda_celery.testing.ageing import aged_body
from lambda_celery.testing.clock import Clock
from lambda_runtime.running.connections import uses_django


class DirectCalls:
    """Takes direct calls in the place of Lambda.

    :param clock: the queue's.
    :param advance: lets as many seconds pass.
    :param call: calls the handler with an event, and returns its answer.
    """

    def __init__(
        self,
        clock: Clock,
        advance: Callable[[float], object],
        call: Callable[[Mapping[str, Any]], Any],
    ) -> None:
        self._clock = clock
        self._advance = advance
        self._call = call
        #: The threads whose event loop, if they have one, was made for what runs on them here.
        self._threads: set[int] = set()
        #: How much had been let pass when a message was made, by its body.
        self._made: dict[str, float] = {}

    @contextmanager
    def on_this_thread(self) -> Iterator[None]:
        """Run on this thread what is called on it within the context."""
        thread = threading.get_ident()
        is_first = thread not in self._threads
        self._threads.add(thread)
        try:
            yield
        finally:
            if is_first:
                self._threads.discard(thread)

    def run(self, coroutine: Coroutine[Any, Any, Any], *, hides_loop: bool = False) -> Any:
        """Run *coroutine*: see :class:`~lambda_celery.invoke.stand_in.StandIn`."""
        with self.on_this_thread():
            if not hides_loop:
                return asyncio.run(coroutine)
            # With a factory, the thread's current loop stays what it is.
            with hidden_loop(), asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
                return runner.run(coroutine)

    async def invoke(self, function: str, payload: bytes, invocation_type: str) -> Reply:
        """Call the handler, whatever the *function*'s name is."""
        event = json.loads(payload)
        is_awaited = invocation_type == InvocationType.REQUEST_RESPONSE.value
        if threading.get_ident() in self._threads or not uses_django():
            with hidden_loop():
                return self._reply(event, is_awaited)
        # The test is a coroutine, and its transaction is where its sync_to_async() runs.
        from asgiref.sync import sync_to_async

        return await sync_to_async(self._reply)(event, is_awaited)

    def time(self) -> float:
        """Return the time of the loop, and what was let pass besides."""
        return asyncio.get_running_loop().time() + self._clock.passed_seconds

    async def pause(self, seconds: float) -> None:
        """Let *seconds* pass."""
        self._advance(seconds)
        await asyncio.sleep(0)  # for what is called at the same time

    async def close(self) -> None:
        """There are no connections."""

    def _reply(self, event: dict[str, Any], is_awaited: bool) -> Reply:
        message = event["message"]
        now = self._clock.passed_seconds
        body = aged_body(message["body"], now - self._made.setdefault(message["body"], now))
        try:
            answer = self._call({**event, "message": {**message, "body": body}})
        except Exception as exc:
            if not is_awaited:  # Lambda would tell nobody
                raise
            error = {"errorType": type(exc).__name__, "errorMessage": str(exc)}
            return Reply(json.dumps(error).encode(), has_failed=True)
        if is_awaited and (retry := answer.get("message")) is not None:
            self._made.setdefault(retry["body"], self._clock.passed_seconds)
        return Reply(json.dumps(answer).encode(), has_failed=False)
