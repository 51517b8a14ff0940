"""Running a batch in one environment: tasks a second, the CPU of each, and several at a time.

    python benchmarks/run.py

The handler is called in this process with batches of messages: of a task that does nothing, with
the idempotency table left out and then with one that answers after 5 ms, and of a task that
waits. The peer is Powertools by hand, as its documentation shows: BatchProcessor with
``idempotent_function``, which runs one record after the other.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import bench
import stand_ins

from lambda_celery.conf import Settings
from lambda_celery.table.revocations import Revocations
from lambda_runtime import make_handler
from lambda_runtime.table.claims import Claim, Claimed, IdempotencyTable

Handler = Callable[[dict[str, Any], Any], dict[str, Any]]

LATENCY_SECONDS = 0.005
#: What runs one after the other is measured with fewer records.
ONE_BY_ONE = 50


@contextmanager
def no_idempotency() -> Iterator[None]:
    """Leave out whatever asks the idempotency table."""
    won = Claimed(Claim.WON)

    def claim(*_: Any, **__: Any) -> Claimed:
        return won

    def nothing(*_: Any, **__: Any) -> None:
        """As if it were done, or not so."""

    # Functions, and no mocks: those take longer than a dispatch.
    with (
        mock.patch.object(IdempotencyTable, "claim", claim),
        mock.patch.object(IdempotencyTable, "complete", nothing),
        mock.patch.object(Revocations, "include", nothing),
    ):
        yield


def task_of(settings: Settings, seconds: float) -> Any:
    app = bench.make_app(settings)

    def wait(_n: int) -> None:
        if seconds:
            time.sleep(seconds)

    return app.task(wait, name="bench.wait", shared=False)


def measure(handler: Handler, task: Any, count: int) -> tuple[float, float]:
    """Return seconds and CPU seconds of one invocation, all of whose tasks have succeeded."""
    batch = bench.event(task, ((n,) for n in range(count)))
    context = bench.context()
    started, cpu = time.perf_counter(), time.process_time()
    answer = handler(batch, context)
    took, cpu = time.perf_counter() - started, time.process_time() - cpu
    if answer["batchItemFailures"]:
        raise SystemExit(f"{len(answer['batchItemFailures'])} tasks failed: no figure.")
    return took, cpu


def report(
    name: str, handler: Handler, task: Any, count: int, runs: int, ideal_seconds: float = 0
) -> None:
    measure(handler, task, min(count, 200))  # connections are made, and modules loaded
    measured = [measure(handler, task, count) for _ in range(runs)]
    took = statistics.median(seconds for seconds, _ in measured)
    cpu = statistics.median(each for _, each in measured)
    line = (
        f"{name:<34}{count:>7} tasks in {took:6.2f} s: {count / took:8.1f}/s, "
        f"{cpu / count * 1e6:6.0f} µs of CPU each"
    )
    print(
        f"{line}, {took / ideal_seconds:.2f} x of {ideal_seconds:.2f} s" if ideal_seconds else line
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=0.05, help="what a task waits")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    bench.begin()

    settings = bench.settings_at("http://127.0.0.1:1")
    task = task_of(settings, 0)
    with no_idempotency():
        report("no idempotency", make_handler(task.app), task, options.records, options.runs)
    with stand_ins.dynamodb(LATENCY_SECONDS) as url:
        for seconds in (0, options.seconds):
            kind = f"waits {seconds * 1000:.0f} ms" if seconds else "does nothing"
            few = max(options.records // ONE_BY_ONE, 1)

            def run(_n: int, seconds: float = seconds) -> None:
                time.sleep(seconds)

            task = task_of(bench.settings_at(url), seconds)
            report(
                f"{kind}, by hand",
                bench.by_hand(bench.settings_at(url), run),
                task, few, options.runs, few * seconds,
            )  # fmt: skip
            for concurrency in options.concurrency:
                count = options.records if concurrency > 1 else few
                task = task_of(bench.settings_at(url, concurrency=concurrency), seconds)
                report(
                    f"{kind}, concurrency {concurrency}",
                    make_handler(task.app),
                    task, count, options.runs, count * seconds / concurrency,
                )  # fmt: skip


if __name__ == "__main__":
    main()
