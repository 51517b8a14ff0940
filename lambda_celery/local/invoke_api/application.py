"""The Invoke API as an ASGI application."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import Protocol

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lambda_celery.exceptions import LambdaCeleryError
from lambda_celery.local.function import ConcurrencyReachedError
from lambda_celery.local.invoke_api.answers import error_payload, log_result
from lambda_celery.local.invoke_api.calls import Call, RefusalError, read_call
from lambda_celery.local.invoke_api.events import EventQueue
from lambda_celery.local.runtime_api import Outcome, Request


class Function(Protocol):
    """What the Invoke API needs of a function."""

    @property
    def timeout_seconds(self) -> int: ...

    @property
    def maximum_concurrency(self) -> int: ...

    def run(self, request: Request, *, waits: bool = True) -> Outcome: ...


class InvokeApplication:
    """Answers the calls of *function*.

    Arguments:
        function: run on threads of this object.
        names: of the function.
        retry_delays_seconds: how long each further attempt of an event is waited for.
        on_outcome: called with each outcome, and how many seconds it took.
    """

    def __init__(
        self,
        function: Function,
        names: Collection[str],
        retry_delays_seconds: Sequence[float],
        on_outcome: Callable[[Outcome, float], None] | None,
    ) -> None:
        self._function = function
        self._names = names
        self._retry_delays_seconds = retry_delays_seconds
        self._on_outcome = on_outcome
        places = function.maximum_concurrency
        # One more than there are places: it tells at once that there is none.
        self._answering = ThreadPoolExecutor(places + 1, thread_name_prefix="lambda-invoke")
        # Of their own, since these wait for places.
        self._for_events = ThreadPoolExecutor(places, thread_name_prefix="lambda-event")
        self._events: EventQueue
        self.asgi = Starlette(
            routes=[
                Route(
                    "/2015-03-31/functions/{name}/invocations", self._invocations, methods=["POST"]
                ),
                # Of an account without any: who asks has the variable of all of Lambda's API.
                Route("/2015-03-31/event-source-mappings", self._no_mappings, methods=["GET"]),
                Route("/{path:path}", self._unknown, methods=["DELETE", "GET", "POST", "PUT"]),
            ],
            middleware=[
                # A name that another site has pointed to this machine is none of its own.
                Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
            ],
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._events = EventQueue(
            self._run_event, self._function.maximum_concurrency, self._retry_delays_seconds
        )
        yield
        await self._events.close()
        self._answering.shutdown()
        self._for_events.shutdown()

    async def _invocations(self, http: HttpRequest) -> Response:
        try:
            _check_signed(http.headers)
            call = await read_call(
                http.path_params["name"],
                http.query_params.get("Qualifier"),
                http.headers,
                http.stream(),
                known_names=self._names,
            )
            return await self._invoke(call)
        except RefusalError as refusal:
            return _refuse(refusal)
        except ClientDisconnect:  # nobody reads the answer
            return Response(status_code=HTTPStatus.BAD_REQUEST)

    async def _invoke(self, call: Call) -> Response:
        request = call.request
        headers = {"x-amzn-RequestId": request.request_id}
        if call.invocation_type == "DryRun":
            return Response(status_code=HTTPStatus.NO_CONTENT, headers=headers)
        if call.invocation_type == "Event":
            self._events.put(request)
            return Response(status_code=HTTPStatus.ACCEPTED, headers=headers)
        try:
            outcome, seconds = await self._run(self._answering, request, waits=False)
        except ConcurrencyReachedError as exc:
            raise RefusalError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "TooManyRequestsException",
                "Rate Exceeded.",
                {"Reason": "ReservedFunctionConcurrentInvocationLimitExceeded"},
            ) from exc
        except LambdaCeleryError as exc:
            raise RefusalError(
                HTTPStatus.INTERNAL_SERVER_ERROR, "ServiceException", str(exc)
            ) from exc
        headers["X-Amz-Executed-Version"] = "$LATEST"
        if call.wants_log:
            headers["X-Amz-Log-Result"] = log_result(outcome, request, seconds)
        body = outcome.body
        if body is None:
            headers["X-Amz-Function-Error"] = "Unhandled"
            body = error_payload(outcome, request, self._function.timeout_seconds)
        return Response(body, headers=headers, media_type="application/json")

    async def _run_event(self, request: Request) -> Outcome:
        outcome, _ = await self._run(self._for_events, request, waits=True)
        return outcome

    async def _run(
        self, executor: ThreadPoolExecutor, request: Request, *, waits: bool
    ) -> tuple[Outcome, float]:
        started = time.monotonic()
        outcome = await asyncio.get_running_loop().run_in_executor(
            executor, partial(self._function.run, request, waits=waits)
        )
        seconds = time.monotonic() - started
        if self._on_outcome is not None:
            self._on_outcome(outcome, seconds)
        return outcome, seconds

    async def _no_mappings(self, _: HttpRequest) -> Response:
        return JSONResponse({"EventSourceMappings": []})

    async def _unknown(self, http: HttpRequest) -> Response:
        return _refuse(
            RefusalError(
                HTTPStatus.NOT_FOUND,
                "UnknownOperationException",
                f"The local function has no {http.method} {http.url.path} of Lambda's API: it has "
                "Invoke alone.",
            )
        )


def _check_signed(headers: Mapping[str, str]) -> None:
    """Raise :exc:`RefusalError` if there is no signature, though any will do.

    It is what another site cannot have a browser send here.
    """
    if not headers.get("Authorization"):
        raise RefusalError(
            HTTPStatus.FORBIDDEN,
            "MissingAuthenticationTokenException",
            "Missing Authentication Token",
        )


def _refuse(refusal: RefusalError) -> Response:
    return JSONResponse(
        {**refusal.details, "Type": "User", "message": refusal.message},
        refusal.status,
        {"x-amzn-ErrorType": refusal.error_type, "x-amzn-RequestId": str(uuid.uuid4())},
    )
