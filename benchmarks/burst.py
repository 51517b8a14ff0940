"""A burst of mails: ten Celery worker processes against the local Lambda runner.

    python benchmarks/burst.py --mails 10000 --picture docs/images/burst.png

Each mail waits 50 ms, as for a mail server, and that is all. All messages are on the queue
(ministack's) before anybody takes one; both sides run the very same messages.

The peer is one ``celery worker`` with kombu's SQS transport and ten pool processes
(``--concurrency 10``, and Celery's defaults for the rest: it acknowledges before it runs, and
keeps no record of what has run). With kombu's default ``polling_interval`` of a second a worker
that has fetched its 40 messages looks for more a second later; so it runs with a tenth of
that, too. The local runner plays an event source mapping with batches of ten, and the function
runs ten tasks at a time in each environment; its idempotency table is a stand-in that answers
after 5 ms. All share this machine's cores, the emulators included, which Lambda's environments
would not: what is measured is this machine, and no more. Both log at the same level, by default
two lines a mail, to a file.

The clock starts when the worker or the mapping is started. "Sending" is from the first mail that
has been sent to the last one, and so without the start of the processes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import stand_ins
from bench import (
    LOG_LEVEL_VARIABLE,
    POLLING_VARIABLE,
    RunLog,
    add_log_level,
    app_environment,
    begin,
    in_fresh_process,
    logged,
    set_log_level,
)

from lambda_celery import aws, delay_many
from lambda_celery.conf import Settings
from lambda_celery.local.emulator import ministack
from lambda_celery.local.event_source_mapping import EventSourceMapping, EventSourceMappingConfig
from lambda_celery.local.function import LocalFunction
from lambda_celery.local.provision import provision

HERE = Path(__file__).resolve().parent
BATCH_SIZE = 10
FUNCTION_TIMEOUT_SECONDS = 60
TABLE_SECONDS = 0.005
SAMPLE_SECONDS = 0.2
PATIENCE_SECONDS = 60
COUNTS = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]


@dataclass(frozen=True)
class Burst:
    """One run; the times are seconds since the consumers were started."""

    first_seconds: float
    last_seconds: float
    processes: int
    depths: list[tuple[float, int]]


#: Raises if the consumers cannot go on.
Check = Callable[[], None]


@contextmanager
def celery_worker(processes: int, polling_interval: float, _settings: Settings) -> Iterator[Check]:
    os.environ[POLLING_VARIABLE] = str(polling_interval)
    command = [sys.executable, "-m", "celery", "-A", "mail_app:workers", "worker"]
    command += ["--concurrency", str(processes), "--loglevel", os.environ[LOG_LEVEL_VARIABLE]]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, cwd=HERE, stdout=output, stderr=output)

        def check() -> None:
            if process.poll() is not None:
                output.seek(0)
                raise RuntimeError(f"The worker has ended:\n{output.read().decode()}")

        try:
            yield check
        finally:
            process.terminate()
            process.wait()


@contextmanager
def local_runner(environments: int, settings: Settings) -> Iterator[Check]:
    function = LocalFunction(
        timeout_seconds=FUNCTION_TIMEOUT_SECONDS,
        maximum_concurrency=environments,
        working_directory=HERE,
    )
    config = EventSourceMappingConfig(BATCH_SIZE, 0, environments)
    sqs = aws.client("sqs", settings)
    with function, EventSourceMapping(str(settings.queue_url), function, config, sqs):
        yield lambda: None


@dataclass(frozen=True)
class Contender:
    """One side of the comparison: how many mails it sends at a time, and what starts it."""

    at_a_time: int
    start: Callable[[Settings], AbstractContextManager[Check]]


def burst(mails: int, wait_seconds: float, contender: Contender) -> Burst:
    """Run one burst, in a process that has done nothing else."""
    with ExitStack() as stack:
        runs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ |= app_environment(
            stack.enter_context(ministack()),
            stack.enter_context(stand_ins.dynamodb(TABLE_SECONDS)),
            runs,
            wait_seconds,
            concurrency=BATCH_SIZE,
        )
        from mail_app import app, app_send

        settings = Settings.from_app(app)
        # The stand-in needs no table.
        queues = replace(settings, idempotency_table=None)
        provision(queues, function_timeout_seconds=FUNCTION_TIMEOUT_SECONDS)
        delay_many(app_send, ((number,) for number in range(mails)), ids=False)
        stack.enter_context(logged())
        started = time.time()
        check = stack.enter_context(contender.start(settings))
        depths = sampled(settings, RunLog(runs), mails, started, check)
        ended = RunLog(runs).read()
        processes = RunLog(runs).processes()
    if len(numbers := {run.number for run in ended}) != len(ended):
        print(f"{len(ended) - len(numbers)} mails were sent twice")
    return Burst(ended[0].ended - started, ended[-1].ended - started, processes, depths)


def sampled(
    settings: Settings, log: RunLog, mails: int, started: float, check: Check
) -> list[tuple[float, int]]:
    """Return the queue's depth over time, until all mails are sent and the queue is empty."""
    sqs: Any = aws.client("sqs", settings)
    depths: list[tuple[float, int]] = []
    news, last_news = (0, 0), time.time()
    while True:
        check()
        sent = log.count()
        now = time.time()
        counts = sqs.get_queue_attributes(QueueUrl=settings.queue_url, AttributeNames=COUNTS)
        depth = sum(int(counts["Attributes"][name]) for name in COUNTS)
        depths.append((now - started, depth))
        if sent >= mails and depth == 0:
            return depths
        if (sent, depth) != news:
            news, last_news = (sent, depth), now
        elif now - last_news > PATIENCE_SECONDS:
            raise RuntimeError(f"Nothing moves: {sent} of {mails} sent, {depth} on the queue.")
        time.sleep(SAMPLE_SECONDS)


def draw(bursts: dict[str, Burst], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, each in bursts.items():
        axes.plot(*zip(*each.depths, strict=True), label=name)
    axes.set_xlabel("seconds since the consumers were started")
    axes.set_ylabel("messages on the queue, in flight included")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mails", type=int, default=10_000)
    parser.add_argument("--wait", type=float, default=0.05, help="seconds for a mail")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--workers", type=int, default=10, help="pool processes of the worker")
    parser.add_argument("--polling-intervals", type=float, nargs="*", default=[1, 0.1])
    parser.add_argument(
        "--environments", type=int, nargs="*", default=[1, 4], help="the mapping's concurrency"
    )
    parser.add_argument("--picture", type=Path, help="where to draw the queue's depth over time")
    add_log_level(parser)
    options = parser.parse_args()
    begin()
    set_log_level(options.loglevel)
    contenders = {
        f"Celery worker, polling_interval {each:g}": Contender(
            options.workers, partial(celery_worker, options.workers, each)
        )
        for each in options.polling_intervals
    } | {
        f"local runner, environments: {each}": Contender(
            each * BATCH_SIZE, partial(local_runner, each)
        )
        for each in options.environments
    }
    runs: dict[str, list[Burst]] = {name: [] for name in contenders}
    for _ in range(options.runs):
        for name, contender in contenders.items():
            made = in_fresh_process(burst, options.mails, options.wait, contender)
            runs[name].append(made)
    print(
        f"{options.mails:,} mails of {options.wait * 1000:.0f} ms; medians of {options.runs}; "
        f"both log at {options.loglevel}\n"
    )
    print(f"{'':38}{'processes':>10}{'at a time':>11}{'seconds':>9}{'sending':>9}{'mails/s':>9}")
    for name, of_name in runs.items():
        seconds = statistics.median(each.last_seconds for each in of_name)
        sending = statistics.median(each.last_seconds - each.first_seconds for each in of_name)
        print(
            f"{name:38}{max(each.processes for each in of_name):>10}"
            f"{contenders[name].at_a_time:>11}{seconds:9.1f}{sending:9.1f}"
            f"{options.mails / sending:9.0f}"
        )
    if options.picture:
        draw({name: middle(of_name) for name, of_name in runs.items()}, options.picture)


def middle(bursts: list[Burst]) -> Burst:
    return sorted(bursts, key=lambda each: each.last_seconds)[len(bursts) // 2]


if __name__ == "__main__":
    main()
