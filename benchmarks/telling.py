"""What the metrics and the summary of an invocation take: CPU, after its tasks, by batch size.

    python benchmarks/telling.py

Messages of one task that have all succeeded, as most batches are. The lines go to a file. What is
noted while a task runs, by some readings of a clock, is not in it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

from bench import begin, context, logged, make_app, record, settings_at

from lambda_runtime import summary
from lambda_runtime.deadline import Deadline
from lambda_runtime.log import TaskFields, set_up_logging
from lambda_runtime.messages.delivery import Delivery
from lambda_runtime.messages.outcome import Deleted, End
from lambda_runtime.metrics import Metrics

BATCHES_A_RUN = 2000


def delivered(number: int) -> list[Delivery]:
    """Return *number* deliveries whose task has run."""
    now = time.time()
    sent = {"ApproximateReceiveCount": "1", "SentTimestamp": str(int(now * 1000) - 500)}
    deliveries = [Delivery.from_record(record("") | {"attributes": sent}) for _ in range(number)]
    for n, delivery in enumerate(deliveries):
        note = delivery.note
        note.task, note.is_attempt, note.began_at = "proj.mail.send", True, now
        note.run_seconds = 0.05 + n / 100_000
        note.table_took(0.005 + n / 100_000)
        note.decided(Deleted("ran to the end", End.SUCCEEDED))
    return deliveries


def microseconds(call: Callable[[], None], times: int) -> float:
    """Return the CPU of one *call*."""
    began = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - began) / times * 1e6


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()
    begin()
    settings = settings_at("http://127.0.0.1:1")
    rows = []
    with logged():
        set_up_logging(make_app(settings), settings, TaskFields())
        deadline = Deadline(context(), settings.time_reserve_seconds)
        metrics = Metrics("LambdaCelery", sys.stdout)
        for number in (1, 10, 100):
            deliveries = delivered(number)

            def sum_up(deliveries: list[Delivery] = deliveries) -> None:
                summary.log(deliveries, deadline)

            def write(deliveries: list[Delivery] = deliveries) -> None:
                metrics.write(deliveries, deadline.began)

            times = max(BATCHES_A_RUN // number, 20)
            taken = [
                (microseconds(sum_up, times), microseconds(write, times))
                for _ in range(options.runs)
            ]
            line, figures = (statistics.median(each) for each in zip(*taken, strict=True))
            rows.append((number, line, figures, (line + figures) / number))
    print("| messages in a batch | summary, µs | metrics, µs | together, µs a message |")
    print("|---|---|---|---|")
    for number, line, figures, each in rows:
        print(f"| {number} | {line:.0f} | {figures:.0f} | {each:.1f} |")


if __name__ == "__main__":
    main()
