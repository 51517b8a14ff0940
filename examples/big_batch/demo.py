"""One event with as many records as Lambda gives, 100 at a time, only the failed ones returned.

Real are: SQS and DynamoDB (ministack on loopback), the event source mapping's rules (10,000
messages or 6 MB), and the Lambda runtime client (awslambdaric). Some of the tasks fail once,
some always, some retry. It ends with a table, and with status 1 where a promise did not hold.
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from examples.big_batch.app import app, fetch, pull
from examples.big_batch.events import PATIENCE_SECONDS, Events, send, smallest_body
from examples.big_batch.outcome import CONCURRENCY, MAX_RECEIVE_COUNT, Comparison, Outcome
from examples.big_batch.picture import draw
from examples.big_batch.service import fate
from examples.kit.queues import depth
from examples.kit.runs import VARIABLE, RunLog
from examples.kit.surroundings import ROOT, main, set_environment
from examples.kit.table import show
from lambda_celery import aws, delay_many
from lambda_celery.conf import Settings
from lambda_celery.infrastructure.computed import compute
from lambda_celery.infrastructure.inputs import Deployment
from lambda_celery.local.emulator import ministack
from lambda_celery.local.function import LocalFunction
from lambda_celery.local.provision import provision

HERE = Path(__file__).resolve().parent
KINDS = {"async def": fetch, "threads": pull}
#: What is compared.
CONCURRENCIES = (1, 10, CONCURRENCY)
#: Each fate is met.
FEWEST_RECORDS = 100
MOST_RECORDS = 10_000


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="big_batch", description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=10_000, help="(%(default)s)")
    parser.add_argument("--kind", choices=KINDS, default="async def", help="(%(default)s)")
    parser.add_argument(
        "--producer",
        choices=("smallest", "celery"),
        default="smallest",
        help="messages as small as can be, of which 10,000 fit into an event, or those of "
        "delay_many(), of which about 3,500 do (%(default)s)",
    )
    parser.add_argument("--wait", type=float, default=0.05, help="seconds a task (%(default)s)")
    parser.add_argument(
        "--compare", type=int, default=100, metavar="N", help="tasks to compare with (%(default)s)"
    )
    parser.add_argument("--picture", type=Path, default=HERE / "in-flight.png")
    parser.add_argument("--log", type=Path, default=HERE / "function.log")
    options = parser.parse_args()
    if not FEWEST_RECORDS <= options.records <= MOST_RECORDS:
        parser.error(f"--records must be {FEWEST_RECORDS} to 10,000: so many has an event at most")
    return options


def demo(options: argparse.Namespace, console: Console) -> int:
    """Run everything; return the status."""
    deployment = Deployment.from_pyproject(HERE / "pyproject.toml")
    with ExitStack() as stack:
        console.print("Starting an emulated AWS …")
        directory = Path(stack.enter_context(TemporaryDirectory()))
        set_environment(
            LAMBDA_CELERY_ENDPOINT_URL=stack.enter_context(ministack()),
            LAMBDA_CELERY_APP=deployment.app,
            LAMBDA_CELERY_MAX_RECEIVE_COUNT=str(MAX_RECEIVE_COUNT),
            # What failed comes again soon.
            LAMBDA_CELERY_RETRY_BACKOFF_SECONDS="1",
            BIG_BATCH_WAIT_SECONDS=str(options.wait),
            **{VARIABLE: str(directory)},
        )
        settings = Settings.from_app(app)
        provision(
            settings,
            function_timeout_seconds=deployment.timeout,
            maximum_batching_window_seconds=deployment.maximum_batching_window_in_seconds,
        )
        rehearsal = Rehearsal(options, deployment, settings, RunLog(directory), console)
        outcome = rehearsal.run()
    status = show("What became of the event", outcome.rows(), console)
    console.print(settings_of(deployment))
    draw(outcome.events[0], outcome.comparisons, options.picture)
    console.print(f"Tasks in flight over time: {options.picture}", soft_wrap=True)
    console.print(f"What the function logged: {options.log}", soft_wrap=True)
    return status


class Rehearsal:
    """The big event first, and then the comparison."""

    def __init__(
        self,
        options: argparse.Namespace,
        deployment: Deployment,
        settings: Settings,
        runs: RunLog,
        console: Console,
    ) -> None:
        self._options = options
        self._deployment = deployment
        self._settings = settings
        self._runs = runs
        self._console = console
        self._sqs: Any = aws.client("sqs", settings)
        self._numbers = (n for n in count(options.records) if fate(n) == "succeeds")

    def run(self) -> Outcome:
        options = self._options
        task = KINDS[options.kind]
        self._console.print(f"Sending {options.records:,} messages …")
        if options.producer == "celery":
            delay_many(task, ((number,) for number in range(options.records)), ids=False)
        else:
            self._send_smallest(task, range(options.records))
        self._console.print(f"Gathering them, and running them {CONCURRENCY} at a time …")
        with self._function(CONCURRENCY) as function:
            events = self._events(function)
            # Fewer records are gathered sooner.
            window = self._deployment.maximum_batching_window_in_seconds
            window = max(1, window * options.records // MOST_RECORDS)
            with events.gathering(self._deployment.batch_size, window):
                events.wait_for(options.records)
            # What came again need not wait for others.
            with events.gathering(self._deployment.batch_size, 1) as mapping:
                mapping.wait_until_idle(PATIENCE_SECONDS)
        self._console.print("Comparing with one at a time …")
        comparisons = [each for concurrency in CONCURRENCIES for each in self._compare(concurrency)]
        return Outcome(
            records=options.records,
            events=events.all,
            parked=depth(self._sqs, str(self._settings.dead_letter_queue_url)),
            left_on_queue=depth(self._sqs, str(self._settings.queue_url)),
            comparisons=comparisons,
        )

    def _compare(self, concurrency: int) -> Iterator[Comparison]:
        tasks = self._options.compare
        with self._function(concurrency) as function:
            events = self._events(function)
            with events.gathering(tasks, window_seconds=1):
                for done, (kind, task) in enumerate(KINDS.items(), 1):
                    before = len(events.all)
                    self._send_smallest(task, islice(self._numbers, tasks))
                    events.wait_for(done * tasks)
                    runs = [run for event in events.all[before:] for run in event.runs]
                    seconds = max(run.ended for run in runs) - min(run.began for run in runs)
                    yield Comparison(kind, concurrency, tasks, seconds)

    def _send_smallest(self, task: Any, numbers: Iterator[int] | range) -> None:
        bodies = map(partial(smallest_body, task.name), numbers)
        send(self._sqs, str(self._settings.queue_url), bodies)

    def _function(self, concurrency: int) -> LocalFunction:
        function = LocalFunction(
            timeout_seconds=self._deployment.timeout,
            maximum_concurrency=1,
            working_directory=ROOT,
            writable=[self._runs.directory],
            environment={
                **self._deployment.environment,
                "LAMBDA_CELERY_CONCURRENCY": str(concurrency),
            },
        )
        # The cold start is not what is measured.
        function.invoke({"warmer": True})
        return function

    def _events(self, function: LocalFunction) -> Events:
        queue_url = str(self._settings.queue_url)
        return Events(self._sqs, queue_url, function, self._runs, MAX_RECEIVE_COUNT)


def settings_of(deployment: Deployment) -> Table:
    """Return what the stanza makes of the mapping, its queue and its function."""
    (queue,) = compute(deployment).queues.values()
    concurrency = deployment.environment["LAMBDA_CELERY_CONCURRENCY"]
    table = Table(title="What is deployed for such events", title_justify="left")
    table.add_column("setting", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_column("why")
    table.add_row("BatchSize", f"{queue.batch_size:,}", "or 6 MB, whichever comes first")
    table.add_row(
        "MaximumBatchingWindowInSeconds", f"{queue.window_seconds}", "1 or more above 10 messages"
    )
    table.add_row(
        "FunctionResponseTypes",
        "ReportBatchItemFailures",
        "without it, Lambda deletes the failed ones",
    )
    table.add_row("MaximumConcurrency", f"{queue.maximum_concurrency}", "events at the same time")
    table.add_row("Timeout", f"{deployment.timeout:,} s", "the whole event, with room")
    table.add_row(
        "VisibilityTimeout",
        f"{queue.visibility_timeout_seconds:,} s",
        "six time-outs and the window",
    )
    table.add_row("MemorySize", f"{deployment.memory_size:,} MB", "a whole vCPU")
    table.add_row("LAMBDA_CELERY_CONCURRENCY", concurrency, "tasks at the same time")
    return table


if __name__ == "__main__":
    chosen = parse_arguments()
    sys.exit(main(partial(demo, chosen), chosen.log))
