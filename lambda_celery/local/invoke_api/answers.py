"""What became of an invocation, in AWS's words."""

from __future__ import annotations

import base64
import json
import math
import signal

from lambda_celery.local.output import TAIL_BYTES
from lambda_celery.local.runtime_api import Outcome, Request


def error_payload(outcome: Outcome, request: Request, timeout_seconds: int) -> bytes:
    """Return what a caller gets as the payload where *outcome* is an error."""
    if outcome.report is not None:
        return outcome.report
    if outcome.timed_out:
        error_type = "Sandbox.Timedout"
        error = f"Task timed out after {timeout_seconds:.2f} seconds"
    elif outcome.exit is not None:
        error_type, error = "Runtime.ExitError", _exit_error(outcome.exit)
    else:
        error_type, error = "Runtime.Unknown", str(outcome.error)
    message = f"RequestId: {request.request_id} Error: {error}"
    return json.dumps({"errorType": error_type, "errorMessage": message}).encode()


def log_result(outcome: Outcome, request: Request, duration_seconds: float) -> str:
    """Return the end of the invocation's log, in base64."""
    milliseconds = duration_seconds * 1000
    start = f"START RequestId: {request.request_id} Version: $LATEST\n"
    end = (
        f"END RequestId: {request.request_id}\n"
        f"REPORT RequestId: {request.request_id}\tDuration: {milliseconds:.2f} ms\t"
        f"Billed Duration: {math.ceil(milliseconds)} ms\t\n"
    )
    written = outcome.log_tail
    if written and not written.endswith(b"\n"):
        written += b"\n"
    log = start.encode() + written + end.encode()
    return base64.b64encode(log[-TAIL_BYTES:]).decode()


def _exit_error(how: str) -> str:
    kind, _, which = how.partition(" ")
    if kind == "status":
        if which == "0":
            return "Runtime exited without providing a reason"
        return f"Runtime exited with error: exit status {which}"
    try:
        words = signal.strsignal(signal.Signals[which]) or which
    except KeyError:
        words = which
    return f"Runtime exited with error: signal: {words.lower()}"
