"""Trace context: what a message says of the trace that its call belongs to.

W3C's and Sentry's stand in the headers of Celery's message, where their libraries write and read
them. X-Ray's is SQS's system attribute ``AWSTraceHeader``, by which X-Ray links traces, and a
header as well: EventBridge Scheduler carries no attributes.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Mapping
from contextvars import copy_context
from typing import Any, ParamSpec, TypeVar

#: SQS's system attribute for X-Ray's header. It counts in no size, and wins over HTTP's header:
#: https://docs.aws.amazon.com/xray/latest/devguide/xray-services-sqs.html
XRAY_ATTRIBUTE = "AWSTraceHeader"
#: The header of Celery's message, named as OpenTelemetry's propagator for X-Ray names it.
XRAY_HEADER = "X-Amzn-Trace-Id"

#: SQS refuses what is none, and anybody can write a message's headers. Zeros are no trace's.
_XRAY = re.compile(
    r"Root=1-(?!0{8}-)[0-9a-f]{8}-[0-9a-f]{24}(?:;[A-Za-z]+=[\w:.|/+-]*){0,8}", re.ASCII
)
_MAXIMUM_XRAY_LENGTH = 512
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-((?!0{32})[0-9a-f]{32})-[0-9a-f]{16}-")
_SENTRY_TRACE = re.compile(r"((?!0{32})[0-9a-f]{32})-[0-9a-f]{16}")

_P = ParamSpec("_P")
_R = TypeVar("_R")


def xray_header(value: Any) -> str | None:
    """Return *value* if it is X-Ray's header, with a trace of X-Ray's."""
    is_one = isinstance(value, str) and len(value) <= _MAXIMUM_XRAY_LENGTH
    return value if is_one and _XRAY.fullmatch(value) else None


def xray_trace_id(value: Any) -> str | None:
    """Return the id of the trace that *value*, X-Ray's header, names; ``None`` if it is none."""
    return value[len("Root=") :].partition(";")[0] if xray_header(value) is not None else None


def current_xray_header() -> str | None:
    """Return X-Ray's header of what is under way, if X-Ray's SDK records that in this process."""
    if (entity := _xray_entity()) is None:
        return None
    from aws_xray_sdk.ext.util import inject_trace_header

    headers: dict[str, str] = {}
    inject_trace_header(headers, entity)
    return xray_header(headers.get(XRAY_HEADER))


def trace_id(headers: Mapping[str, Any]) -> str | None:
    """Return the id of the trace that W3C's or else Sentry's header among *headers* names."""
    for name, form in (("traceparent", _TRACEPARENT), ("sentry-trace", _SENTRY_TRACE)):
        value = headers.get(name)
        if isinstance(value, str) and (found := form.match(value)):
            return found[1]
    return None


def trace_id_under_way(headers: Mapping[str, Any]) -> str | None:
    """Return the id of OpenTelemetry's trace under way here; else that which *headers* name."""
    if (trace := _opentelemetry()) is not None:
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            return str(trace.format_trace_id(context.trace_id))
    return trace_id(headers)


def note_end(exc: BaseException) -> None:
    """Mark OpenTelemetry's span of the run under way as failed, for *exc* goes past its signals."""
    if (trace := _opentelemetry()) is None:
        return
    span = trace.get_current_span()
    # Not that of the invocation, where tasks have none.
    if getattr(span, "kind", None) is trace.SpanKind.CONSUMER:
        span.record_exception(exc)
        span.set_status(trace.StatusCode.ERROR, f"{type(exc).__name__}: {exc}")


def carried(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Return *function*, to be called on another thread, as part of the trace under way here."""
    context, entity = copy_context(), _xray_entity()

    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        if entity is not None:
            sys.modules["aws_xray_sdk.core"].xray_recorder.set_trace_entity(entity)
        return context.run(function, *args, **kwargs)

    return call


class XRayEntities:
    """X-Ray's segment and subsegments under way for one coroutine among others of its thread.

    X-Ray's SDK keeps them for each thread. So they are put in place for each step.
    """

    __slots__ = ("_context", "_kept")

    def __init__(self, context: Any) -> None:
        self._context = context
        self._kept = _entities_of(context)

    @classmethod
    def under_way(cls) -> XRayEntities | None:
        """Return those of what is under way here, for what it begins; ``None`` without X-Ray."""
        context = getattr(_xray_recorder(), "context", None)
        # Another context of the SDK's, or of the project's, has a place of its own for them.
        is_by_thread = isinstance(getattr(context, "_local", None), threading.local)
        return cls(context) if is_by_thread else None

    def call(self, function: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Return ``function(*args, **kwargs)``, called among them."""
        here = self._context._local.__dict__
        before = dict(here)
        here.clear()
        here.update(self._kept)
        try:
            return function(*args, **kwargs)
        finally:
            self._kept = dict(here)
            here.clear()
            here.update(before)


def _entities_of(context: Any) -> dict[str, Any]:
    # The list is the SDK's stack: two that push on one would end each other's subsegments.
    return {
        name: list(each) if isinstance(each, list) else each
        for name, each in context._local.__dict__.items()
    }


def _opentelemetry() -> Any:
    """Return OpenTelemetry's API of traces, if this process has loaded it."""
    trace = sys.modules.get("opentelemetry.trace")
    # Another thread may be loading it, and has what comes last not yet.
    return trace if hasattr(trace, "set_tracer_provider") else None


def _xray_entity() -> Any:
    """Return X-Ray's segment or subsegment under way, if any."""
    if (recorder := _xray_recorder()) is None:
        return None
    context = recorder.context
    # Without one, the SDK would complain, but on Lambda, where it makes one.
    is_on_lambda = context.context_missing is None
    if is_on_lambda or getattr(context._local, "entities", None):
        return recorder.get_trace_entity()
    return None


def _xray_recorder() -> Any:
    """Return the recorder of X-Ray's SDK, if this process has loaded it."""
    return getattr(sys.modules.get("aws_xray_sdk.core"), "xray_recorder", None)
