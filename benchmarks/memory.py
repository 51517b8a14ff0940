"""Memory: one environment over many messages, and one producer over many calls.

    python benchmarks/memory.py --messages 100000 --concurrency 1 50 --calls 1000000

The handler is called in one process with batches of a task that does nothing; ``delay_many``
with ``ids=False`` takes its calls from a generator. Local stand-ins for DynamoDB and SQS, which
are processes of their own, answer at once. Resident memory (from Linux's /proc) is read after
each tenth; the slope is that of a straight line through the samples of the second half.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import stand_ins
from bench import begin, context, event, in_fresh_process, logged, make_app, settings_at

from lambda_celery import delay_many

SAMPLES = 10
Samples = list[tuple[int, int]]


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def make_task(url: str, **settings: Any) -> Any:
    app = make_app(settings_at(url, **settings))

    @app.task(name="bench.nothing", shared=False)
    def nothing(_address: str, _number: int) -> None:
        """Only its way here counts."""

    return nothing


def calls() -> Iterator[tuple[str, int]]:
    return ((f"member{n}@example.org", n) for n in count())


def of_handler(messages: int, batch: int, concurrency: int) -> Samples:
    """Return the messages run so far, and the memory then; the first sample is after a warm-up."""
    from lambda_runtime import make_handler

    with stand_ins.dynamodb(latency_seconds=0) as url:
        task = make_task(url, concurrency=concurrency)
        handler = make_handler(task.app)
        arguments = calls()

        def run(size: int) -> None:
            made = event(task, (next(arguments) for _ in range(size)))
            with logged():
                answer = handler(made, context())
            if answer["batchItemFailures"]:
                raise SystemExit("Some tasks failed: no figure.")

        run(batch)
        samples = [(0, resident_bytes())]
        for done in range(batch, messages + 1, batch):
            run(batch)
            if done % (messages // SAMPLES) < batch:
                samples.append((done, resident_bytes()))
    return samples


def of_producer(number: int) -> Samples:
    """Return the calls made so far, and the memory then; the first sample is after a warm-up."""
    samples: Samples = []

    def watched() -> Iterator[tuple[str, int]]:
        for n, call in zip(range(number + 1), calls(), strict=False):
            if n % (number // SAMPLES) == 0:
                samples.append((n, resident_bytes()))
            yield call

    with stand_ins.sqs(latency_seconds=0) as url:
        task = make_task(url)
        delay_many(task, ((str(n), n) for n in range(1000)), ids=False)
        delay_many(task, watched(), ids=False)
    return samples


def report(name: str, unit: str, samples: Samples, seconds: float) -> None:
    half = samples[len(samples) // 2 :]
    slope = statistics.linear_regression(*zip(*half, strict=True)).slope
    print(f"\n{name} ({seconds:.0f} s)")
    for done, size in samples:
        print(f"{done:>12,} {unit:<9} {size / 2**20:8.2f} MiB")
    print(f"{'second half':>22} {slope:8.2f} bytes for each of the {unit}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, nargs="*", default=[1, 50])
    parser.add_argument("--calls", type=int, default=1_000_000, help="0 leaves them out")
    options = parser.parse_args()
    begin()
    for concurrency in options.concurrency:
        started = time.perf_counter()
        samples = in_fresh_process(of_handler, options.messages, options.batch, concurrency)
        name = f"Handler, batches of {options.batch}, concurrency {concurrency}"
        report(name, "messages", samples, time.perf_counter() - started)
    if options.calls:
        started = time.perf_counter()
        samples = in_fresh_process(of_producer, options.calls)
        report("delay_many(…, ids=False)", "calls", samples, time.perf_counter() - started)


if __name__ == "__main__":
    main()
