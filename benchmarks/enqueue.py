"""How long it takes to enqueue many small tasks, and the CPU that each costs.

    python benchmarks/enqueue.py

A local stand-in for SQS, a process of its own, answers each request after 10 ms.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import bench
import stand_ins
from celery import Celery

import lambda_celery

LATENCY_SECONDS = 0.010
#: What is sent one by one is measured with fewer tasks; its times are scaled up.
SCALE = 20


@dataclass(frozen=True)
class Way:
    name: str
    run: Callable[[int], object]
    scale: int = 1


def ways(endpoint_url: str) -> list[Way]:
    settings = bench.settings_at(endpoint_url)
    url = settings.queue_url
    broker = f"sqs://test:test@{urlsplit(endpoint_url).netloc}"
    stock = Celery("stock", broker=broker, set_as_current=False)
    stock.conf.broker_transport_options = {
        "region": bench.REGION, "is_secure": False, "predefined_queues": {"celery": {"url": url}},
    }  # fmt: skip
    ours = bench.make_app(settings)

    def send(address: str, number: int) -> None:
        """It is only sent."""

    stock_send = stock.task(send, name="mail.send", shared=False)
    our_send = ours.task(send, name="mail.send", shared=False)
    calls = [(f"member{n}@example.org", n) for n in range(100_000)]

    def one_by_one(task: Any) -> Callable[[int], object]:
        return lambda count: [task.delay(*each) for each in calls[:count]]

    def batched(count: int) -> None:
        with lambda_celery.batch():
            one_by_one(our_send)(count)

    return [
        Way("Celery and kombu, delay()", one_by_one(stock_send), SCALE),
        Way("delay()", one_by_one(our_send), SCALE),
        Way("batch() around delay()", batched),
        Way("delay_many()", lambda count: lambda_celery.delay_many(our_send, calls[:count])),
    ]


def measure(way: Way, tasks: int) -> tuple[float, float]:
    """Return the seconds for *tasks*, and the CPU seconds for one."""
    count = tasks // way.scale
    wall, cpu = time.perf_counter(), time.process_time()
    way.run(count)
    return (time.perf_counter() - wall) * way.scale, (time.process_time() - cpu) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=10_000, help="at most 100,000")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    bench.begin()
    with stand_ins.sqs(LATENCY_SECONDS) as endpoint_url:
        all_ways = ways(endpoint_url)
        for way in all_ways:
            way.run(20)  # connections are made, and modules loaded
        runs: dict[str, list[tuple[float, float]]] = {way.name: [] for way in all_ways}
        for _ in range(options.runs):
            for way in all_ways:
                runs[way.name].append(measure(way, options.tasks))
    print(f"{LATENCY_SECONDS * 1000:.0f} ms a request; medians of {options.runs} runs")
    print(f"\n{'':28}{'seconds':>9}{'fastest-slowest':>18}{'CPU µs a task':>15}{'ratio':>8}")
    base = statistics.median(wall for wall, _ in runs[all_ways[0].name])
    for way in all_ways:
        walls, cpus = zip(*runs[way.name], strict=True)
        wall = statistics.median(walls)
        spread = f"{min(walls):.2f}-{max(walls):.2f}"
        scaled = f"  ({options.tasks // way.scale} tasks, scaled)" if way.scale > 1 else ""
        print(
            f"{way.name:28}{wall:9.2f}{spread:>18}{statistics.median(cpus) * 1e6:15.0f}"
            f"{base / wall:8.1f}{scaled}"
        )


if __name__ == "__main__":
    main()
