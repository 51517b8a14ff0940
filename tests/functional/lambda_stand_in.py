"""Lambda's Invoke API on loopback, for tests of who calls it: what it answers, the test says."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from lambda_celery.direct_calls import Answer, encoded


def success(value: Any) -> dict[str, Any]:
    """Return the function's answer of a task that returned *value*."""
    return Answer("SUCCESS", encoded(value, "json")).to_fields()


@dataclass
class LambdaStandIn:
    """What has come, and what is answered to it."""

    #: Given an event, returns what the function returns; or a response of Lambda's own.
    answer: Callable[[dict[str, Any]], Any] = lambda event: success(None)
    url: str = ""
    keeps: bool = True
    events: list[dict[str, Any]] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)
    most_at_a_time: int = 0
    connections: set[Any] = field(default_factory=set)
    _under_way: int = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        event = json.loads(await request.read())
        if self.keeps:
            self.requests.append((request.path, dict(request.headers)))
            self.connections.add(id(request.transport))
            self.events.append(event)
        self._under_way += 1
        self.most_at_a_time = max(self.most_at_a_time, self._under_way)
        try:
            answer = self.answer(event)
            if asyncio.iscoroutine(answer):
                answer = await answer
        finally:
            self._under_way -= 1
        if answer is None:
            assert request.transport is not None
            request.transport.abort()
        return answer if isinstance(answer, web.StreamResponse) else web.json_response(answer)


def arguments(event: dict[str, Any]) -> list[Any]:
    """Return the positional arguments of the call in *event*."""
    import base64

    envelope = json.loads(base64.b64decode(event["message"]["body"]))
    return list(json.loads(base64.b64decode(envelope["body"]))[0])


def refused(status: int, kind: str, message: str = "refused") -> web.Response:
    """Return a refusal of Lambda's."""
    return web.json_response(
        {"Type": "User", "message": message}, status=status, headers={"x-amzn-ErrorType": kind}
    )


def failed(kind: str, message: str) -> web.Response:
    """Return what Lambda says of a function that raised, or whose process died."""
    return web.json_response(
        {"errorType": kind, "errorMessage": message},
        headers={"X-Amz-Function-Error": "Unhandled"},
    )


@contextmanager
def lambda_stand_in() -> Iterator[LambdaStandIn]:
    """Serve the API on a thread of its own."""
    made = LambdaStandIn()
    loop = asyncio.new_event_loop()
    has_begun = threading.Event()
    runner: list[web.AppRunner] = []

    async def serve() -> None:
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_post("/2015-03-31/functions/{name}/invocations", made.handle)
        runner.append(web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True))
        await runner[0].setup()
        site = web.TCPSite(runner[0], "127.0.0.1", 0)
        await site.start()
        made.url = f"http://127.0.0.1:{runner[0].addresses[0][1]}"
        has_begun.set()

    thread = threading.Thread(target=loop.run_forever, name="lambda-stand-in", daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(serve(), loop).result(30)
    try:
        yield made
    finally:
        asyncio.run_coroutine_threadsafe(runner[0].cleanup(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
