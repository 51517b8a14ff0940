"""``celery -A proj lambda local``, put together: emulator, function, event source mappings."""

from __future__ import annotations

import logging
import queue
import shlex
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from celery import Celery

from lambda_celery import __version__
from lambda_celery.aws import client
from lambda_celery.conf import Settings
from lambda_celery.local.emulator import DEFAULT_PORT
from lambda_celery.local.endpoint import Endpoint, open_endpoint
from lambda_celery.local.event_source_mapping import (
    BatchReport,
    EventSourceMapping,
    EventSourceMappingConfig,
)
from lambda_celery.local.function import DEFAULT_HANDLER, LocalFunction
from lambda_celery.local.provision import queue_name
from lambda_celery.local.reload import watch

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LocalOptions:
    """The command's options; see ``celery lambda local --help``."""

    app_name: str
    handler: str = DEFAULT_HANDLER
    batch_size: int = 10
    batch_window_seconds: int = 0
    concurrency: int = 4
    timeout_seconds: int = 30
    max_receive_count: int | None = None
    reload: bool = False
    port: int = DEFAULT_PORT


def run(app: Celery, options: LocalOptions, echo: Callable[[str], None]) -> None:
    """Run the function for *app* on the project's queues until SIGINT or SIGTERM.

    The first signal ends the polling and lets running invocations finish; a second one
    kills them. Either way every child process has ended when this returns. It must be
    called on the main thread.

    Arguments:
        app: says which queues there are.
        options: the command's options.
        echo: shows a line to the user.

    Raises:
        ConfigurationError: the settings or the options contradict each other or what is there.
    """
    config = EventSourceMappingConfig(
        batch_size=options.batch_size,
        maximum_batching_window_seconds=options.batch_window_seconds,
        maximum_concurrency=options.concurrency,
    )
    with ExitStack() as stack:
        signals = stack.enter_context(_signals())
        endpoint = stack.enter_context(
            open_endpoint(
                Settings.from_app(app),
                port=options.port,
                function_timeout_seconds=options.timeout_seconds,
                maximum_batching_window_seconds=options.batch_window_seconds,
                max_receive_count=options.max_receive_count,
            )
        )
        settings = endpoint.settings
        function = stack.enter_context(
            LocalFunction(
                options.handler,
                timeout_seconds=options.timeout_seconds,
                # With several queues, a busy one must not lock the others out for good.
                maximum_concurrency=max(options.concurrency, len(settings.queue_urls)),
                environment={**endpoint.environment, "LAMBDA_CELERY_APP": options.app_name},
            )
        )
        mappings = [
            EventSourceMapping(url, function, config, client("sqs", settings), on_batch=_log_batch)
            for url in settings.queue_urls
        ]
        echo(_banner(options, endpoint))
        ending = threading.Event()
        stack.callback(ending.set)
        if options.reload:
            watch(Path.cwd(), function.recycle, ending)
        for mapping in mappings:
            stack.callback(mapping.stop)
            mapping.start()

        signals.get()
        echo("Stopping: running invocations may finish (press Ctrl-C again to kill them).")

        def drain() -> None:
            # All at once: else one would go on polling while another one finishes.
            with ThreadPoolExecutor(len(mappings)) as executor:
                list(executor.map(EventSourceMapping.stop, mappings))
            signals.put(None)

        threading.Thread(target=drain, name="drain", daemon=True).start()
        if signals.get() is not None:
            echo("Killing the running invocations.")
            function.close()
            while signals.get() is not None:
                pass


@contextmanager
def _signals() -> Iterator[queue.SimpleQueue[int | None]]:
    """Collect SIGINT and SIGTERM in a queue, as a handler must not wait for a lock."""
    signals: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    previous = {
        number: signal.signal(number, lambda received, _: signals.put(received))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield signals
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _log_batch(report: BatchReport) -> None:
    if report.error is None:  # the event source mapping logs the others itself
        logger.info(
            "Batch of %d from %s: %d done, %d left on the queue, in %.3f s",
            len(report.message_ids),
            queue_name(report.queue_url),
            len(report.message_ids) - len(report.failed_message_ids),
            len(report.failed_message_ids),
            report.result.duration_seconds,
        )


def _banner(options: LocalOptions, endpoint: Endpoint) -> str:
    whose = "ministack, ends with this command" if endpoint.emulated else "configured"
    lines = [
        f"lambda local v{__version__}",
        "",
        "[config]",
        f".> app:         {options.app_name}",
        f".> handler:     {options.handler} (time-out {options.timeout_seconds} s)",
        f".> concurrency: {options.concurrency}",
        f".> endpoint:    {endpoint.url} ({whose})",
        "",
        "[queues]",
    ]
    for url in endpoint.settings.queue_urls:
        lines.append(
            f".> {queue_name(url)} (batch size {options.batch_size}, "
            f"window {options.batch_window_seconds} s)"
        )
    if endpoint.exports:
        variables = " ".join(
            f"{name}={shlex.quote(value)}" for name, value in endpoint.exports.items()
        )
        lines += ["", "To publish to it from another process:", f"  export {variables}"]
    return "\n".join([*lines, "", "Press Ctrl-C to stop."])
