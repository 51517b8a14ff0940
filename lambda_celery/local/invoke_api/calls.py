"""What a caller asks of the Invoke API, and how AWS refuses it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterable, Collection, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from lambda_celery.local.runtime_api import Request

#: How the function is invoked, and how many bytes the payload has at most.
MAXIMUM_PAYLOAD_BYTES = {
    "RequestResponse": 6_291_456,
    "Event": 1_048_576,
    "DryRun": 6_291_456,
}
_LOG_TYPES = ("None", "Tail")
_MAXIMUM_CLIENT_CONTEXT_BYTES = 3583

_FUNCTION = re.compile(
    r"(arn:(aws[a-zA-Z-]*)?:lambda:)?([a-z]{2}(-[a-z]+)+-\d:)?(\d{12}:)?(function:)?"
    r"(?P<name>[a-zA-Z0-9_-]+)(:(?P<qualifier>\$LATEST|[a-zA-Z0-9_-]+))?"
)


@dataclass(frozen=True)
class Call:
    """One call.

    Attributes:
        invocation_type: RequestResponse, Event or DryRun.
        wants_log: whether the caller wants the end of the log.
        request: what the function is invoked with.
    """

    invocation_type: str
    wants_log: bool
    request: Request


@dataclass(eq=False)
class RefusalError(Exception):
    """AWS answers with an error in the place of an invocation."""

    status: HTTPStatus
    error_type: str
    message: str
    #: More of the body.
    details: Mapping[str, str] = field(default_factory=dict)


async def read_call(
    function: str,
    qualifier: str | None,
    headers: Mapping[str, str],
    chunks: AsyncIterable[bytes],
    *,
    known_names: Collection[str],
) -> Call:
    """Return what is asked.

    Arguments:
        function: a name, or an ARN in full or in part, with a qualifier or without.
        qualifier: a version or an alias, if it is given apart.
        headers: the request's; their names are read in any case.
        chunks: of the payload.
        known_names: of the function.

    Raises:
        RefusalError: AWS would refuse it.
    """
    invocation_type = _one_of(
        tuple(MAXIMUM_PAYLOAD_BYTES),
        "invocationType",
        headers.get("X-Amz-Invocation-Type") or "RequestResponse",
    )
    log_type = _one_of(_LOG_TYPES, "logType", headers.get("X-Amz-Log-Type") or "None")
    # It is read to its end in any case: else the caller meets a reset connection in the place of
    # an answer.
    event = await _payload(chunks, invocation_type)
    found = _FUNCTION.fullmatch(function)
    if found is None:
        raise _not_valid(
            "functionName", function, f"regular expression pattern: {_FUNCTION.pattern}"
        )
    if found["name"] not in known_names:
        raise RefusalError(
            HTTPStatus.NOT_FOUND,
            "ResourceNotFoundException",
            f"Function not found: {function}. Here there is {', '.join(sorted(known_names))}.",
        )
    in_name = found["qualifier"]
    if in_name is not None and qualifier is not None and in_name != qualifier:
        raise RefusalError(
            HTTPStatus.BAD_REQUEST,
            "InvalidParameterValueException",
            "The derived qualifier from the function name does not match the specified qualifier.",
        )
    _check_json(event)
    # Lambda passes it on to who waits for the answer alone.
    client_context = None
    if invocation_type == "RequestResponse":
        client_context = _client_context(headers.get("X-Amz-Client-Context"))
    request = Request(event, client_context=client_context, qualifier=qualifier or in_name)
    return Call(invocation_type, log_type == "Tail", request)


async def _payload(chunks: AsyncIterable[bytes], invocation_type: str) -> bytes:
    maximum = MAXIMUM_PAYLOAD_BYTES[invocation_type]
    kept, size = [], 0
    async for chunk in chunks:
        size += len(chunk)
        if size <= maximum:
            kept.append(chunk)
    if size > maximum:
        raise RefusalError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "RequestTooLargeException",
            f"{size} byte payload is too large for the {invocation_type} invocation type "
            f"(limit {maximum} bytes)",
        )
    return b"".join(kept) or b"{}"


def _check_json(event: bytes) -> None:
    try:
        json.loads(event)
    except (ValueError, RecursionError) as exc:
        raise RefusalError(
            HTTPStatus.BAD_REQUEST,
            "InvalidRequestContentException",
            f"Could not parse request body into json: Could not parse payload into json: {exc}",
        ) from exc


def _client_context(header: str | None) -> str | None:
    if header is None:
        return None
    try:
        decoded = base64.b64decode(header, validate=True).decode()
        is_object = isinstance(json.loads(decoded), dict)
    except (ValueError, RecursionError):
        is_object = False
    if not is_object or len(header) > _MAXIMUM_CLIENT_CONTEXT_BYTES:
        raise RefusalError(
            HTTPStatus.BAD_REQUEST,
            "InvalidRequestContentException",
            "Client context must be a valid Base64-encoded JSON object of "
            f"{_MAXIMUM_CLIENT_CONTEXT_BYTES} bytes at most.",
        )
    # A header of the Runtime API has one line, of ASCII alone.
    return json.dumps(json.loads(decoded))


def _one_of(allowed: tuple[str, ...], member: str, value: str) -> str:
    if value not in allowed:
        raise _not_valid(member, value, f"enum value set: [{', '.join(allowed)}]")
    return value


def _not_valid(member: str, value: str, constraint: str) -> RefusalError:
    return RefusalError(
        HTTPStatus.BAD_REQUEST,
        "ValidationException",
        f"1 validation error detected: Value '{value}' at '{member}' failed to satisfy "
        f"constraint: Member must satisfy {constraint}",
    )
