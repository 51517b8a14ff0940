"""``celery -A proj lambda local``, put together: emulator, function, event source mappings."""

from __future__ import annotations

import os
import queue
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from celery import Celery

from lambda_celery.aws import client
from lambda_celery.aws.loopback import loopback_port
from lambda_celery.celery_hooks.apps import import_tasks
from lambda_celery.conf import APP_VARIABLE, ENV_PREFIX, Settings
from lambda_celery.dashboard import server as dashboard
from lambda_celery.exceptions import LambdaCeleryError
from lambda_celery.local.banner import LocalOptions, banner
from lambda_celery.local.endpoint import INVOKE_VARIABLE, Endpoint, open_endpoint
from lambda_celery.local.event_source_mapping import (
    EventSourceMapping,
    EventSourceMappingConfig,
)
from lambda_celery.local.function import LocalFunction
from lambda_celery.local.invoke_api import server as invoke_api
from lambda_celery.local.names import function_names
from lambda_celery.local.provision import provision_results_table
from lambda_celery.local.reload import watch
from lambda_celery.local.traffic import Traffic
from lambda_celery.results import DynamoDBBackend
from lambda_celery.serving import url_of

#: A person looks at the lines, and no CloudWatch.
_METRICS = f"{ENV_PREFIX}METRICS_NAMESPACE"


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
    import_tasks(app)
    configured = Settings.from_app(app)
    config = EventSourceMappingConfig(
        batch_size=options.batch_size,
        maximum_batching_window_seconds=options.batch_window_seconds,
        maximum_concurrency=options.concurrency,
    )
    with ExitStack() as stack:
        signals = stack.enter_context(_signals())
        endpoint = stack.enter_context(
            open_endpoint(
                configured,
                port=options.port,
                function_timeout_seconds=options.timeout_seconds,
                maximum_batching_window_seconds=options.batch_window_seconds,
                max_receive_count=options.max_receive_count,
            )
        )
        settings = endpoint.settings
        if endpoint.emulated and isinstance(app.backend, DynamoDBBackend):
            provision_results_table(settings, app.backend.table_name)
        traffic = Traffic(app, settings, options.concurrency)
        listening = stack.enter_context(_listening_for_calls(endpoint, options))
        function = stack.enter_context(
            LocalFunction(
                options.handler,
                timeout_seconds=options.timeout_seconds,
                # With several queues, a busy one must not lock the others out for good.
                maximum_concurrency=max(options.concurrency, len(settings.queue_urls)),
                per_execution_environment_max_concurrency=(
                    options.per_execution_environment_max_concurrency
                ),
                environment={
                    **endpoint.environment,
                    INVOKE_VARIABLE: url_of(listening),
                    APP_VARIABLE: options.app_name,
                    f"{ENV_PREFIX}LOG_FORMAT": options.log_format,
                    **({"NO_COLOR": "1"} if options.no_color else {}),
                    _METRICS: os.environ.get(_METRICS, "off"),
                },
                writable=options.writable,
                keeps_log_tail=True,
                feed=traffic.take,
            )
        )

        def reload() -> None:
            function.recycle()
            traffic.note_deployment()

        mappings = [
            EventSourceMapping(
                url, function, config, client("sqs", settings), on_batch=traffic.note_batch
            )
            for url in settings.queue_urls
        ]
        traffic.note_deployment()
        page = stack.enter_context(_page(app, traffic, endpoint, options))
        calls = stack.enter_context(ExitStack())
        invoke_url = calls.enter_context(
            invoke_api.serving(
                function,
                listening,
                names=function_names(Path.cwd(), configured.function),
                on_outcome=traffic.note_call,
            )
        )
        echo(banner(app, configured, options, endpoint, page=page, invoke_url=invoke_url))
        ending = threading.Event()
        stack.callback(ending.set)
        if options.reload:
            watch(Path.cwd(), reload, ending)
        for mapping in mappings:
            stack.callback(mapping.stop)
            mapping.start()

        signals.get()
        echo("Stopping: running invocations may finish (press Ctrl-C again to kill them).")

        def drain() -> None:
            # All at once: else one would go on polling while another one finishes.
            stops = [*(each.stop for each in mappings), calls.close]
            with ThreadPoolExecutor(len(stops)) as executor:
                list(executor.map(lambda stop: stop(), stops))
            signals.put(None)

        threading.Thread(target=drain, name="drain", daemon=True).start()
        if signals.get() is not None:
            echo("Killing the running invocations.")
            function.close()
            while signals.get() is not None:
                pass


def _listening_for_calls(endpoint: Endpoint, options: LocalOptions) -> socket.socket:
    """Return what listens for calls of the Invoke API."""
    if options.invoke_port is not None:
        return invoke_api.listen(options.invoke_port)
    try:
        return invoke_api.listen((loopback_port(endpoint.url) or options.port) + 2)
    except LambdaCeleryError:
        return invoke_api.listen(0)


@contextmanager
def _page(
    app: Celery, traffic: Traffic, endpoint: Endpoint, options: LocalOptions
) -> Iterator[str]:
    """Serve the page of *traffic*; yield its URL, or a sentence that says why it is not served."""
    port = options.dashboard_port
    if port == 0:
        yield ""
        return
    chosen = port or (loopback_port(endpoint.url) or options.port) + 1
    with ExitStack() as stack:
        try:
            # Who plays with an emulator loses nothing there.
            may_change = endpoint.emulated
            page = stack.enter_context(
                dashboard.serving(app, traffic, port=chosen, allow_retry=may_change)
            )
        except LambdaCeleryError as exc:
            if port is not None:
                raise
            page = f"not served: {exc}"
        yield page


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
