"""One execution environment of the function, fed by its queue, on this machine."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from million import progress
from million.app import app
from million.storage import Storage
from million.tasks import call_rows

from lambda_celery import aws
from lambda_celery.conf import Settings
from lambda_celery.local.event_source_mapping import (
    BatchReport,
    EventSourceMapping,
    EventSourceMappingConfig,
)
from lambda_celery.local.function import LocalFunction
from lambda_celery.local.provision import provision

ROOT = Path(__file__).resolve().parents[1]
#: Lambda's limit in an environment.
DESCRIPTORS = 1024


class Environment:
    """Runs jobs in one environment, with so many processes that tasks run in. A context manager.

    Arguments:
        processes: the setting ``lambda_processes``.
        timeout_seconds: the function's.
        log: takes what the function logs.
    """

    def __init__(self, processes: int, timeout_seconds: int, log: IO[bytes]) -> None:
        self._settings = Settings.from_app(app)
        self._parts = max(processes, 1)
        # Half the reserve, which is a fifth of the time-out, for what is under way and a save.
        stop_seconds = min(12.0, timeout_seconds * 0.05)
        provision(
            self._settings,
            function_timeout_seconds=timeout_seconds,
            # As short as AWS takes, so that a killed run is not waited for: six times is advised.
            visibility_timeout_seconds=timeout_seconds + 1,
        )
        self._function = LocalFunction(
            timeout_seconds=timeout_seconds,
            maximum_concurrency=1,
            working_directory=ROOT,
            environment={
                "LAMBDA_CELERY_PROCESSES": str(processes),
                "MILLION_STOP_SECONDS": str(stop_seconds),
            },
            output=log,
        )
        self._sqs = aws.client("sqs", self._settings)

    def __enter__(self) -> "Environment":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._function.close()

    def run(
        self, job: str, key: str, in_flight: int, patience_seconds: float, *,
        failures_of: str | None = None,
        on_batch: Callable[[BatchReport], None] = lambda _report: None,
    ) -> list[progress.Mark]:  # fmt: skip
        """Call the rows of *key*, *in_flight* at a time; return the last marks, when all is done.

        Arguments:
            failures_of: the job whose failures *key* lists.
            on_batch: called after each invocation.

        Raises:
            TimeoutError: it is not after *patience_seconds*.
        """
        storage = Storage()
        parts = progress.begin(storage, job, key, self._parts, failures_of=failures_of)
        for part in range(parts):
            call_rows.delay(job, part, max(1, in_flight // parts), parts)
        # A window of one second, so that slices that go on do so in one invocation.
        config = EventSourceMappingConfig(maximum_batching_window_seconds=1, maximum_concurrency=1)
        queue_url = self._settings.queue_url
        mapping = EventSourceMapping(
            queue_url, self._function, config, self._sqs, on_batch=on_batch
        )
        with mapping:
            mapping.wait_until_idle(patience_seconds)
        return [progress.read_mark(storage, job, part) for part in range(parts)]

    def kill(self) -> None:
        """Kill the process that the runtime client runs in."""
        for process_id in self._function.process_ids():
            os.kill(process_id, signal.SIGKILL)


class Watcher:
    """Looks a few times a second how many calls there have been. A context manager.

    Arguments:
        calls: tells it.
        after: how many calls *do* is done after, once.
    """

    INTERVAL_SECONDS = 0.1

    def __init__(self, calls: Callable[[], int], after: int, do: Callable[[], Any]) -> None:
        self.samples: list[tuple[float, int]] = []
        self.done_at: float | None = None
        self._calls = calls
        self._after = after
        self._do = do
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Watcher":
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self.INTERVAL_SECONDS):
            try:
                self.samples.append((time.monotonic(), self._calls()))
            except OSError:  # the service has ended before this thread: an interrupted run
                return
            if self.done_at is None and self.samples[-1][1] >= self._after:
                self._do()
                self.done_at = time.monotonic()
