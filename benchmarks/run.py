"""Running a batch in one environment: tasks a second, the CPU of each, and several at a time.

    python benchmarks/run.py

The handler is called in this process with batches of messages: of a task that does nothing, with
the idempotency table left out and then with one that answers after 5 ms, and of a task that
waits. The peer is Powertools by hand, as its documentation shows: BatchProcessor with
``idempotent_function``, which runs one record after the other, and logs nothing.

The function logs as it does without a setting, two lines a task, to a file. The dispatch alone is
measured without them, too. At the end are the ratios, which count where the machine's speed
changes from hour to hour.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
#: The level without a line for each task.
QUIET = "WARNING"


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


@dataclass(frozen=True)
class Figure:
    """Medians of a line's runs."""

    name: str
    tasks: int
    seconds: float
    cpu_seconds: float
    lines: float
    ideal_seconds: float

    @property
    def cpu_of_one(self) -> float:
        return self.cpu_seconds / self.tasks

    def __str__(self) -> str:
        line = (
            f"{self.name:<34}{self.tasks:>7} tasks in {self.seconds:6.2f} s: "
            f"{self.tasks / self.seconds:8.1f}/s, {self.cpu_of_one * 1e6:6.0f} µs of CPU and "
            f"{self.lines / self.tasks:3.1f} log lines each"
        )
        if self.ideal_seconds:
            line += f", {self.of_the_ideal:.2f} x of {self.ideal_seconds:.2f} s"
        return line

    @property
    def of_the_ideal(self) -> float:
        return self.seconds / self.ideal_seconds


def measure(handler: Handler, task: Any, count: int) -> tuple[float, float, int]:
    """Return seconds, CPU seconds and log lines of one invocation whose tasks have succeeded."""
    batch = bench.event(task, ((n,) for n in range(count)))
    context = bench.context()
    with bench.logged() as log:
        started, cpu = time.perf_counter(), time.process_time()
        answer = handler(batch, context)
        took, cpu = time.perf_counter() - started, time.process_time() - cpu
        lines = log.lines()
    if answer["batchItemFailures"]:
        raise SystemExit(f"{len(answer['batchItemFailures'])} tasks failed: no figure.")
    return took, cpu, lines


def report(
    name: str, handler: Handler, task: Any, count: int, runs: int, ideal_seconds: float = 0
) -> Figure:
    measure(handler, task, min(count, 200))  # connections are made, and modules loaded
    measured = [measure(handler, task, count) for _ in range(runs)]
    seconds, cpu, lines = (statistics.median(each) for each in zip(*measured, strict=True))
    figure = Figure(name, count, seconds, cpu, lines, ideal_seconds)
    print(figure, flush=True)
    return figure


def dispatch(records: int, runs: int, level: str) -> Figure:
    """Measure what is left without the idempotency table, with the function logging at *level*."""
    bench.set_log_level(level)
    task = task_of(bench.settings_at("http://127.0.0.1:1"), 0)
    with no_idempotency():
        return report(f"dispatch alone, {level}", make_handler(task.app), task, records, runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=0.05, help="what a task waits")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--runs", type=int, default=5)
    bench.add_log_level(parser)
    options = parser.parse_args()
    bench.begin()
    level = options.loglevel
    waits = f"waits {options.seconds * 1000:.0f} ms"
    few = max(options.records // ONE_BY_ONE, 1)

    quiet = dispatch(options.records, options.runs, QUIET)
    alone = dispatch(options.records, options.runs, level) if level != QUIET else quiet
    ratios = [(f"dispatch alone, {level} / {QUIET}, CPU", alone.cpu_of_one / quiet.cpu_of_one)]
    bench.set_log_level(level)
    with stand_ins.dynamodb(LATENCY_SECONDS) as url:
        for seconds, kind in ((0, "does nothing"), (options.seconds, waits)):

            def run(_n: int, seconds: float = seconds) -> None:
                time.sleep(seconds)

            task = task_of(bench.settings_at(url), seconds)
            hand = bench.by_hand(bench.settings_at(url), run)
            report(f"{kind}, by hand", hand, task, few, options.runs, few * seconds)
            for concurrency in options.concurrency:
                count = options.records if concurrency > 1 else few
                task = task_of(bench.settings_at(url, concurrency=concurrency), seconds)
                figure = report(
                    f"{kind}, concurrency {concurrency}",
                    make_handler(task.app),
                    task, count, options.runs, count * seconds / concurrency,
                )  # fmt: skip
                if seconds:
                    ratios.append((f"{kind}, at {concurrency} / ideal", figure.of_the_ideal))
                else:
                    name = f"with the table at {concurrency} / dispatch alone, CPU"
                    ratios.append((name, figure.cpu_of_one / alone.cpu_of_one))
    print(f"\nRatios, at {level}")
    for name, ratio in ratios:
        print(f"{name:<46}{ratio:6.2f}")


if __name__ == "__main__":
    main()
