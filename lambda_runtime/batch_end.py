"""The last steps of an invocation: what is held back is sent before Lambda freezes the process."""

from __future__ import annotations

import contextvars
import logging
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from lambda_celery.signals import batch_finished
from lambda_runtime.deadline import ANSWER_SECONDS, Deadline
from lambda_runtime.running.limits.limit import InvocationEnds
from lambda_runtime.running.limits.time_limits import call_until

logger = logging.getLogger(__name__)

#: Where OpenTelemetry's API keeps what spans, figures and log lines are given to.
_PROVIDERS = {
    "opentelemetry.trace": "get_tracer_provider",
    "opentelemetry.metrics": "get_meter_provider",
    "opentelemetry._logs": "get_logger_provider",
}


def finish(sender: Any, context: Any, deadline: Deadline) -> None:
    """Send ``batch_finished``, and have Sentry and OpenTelemetry send what they hold.

    Within the reserve of the *deadline*, so that the answer leaves.
    """
    seconds = min(deadline.reserve_seconds, deadline.seconds() - ANSWER_SECONDS)
    if seconds <= 0:
        return
    ends_at = time.monotonic() + seconds

    def run() -> None:
        batch_finished.send(sender=sender, context=context, seconds_left=seconds)
        for flush in _flushes():
            try:
                flush(max(ends_at - time.monotonic(), 0.0))
            except Exception:
                logger.exception("Telemetry could not be flushed")

    try:
        # In a context of its own: OpenTelemetry leaves in it what it has switched off, if cut off.
        call_until(seconds, partial(contextvars.copy_context().run, run))
    except InvocationEnds:
        logger.error(
            "What follows a batch has not ended in %.1f s and is cut off: a receiver of "
            "batch_finished, or the flush of Sentry's or OpenTelemetry's data.",
            seconds,
        )


def _flushes() -> Iterator[Callable[[float], Any]]:
    """Yield what sends the data that libraries of this process hold, in some seconds at most."""
    if (sentry := sys.modules.get("sentry_sdk")) is not None:
        yield sentry.flush
    if "opentelemetry.sdk" not in sys.modules:
        return
    for name, get_provider in _PROVIDERS.items():
        provider = getattr(sys.modules.get(name), get_provider, lambda: None)()
        # Without one of the SDK's there is nothing to flush.
        if hasattr(provider, "force_flush"):
            yield partial(_flush_provider, provider)


def _flush_provider(provider: Any, seconds: float) -> None:
    provider.force_flush(int(seconds * 1000))
