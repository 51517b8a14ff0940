"""The Lambda Runtime API (2018-06-01), as one runtime process sees it.

    runtime process                     RuntimeApi                        LocalFunction
    GET  invocation/next     ────────►  (parked)
                                           ◄──────────────────────────  invoke(request)
         event, deadline     ◄────────  taken: the time-out starts here
    POST invocation/ID/response ─────►  outcome  ─────────────────────►  (returns)

One server serves one process and ends with it, so that no request of a killed
process can ever be taken for one of its successor.

With a maximum concurrency, as on Lambda Managed Instances, the process has forked that many, each
of which asks for events of its own. Nothing tells that one of them has died: an event that it had
taken ends with its time-out.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import logging
import socket
import threading
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

logger = logging.getLogger(__name__)

#: What Lambda takes as a response: 6 MB and a little.
MAXIMUM_RESPONSE_BYTES = 6_291_556

_PREFIX = "/2018-06-01/"
_READ_CHUNK_BYTES = 65_536


@dataclass(frozen=True)
class Request:
    """What the function is invoked with.

    Attributes:
        event: JSON.
        request_id: which the handler finds in its context; drawn if it is not given.
        client_context: the caller's, as JSON.
        qualifier: the version or alias that the caller has named, for the context's ARN.
    """

    event: bytes
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    client_context: str | None = None
    qualifier: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of an event that was given to the runtime process.

    Exactly one of *body* and *error* is set, unless the process never took the event.
    """

    body: bytes | None = None
    error: str | None = None
    #: The error as the runtime has reported it, in JSON: ``None`` if it has not.
    report: bytes | None = None
    #: How the process has ended, if this was the reason.
    exit: str | None = None
    timed_out: bool = False
    #: Whether the process had asked for the event; one that was not taken did certainly not run.
    taken: bool = True
    #: The end of what the process has written meanwhile, where somebody keeps it.
    log_tail: bytes = b""


@dataclass
class _Invocation:
    request: Request
    timeout_seconds: float
    deadline: float | None = None
    outcome: Outcome | None = None


class RuntimeApi:
    """The Runtime API server of one runtime process, on a free port of 127.0.0.1.

    Arguments:
        function_arn: goes into the Lambda context.
        max_concurrency: how many events are in its hands at most.
    """

    def __init__(self, function_arn: str, max_concurrency: int = 1) -> None:
        self._function_arn = function_arn
        self._max_concurrency = max_concurrency
        self._changed = threading.Condition()
        self._offered: deque[_Invocation] = deque()
        #: By request id, what has been taken, and is waited for.
        self._current: dict[str, _Invocation] = {}
        self._ready = False
        self._closed = False
        self._exit: str | None = None
        self._init_error: Outcome | None = None
        self._server = _Server(self)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.05},
            name=f"runtime-api-{self.address}",
            daemon=True,
        ).start()

    def wait_until_ready(self, timeout_seconds: float) -> Outcome | None:
        """Wait until the process asks for its first event: return ``None`` then, else why not."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._ready or self._init_error or self._exit, timeout_seconds
            )
            if self._ready:
                return None
            if self._init_error:
                return self._init_error
            if self._exit:
                return Outcome(
                    error=f"process exited with {self._exit} before it asked for an event",
                    exit=self._exit,
                )
            return Outcome(error=f"the handler's module was not loaded after {timeout_seconds:g} s")

    def invoke(self, request: Request, timeout_seconds: float) -> Outcome:
        """Give *request* to the process and wait for what becomes of it.

        The time-out counts from when the process takes the event. After one, the caller
        has to kill the process where Lambda does: this server does not know how.
        """
        invocation = _Invocation(request, timeout_seconds)
        with self._changed:
            self._offered.append(invocation)
            self._changed.notify_all()
            try:
                return self._outcome(invocation)
            finally:
                self._current.pop(request.request_id, None)

    def _outcome(self, invocation: _Invocation) -> Outcome:
        while invocation.outcome is None:
            if self._exit is not None or self._closed:
                reason = self._exit or "signal SIGKILL"
                return Outcome(
                    error=f"process exited with {reason}",
                    exit=reason,
                    taken=invocation.deadline is not None,
                )
            if invocation.deadline is None:
                self._changed.wait()
                continue
            remaining = invocation.deadline - time.monotonic()
            if remaining <= 0:
                seconds = f"{invocation.timeout_seconds:g} s"
                return Outcome(error=f"timed out after {seconds}", timed_out=True)
            self._changed.wait(remaining)
        return invocation.outcome

    def process_exited(self, description: str) -> None:
        """Note that the process is gone, which ends its invocation; *description* says how."""
        with self._changed:
            self._exit = description
            self._changed.notify_all()

    def close(self) -> None:
        """Stop serving. Whoever waits for an answer or an event is let go."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    # The requests, each on a thread of the server.

    def _take(self, connection: socket.socket) -> _Invocation | HTTPStatus | None:
        """Return the next event for the process, once there is one, and start its time-out."""
        with self._changed:
            unanswered = sum(each.outcome is None for each in self._current.values())
            if unanswered >= self._max_concurrency:
                return HTTPStatus.FORBIDDEN
            self._ready = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._offered or self._closed or self._exit)
            if self._closed or self._exit:
                return None
            # The process may have died while it was parked here, and nobody has noticed yet.
            # The event must not get lost in its dead connection as one that may have run.
            if _is_disconnected(connection):
                return None
            invocation = self._offered.popleft()
            invocation.deadline = time.monotonic() + invocation.timeout_seconds
            self._current[invocation.request.request_id] = invocation
            self._changed.notify_all()
            return invocation

    def _settle(self, request_id: str, outcome: Outcome) -> bool:
        with self._changed:
            if (invocation := self._current.get(request_id)) is None:
                return False
            if invocation.outcome is None:
                invocation.outcome = outcome
            self._changed.notify_all()
            return True

    def _note_init_error(self, body: bytes | None) -> None:
        with self._changed:
            self._init_error = _reported(body)
            self._changed.notify_all()

    def _headers(self, invocation: _Invocation) -> dict[str, str]:
        trace = uuid.uuid4().hex
        request = invocation.request
        arn = self._function_arn
        if request.qualifier is not None:
            arn += f":{request.qualifier}"
        client_context = {}
        if request.client_context is not None:
            client_context["Lambda-Runtime-Client-Context"] = request.client_context
        deadline_ms = int((time.time() + invocation.timeout_seconds) * 1000)
        return {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": request.request_id,
            "Lambda-Runtime-Deadline-Ms": str(deadline_ms),
            "Lambda-Runtime-Invoked-Function-Arn": arn,
            **client_context,
            "Lambda-Runtime-Trace-Id": (
                f"Root=1-{int(time.time()):08x}-{trace[:24]};Parent={trace[-16:]};Sampled=0"
            ),
        }


def _is_disconnected(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, api: RuntimeApi) -> None:
        self.api = api
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A killed process cuts its connection: that is reported as its exit, not from here.
        logger.debug("Request of %s was cut off", client_address, exc_info=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body leave in one segment: else Nagle's algorithm costs 40 ms an invocation.
    disable_nagle_algorithm = True
    wbufsize = 65_536
    server: _Server

    def do_GET(self) -> None:
        path = self.path.removeprefix(_PREFIX)
        if path == "runtime/invocation/next":
            self._next()
        elif path == "runtime/restore/next":
            self._answer(HTTPStatus.OK, {})
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "UnknownPath", f"There is no {self.path}.")

    def do_POST(self) -> None:
        api = self.server.api
        parts = self.path.removeprefix(_PREFIX).split("/")
        body = self._read(MAXIMUM_RESPONSE_BYTES)
        match parts:
            case ["runtime", "invocation", request_id, "response"]:
                if body is None:
                    api._settle(request_id, _reported(_TOO_LARGE))
                    self._refuse(
                        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "RequestEntityTooLarge", _SIZE_EXCEEDED
                    )
                    return
                known = api._settle(request_id, Outcome(body=body))
            case ["runtime", "invocation", request_id, "error"]:
                known = api._settle(request_id, _reported(body))
            case ["runtime", ("init" | "restore"), "error"]:
                api._note_init_error(body)
                known = True
            case ["runtime", "exit", *_]:
                known = True
            case _:
                self._refuse(HTTPStatus.NOT_FOUND, "UnknownPath", f"There is no {self.path}.")
                return
        if known:
            self._answer(HTTPStatus.ACCEPTED, {"status": "OK"})
        else:
            self._refuse(
                HTTPStatus.BAD_REQUEST, "InvalidRequestID", "No such invocation is going on."
            )

    def _next(self) -> None:
        taken = self.server.api._take(self.connection)
        if isinstance(taken, _Invocation):
            self._send(HTTPStatus.OK, self.server.api._headers(taken), taken.request.event)
        elif taken is None:
            self.close_connection = True
        else:
            self._refuse(taken, "InvalidStateTransition", "Answer the current invocation first.")

    def _read(self, maximum_bytes: int) -> bytes | None:
        """Return the request's body, or ``None`` if it is too large."""
        remaining = int(self.headers.get("Content-Length") or 0)
        keep = remaining <= maximum_bytes
        chunks = []
        # Also one that is too large is read to its end: else the process meets a reset
        # connection in the place of our answer.
        while remaining and (chunk := self.rfile.read(min(remaining, _READ_CHUNK_BYTES))):
            remaining -= len(chunk)
            if keep:
                chunks.append(chunk)
        return b"".join(chunks) if keep else None

    def _refuse(self, status: HTTPStatus, error_type: str, message: str) -> None:
        self._answer(status, {"errorType": error_type, "errorMessage": message})

    def _answer(self, status: HTTPStatus, value: dict[str, str]) -> None:
        self._send(status, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def _send(self, status: HTTPStatus, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body)
            self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        logger.debug(format, *args)


_SIZE_EXCEEDED = (
    f"Response payload size exceeded maximum allowed payload size ({MAXIMUM_RESPONSE_BYTES} bytes)."
)
_TOO_LARGE = json.dumps(
    {"errorType": "Function.ResponseSizeTooLarge", "errorMessage": _SIZE_EXCEEDED}
).encode()


def _reported(body: bytes | None) -> Outcome:
    """Return the error that the runtime reports in *body*, as "type: message" and as it is."""
    try:
        error = json.loads(body or b"")
    except ValueError:
        error = None
    if not isinstance(error, dict):
        return Outcome(error="Runtime.Unknown: the runtime reported an error without a description")
    error_type = error.get("errorType") or "Runtime.Unknown"
    message = f"{error_type}: {error.get('errorMessage') or ''}".removesuffix(": ")
    return Outcome(error=message, report=body)
