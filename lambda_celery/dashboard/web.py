"""The page as a site of its own, for a browser on this machine.

Other sites that the browser shows can send it here, too. What they could do is refused: a name that
they have pointed to 127.0.0.1 is no host of ours, nothing is let out to another origin, and what
changes something needs the page's token and its origin.
"""

from __future__ import annotations

import json
import secrets
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lambda_celery.dashboard import page
from lambda_celery.dashboard.answers import VERBS, Answers
from lambda_celery.exceptions import FailedTaskError, LambdaCeleryError

TOKEN_HEADER = "X-Lambda-Celery-Token"  # noqa: S105 - a header's name
_HEADERS = {
    "Content-Security-Policy": page.CONTENT_SECURITY_POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # Files may have changed with the version, and figures are of the moment.
    "Cache-Control": "no-cache",
}


def application(answers: Answers, *, name: str, allow_retry: bool = False) -> Starlette:
    """Return the site.

    :param name: of the app, for the title.
    :param allow_retry: whether failed tasks can be sent back and discarded.
    """
    token = secrets.token_urlsafe(32) if allow_retry else ""
    html = page.document(
        f"{name} - Lambda Celery",
        page.fragment("/api/", token=token),
        lambda each: f"/static/{each}",
    )

    def index(_: Request) -> Response:
        return HTMLResponse(html)

    def status(_: Request) -> Response:
        return _JSON(answers.status())

    def attempts(request: Request) -> Response:
        return _JSON(answers.attempts(request.path_params["task_id"]))

    def failed(request: Request) -> Response:
        return _JSON(answers.failed(request.query_params))

    def counts(_: Request) -> Response:
        return _JSON(answers.counts())

    def failure(request: Request) -> Response:
        return _JSON(answers.failure(request.path_params["failure_id"]))

    async def do(request: Request) -> Response:
        given = request.headers.get(TOKEN_HEADER, "")
        origin = request.headers.get("Origin")
        is_ours = secrets.compare_digest(given.encode(), token.encode())
        if not is_ours or origin != f"http://{request.headers['Host']}":
            return _JSON({"error": "This does not come from the page: load it anew."}, 403)
        try:
            ids = (await request.json())["ids"]
        except (ValueError, KeyError, TypeError, RecursionError):
            ids = None
        if not isinstance(ids, list) or not all(isinstance(each, str) for each in ids):
            return _JSON({"error": 'Send {"ids": [...]}, with ids of failures.'}, 400)
        verb = request.url.path.rpartition("/")[2]
        return _JSON(await run_in_threadpool(answers.do, verb, ids))

    api: list[BaseRoute] = [
        Route("/status", status),
        Route("/attempts/{task_id:path}", attempts),
        Route("/failed", failed),
        Route("/failed-counts", counts),
    ]
    if allow_retry:
        api += [Route(f"/failed/{verb}", do, methods=["POST"]) for verb in VERBS]
    api.append(Route("/failed/{failure_id:path}", failure))
    return Starlette(
        routes=[
            Route("/", index),
            Mount("/api", routes=api),
            Mount("/static", StaticFiles(directory=page.STATIC)),
        ],
        middleware=[
            Middleware(_Headers),
            Middleware(
                TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"], www_redirect=False
            ),
        ],
        exception_handlers={FailedTaskError: _not_there, LambdaCeleryError: _refused},
    )


class _JSON(JSONResponse):
    """In ASCII: who sends a message may write half of a character that UTF-8 does not have."""

    def render(self, content: Any) -> bytes:
        """Return *content* as JSON."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


class _Headers:
    """Gives every response the headers that say what the browser must not do."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _not_there(_: Request, exc: Exception) -> Response:
    return _JSON({"error": str(exc)}, 404)


def _refused(_: Request, exc: Exception) -> Response:
    return _JSON({"error": str(exc)}, 503)
