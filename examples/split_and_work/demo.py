"""A function splits a file into tasks on the queue; workers run each once, with trouble on purpose.

Real are: SQS, DynamoDB and S3 (ministack on loopback), and the Lambda runtime client
(awslambdaric, a process for each concurrent invocation). The trouble: the splitting task is
delivered twice and is killed in the middle, messages are sent twice, a working process is killed.

It ends with a table of how often each row ran, and with status 1 where a promise did not hold.
"""

import argparse
import json
import sys
from collections import Counter
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from examples.kit.queues import depth
from examples.kit.runs import VARIABLE, RunLog
from examples.kit.surroundings import ROOT, main, set_environment
from examples.kit.table import show
from examples.split_and_work import troubled
from examples.split_and_work.app import app, split
from examples.split_and_work.outcome import Outcome
from examples.split_and_work.picture import draw
from examples.split_and_work.watched import WatchedFunction
from lambda_celery import aws
from lambda_celery.conf import Settings
from lambda_celery.local.emulator import ministack
from lambda_celery.local.event_source_mapping import EventSourceMapping, EventSourceMappingConfig
from lambda_celery.local.function import LocalFunction
from lambda_celery.local.provision import default_dead_letter_queue_name, provision

HERE = Path(__file__).resolve().parent
BUCKET, KEY = "orders", "orders.jsonl"
#: One row in so many is equal to the one before: a customer has ordered the same again.
EQUAL_EVERY = 50
REPEAT_EVERY = 10
BATCH_SIZE = 10
#: So that batches are full, though rows come one after the other.
WINDOW_SECONDS = 1
CONCURRENCY = 4
WORK_TIMEOUT_SECONDS = 5
#: So many rows are split in a second, and more: the splitting function's time-out follows.
ROWS_PER_SECOND = 300
FEWEST_ROWS = 200
PATIENCE_SECONDS = 300


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="split_and_work", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2000, help="(%(default)s)")
    parser.add_argument("--work", type=float, default=0.01, help="seconds a row (%(default)s)")
    parser.add_argument("--picture", type=Path, default=HERE / "rows-done.png")
    parser.add_argument("--log", type=Path, default=HERE / "function.log")
    options = parser.parse_args()
    if options.rows < FEWEST_ROWS:
        parser.error(f"--rows must be {FEWEST_ROWS} or more, to have room for the trouble")
    return options


def demo(options: argparse.Namespace, console: Console) -> int:
    """Run everything; return the status."""
    rows = [{"number": n - (n % EQUAL_EVERY == 1), "customer": n % 97} for n in range(options.rows)]
    with ExitStack() as stack:
        console.print("Starting an emulated AWS …")
        runs = RunLog(Path(stack.enter_context(TemporaryDirectory())))
        deaths = Path(stack.enter_context(TemporaryDirectory()))
        endpoint = stack.enter_context(ministack())
        set_environment(
            **{
                "AWS_ENDPOINT_URL": endpoint,
                "LAMBDA_CELERY_ENDPOINT_URL": endpoint,
                "LAMBDA_CELERY_APP": f"{troubled.__name__}:app",
                "SPLIT_AND_WORK_SECONDS": str(options.work),
                troubled.VARIABLE: str(deaths),
                troubled.CALLS_VARIABLE: str(len(rows) // 2),
                troubled.ROW_VARIABLE: str(rows[len(rows) // 4]["number"]),
                VARIABLE: str(runs.directory),
            }
        )
        console.print(f"Putting a file of {len(rows):,} rows into S3, and calling split() …")
        settings = Settings.from_app(app)
        put(aws.client("s3", settings), "\n".join(map(json.dumps, rows)))
        split_timeout_seconds = WORK_TIMEOUT_SECONDS + len(rows) // ROWS_PER_SECOND
        # What a killed process had is hidden for so long. On AWS it is six time-outs, for what
        # Lambda throttles; here nothing is, and nobody wants to wait. So a process that starts
        # slowly on a busy machine may cost a receive: hence more of them.
        provision(
            settings,
            function_timeout_seconds=split_timeout_seconds,
            visibility_timeout_seconds=split_timeout_seconds + 3,
            max_receive_count=10,
        )
        split.delay(BUCKET, KEY)
        console.print("Splitting and working …")
        sqs = aws.client("sqs", settings)

        def start(
            queue: str, timeout_seconds: int, batch_size: int, repeat_every: int
        ) -> tuple[WatchedFunction, EventSourceMapping]:
            local = LocalFunction(
                timeout_seconds=timeout_seconds,
                maximum_concurrency=CONCURRENCY,
                working_directory=ROOT,
                writable=[runs.directory, deaths],
            )
            url = settings.queues[queue].url
            function = WatchedFunction(stack.enter_context(local), sqs, url, repeat_every)
            config = EventSourceMappingConfig(batch_size, WINDOW_SECONDS, CONCURRENCY)
            mapping = EventSourceMapping(url, function, config, sqs)
            return function, stack.enter_context(mapping)

        splitting, split_mapping = start("split", split_timeout_seconds, 1, 1)
        working, work_mapping = start("work", WORK_TIMEOUT_SECONDS, BATCH_SIZE, REPEAT_EVERY)
        split_mapping.wait_until_idle(PATIENCE_SECONDS)
        work_mapping.wait_until_idle(PATIENCE_SECONDS)
        urls = [each.url for each in settings.queues.values()]
        outcome = Outcome(
            in_file=Counter(row["number"] for row in rows),
            runs=runs.read(),
            mark_of=working.mark_of,
            deliveries=working.deliveries,
            messages=len(working.messages),
            sent_twice=working.repeated,
            split_deliveries=splitting.deliveries.total(),
            split_killed=splitting.killed,
            work_killed=working.killed,
            calls_before_death=len(rows) // 2,
            parked=sum(depth(sqs, default_dead_letter_queue_name(url)) for url in urls),
            left_on_queues=sum(depth(sqs, url) for url in urls),
        )
    status = show("What became of the rows", outcome.rows(), console)
    console.print(outcome.times())
    draw(outcome.runs, splitting.invocations, working.invocations, options.picture)
    console.print(f"Rows done over time: {options.picture}", soft_wrap=True)
    console.print(f"What the functions logged: {options.log}", soft_wrap=True)
    return status


def put(s3: Any, text: str) -> None:
    """Put the file where :func:`split` is to find it."""
    location = {"LocationConstraint": s3.meta.region_name}
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration=location)
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=text.encode())


if __name__ == "__main__":
    chosen = parse_arguments()
    sys.exit(main(partial(demo, chosen), chosen.log))
