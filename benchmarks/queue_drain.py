"""Draining a queue with large batches, many tasks at a time in one environment, some failing.

    python benchmarks/queue_drain.py --messages 10000 --concurrency 100 --failing 0.05

The queue is ministack's, the event source mapping is the local runner's with a batch size of
10,000 and one batch at a time, and the idempotency table a stand-in that answers after 5 ms. An
event has 6 MB at most, as on AWS, which is less than 10,000 of these messages. Each task waits
50 ms; the failing ones raise when their message is received for the first time, and are named in
``batchItemFailures``. The function logs as it does without a setting, two lines a run and a
failure's traceback, to a file.

The peer is Powertools by hand, as its documentation shows it: BatchProcessor with
``idempotent_function``, one message after the other, on the same kind of table. It is called in
this process with fewer messages, and again at once with those that it has named as failed; its
time is scaled.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import stand_ins
from bench import (
    FUNCTION_SECONDS,
    Run,
    RunLog,
    add_log_level,
    app_environment,
    begin,
    by_hand,
    context,
    event,
    in_fresh_process,
    logged,
    make_app,
    set_log_level,
    settings_at,
)

from lambda_celery import aws, delay_many
from lambda_celery.conf import Settings
from lambda_celery.local.emulator import ministack
from lambda_celery.local.event_source_mapping import (
    BatchReport,
    EventSourceMapping,
    EventSourceMappingConfig,
)
from lambda_celery.local.function import LocalFunction
from lambda_celery.local.provision import provision

HERE = Path(__file__).resolve().parent
TABLE_SECONDS = 0.005
POLL_SECONDS = 0.1
#: After its first receive; with jitter from half of it.
BACKOFF_SECONDS = 1
PATIENCE_SECONDS = 120


@dataclass(frozen=True)
class Options:
    messages: int
    batch: int
    window: int
    concurrency: int
    wait: float
    failing: float
    by_hand: int


class Batch(NamedTuple):
    """One invocation."""

    messages: int
    failed: int
    seconds: float


@dataclass(frozen=True)
class Drained:
    """What draining took, from the mapping's start to the last success."""

    seconds: float
    batches: list[Batch]
    runs: int
    twice: int


def calls(messages: int, failing: float) -> Iterator[tuple[int, bool]]:
    """Yield the arguments: a number, and whether the first run of it fails."""
    return ((n, int((n + 1) * failing) > int(n * failing)) for n in range(messages))


def drain(options: Options) -> Drained:
    """Drain a queue by the handler, in a process that has done nothing else."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ |= app_environment(
            stack.enter_context(ministack()),
            stack.enter_context(stand_ins.dynamodb(TABLE_SECONDS)),
            directory,
            options.wait,
            concurrency=options.concurrency,
            retry_backoff_seconds=BACKOFF_SECONDS,
        )
        from mail_app import app, send_or_fail

        settings = Settings.from_app(app)
        # The stand-in needs no table.
        queues = replace(settings, idempotency_table=None)
        provision(
            queues,
            function_timeout_seconds=FUNCTION_SECONDS,
            maximum_batching_window_seconds=options.window,
        )
        delay_many(send_or_fail, calls(options.messages, options.failing), ids=False)
        batches: list[Batch] = []

        def note(report: BatchReport) -> None:
            if report.error is not None:
                print(f"A batch failed: {report.error}", file=sys.stderr)
            failed = len(report.failed_message_ids)
            seconds = report.result.duration_seconds
            batches.append(Batch(len(report.message_ids), failed, seconds))

        stack.enter_context(logged())
        function = stack.enter_context(
            LocalFunction(
                timeout_seconds=FUNCTION_SECONDS, maximum_concurrency=1, working_directory=HERE
            )
        )
        mapping = EventSourceMapping(
            str(settings.queue_url),
            function,
            EventSourceMappingConfig(options.batch, options.window, 1),
            aws.client("sqs", settings),
            on_batch=note,
        )
        started = time.time()
        with mapping:
            wait_until_done(RunLog(directory), options)
        runs = RunLog(directory).read()
    return Drained(runs[-1].ended - started, batches, len(runs), checked(runs, options))


def wait_until_done(log: RunLog, options: Options) -> None:
    expected = sum(1 + fails for _, fails in calls(options.messages, options.failing))
    seen, last_news = 0, time.monotonic()
    while (count := log.count()) < expected:
        if count > seen:
            seen, last_news = count, time.monotonic()
        elif time.monotonic() - last_news > PATIENCE_SECONDS:
            raise RuntimeError(f"Nothing moves: {count} of {expected} runs have ended.")
        time.sleep(POLL_SECONDS)


def checked(runs: list[Run], options: Options) -> int:
    """Return how many messages ran twice, which must be those that failed, and no others."""
    counted = Counter(run.number for run in runs)
    expected = {n: 1 + fails for n, fails in calls(options.messages, options.failing)}
    if wrong := {n: counted[n] for n in range(options.messages) if counted[n] != expected[n]}:
        raise RuntimeError(f"These ran more or less often than expected: {wrong}")
    if {run.number for run in runs if run.succeeded} != set(range(options.messages)):
        raise RuntimeError("Some messages never succeeded.")
    return sum(count == 2 for count in counted.values())


def drain_by_hand(options: Options) -> float:
    """Return the seconds for the messages that Powertools has run until none failed."""
    failed_before: set[int] = set()

    def send_or_fail(number: int, fails: bool) -> None:
        time.sleep(options.wait)
        if fails and number not in failed_before:
            failed_before.add(number)
            raise ConnectionError("The mail server is busy.")

    with stand_ins.dynamodb(TABLE_SECONDS) as url:
        settings = settings_at(url)
        task = make_app(settings).task(send_or_fail, name="mail.send_or_fail", shared=False)
        handler = by_hand(settings, send_or_fail)
        left = event(task, calls(options.by_hand, options.failing))
        started = time.perf_counter()
        while left["Records"]:
            answer = handler(left, context())
            failed = {each["itemIdentifier"] for each in answer["batchItemFailures"]}
            left = {"Records": [each for each in left["Records"] if each["messageId"] in failed]}
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=10_000, help="the mapping's batch size")
    parser.add_argument("--window", type=int, default=2, help="the mapping's window, seconds")
    parser.add_argument("--concurrency", type=int, default=100)
    parser.add_argument("--wait", type=float, default=0.05, help="seconds for a task")
    parser.add_argument("--failing", type=float, default=0.05, help="share that fails at first")
    parser.add_argument("--by-hand", type=int, default=200, help="messages for the peer")
    parser.add_argument("--runs", type=int, default=1)
    add_log_level(parser)
    arguments = vars(parser.parse_args())
    runs, level = arguments.pop("runs"), arguments.pop("loglevel")
    options = Options(**arguments)
    begin()
    set_log_level(level)
    drained = [in_fresh_process(drain, options) for _ in range(runs)]
    hand = [in_fresh_process(drain_by_hand, options) for _ in range(runs)]
    middle = sorted(drained, key=lambda each: each.seconds)[len(drained) // 2]
    print(
        f"{options.messages:,} messages of {options.wait * 1000:.0f} ms, medians of {runs}; the "
        f"function logs at {level}\n\n"
        f"handler, {options.concurrency} at a time in one environment: {middle.seconds:.1f} s from "
        f"the mapping's start to the last success, {options.messages / middle.seconds:.0f} a second"
    )
    for number, each in enumerate(middle.batches, 1):
        print(
            f"  event {number}: {each.messages:>6,} messages, {each.failed:>4} failed, "
            f"{each.seconds:6.1f} s in the function"
        )
    in_function = sum(each.seconds for each in middle.batches)
    print(
        f"  {in_function:.1f} s of it in the function, {options.messages / in_function:.0f} a "
        "second; the rest is gathering and deleting, one batch at a time\n"
        f"  {middle.runs:,} runs: {middle.twice} messages ran twice, which are those that failed"
    )
    seconds = statistics.median(hand)
    scaled = seconds * options.messages / options.by_hand
    print(
        f"by hand, one after the other: {scaled:.0f} s, {options.by_hand / seconds:.1f} a second "
        f"({options.by_hand} messages in {seconds:.1f} s, scaled); {scaled / middle.seconds:.0f} x"
    )


if __name__ == "__main__":
    main()
