"""Tasks that compute, in the function's own process and in children of it.

    python benchmarks/processes.py

The handler is called in this process with batches of tasks that take the CPU for some milliseconds,
with the idempotency table a stand-in that answers after 5 ms. What counts is the ratio: with as
many children as there are idle cores, the number of children at best. What else runs on the
machine, the stand-in included, takes from it, so the load is shown.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import time

import bench
import stand_ins

from lambda_runtime import make_handler

LATENCY_SECONDS = 0.005


class Measured:
    """A handler with so many children, and a task that computes."""

    def __init__(self, url: str, processes: int, concurrency: int, seconds: float) -> None:
        settings = bench.settings_at(url, processes=processes, concurrency=concurrency)
        app = bench.make_app(settings)

        def compute(_n: int) -> None:
            end = time.thread_time() + seconds
            while time.thread_time() < end:
                pass

        self._task = app.task(compute, name="bench.compute", shared=False)
        self._handler = make_handler(app)
        self.seconds: list[float] = []

    def run(self, tasks: int) -> float:
        """Return the seconds that one invocation takes."""
        batch = bench.event(self._task, ((n,) for n in range(tasks)))
        started = time.perf_counter()
        answer = self._handler(batch, bench.context())
        took = time.perf_counter() - started
        if answer["batchItemFailures"]:
            raise SystemExit(f"{len(answer['batchItemFailures'])} tasks failed: no figure.")
        return took


def measure(url: str, concurrency: int, options: argparse.Namespace) -> dict[int, float]:
    """Return the median seconds of an invocation, by the number of children."""
    measured = {
        processes: Measured(url, processes, concurrency, options.seconds)
        for processes in options.processes
    }
    for each in measured.values():
        each.run(20)  # children are forked, connections made
    for _ in range(options.runs):  # in turn: the machine's speed changes
        for each in measured.values():
            each.seconds.append(each.run(options.tasks))
    return {processes: statistics.median(each.seconds) for processes, each in measured.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=0.005, help="what a task computes")
    parser.add_argument("--processes", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--runs", type=int, default=3)
    bench.add_log_level(parser)
    options = parser.parse_args()
    bench.begin()
    bench.set_log_level(options.loglevel)
    for concurrency in options.concurrency:
        with stand_ins.dynamodb(LATENCY_SECONDS) as url:
            with bench.logged():  # and that of the children, which are forked in here
                medians = measure(url, concurrency, options)
            gc.collect()  # the children end: they have the stand-in's end in hand
        for processes, seconds in medians.items():
            print(
                f"concurrency {concurrency:>3}, {processes} children: {options.tasks} tasks in "
                f"{seconds:5.2f} s, {medians[options.processes[0]] / seconds:4.2f} x as fast; "
                f"load {os.getloadavg()[0]:.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
