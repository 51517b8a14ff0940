"""A storm: processes that are killed, messages that come twice, AWS that fails. What is promised?

``python tests/chaos/storm.py --help``, or ``make chaos N=2000``. Everything is real but AWS: SQS
and DynamoDB are ministack's, the mapping is that of ``lambda local``, the handler runs under AWS's
runtime client. It ends with a table, and with status 1 where a promise did not hold.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from outages import Proxy, random_outage  # noqa: E402

from lambda_celery import aws  # noqa: E402
from lambda_celery.conf import Settings  # noqa: E402
from lambda_celery.local.emulator import ministack  # noqa: E402
from lambda_celery.local.event_source_mapping import (  # noqa: E402
    BatchReport,
    EventSourceMapping,
    EventSourceMappingConfig,
)
from lambda_celery.local.function import LocalFunction  # noqa: E402
from lambda_celery.local.provision import provision  # noqa: E402

FUNCTION_TIMEOUT_SECONDS = 4
#: Shorter than AWS advises, so that what a kill leaves behind comes back soon.
VISIBILITY_TIMEOUT_SECONDS = 6
MAX_RECEIVE_COUNT = 5


@dataclass
class Result:
    """What the record and the queues tell."""

    sent: dict[int, str]
    ends: dict[int, list[tuple[int, float]]] = field(default_factory=lambda: defaultdict(list))
    begins: Counter[int] = field(default_factory=Counter)
    #: Process id to when it died.
    died: dict[int, float] = field(default_factory=dict)
    parked: list[int] = field(default_factory=list)
    #: At their last receive in a process that died: SQS has parked them. Of a FIFO queue all,
    #: of another those that had begun to run in each receive before, or in all but one.
    killed_at_last: set[int] = field(default_factory=set)
    #: Of those, whose process could not reach SQS, and so could neither send on nor delete.
    cut_off_at_last: set[int] = field(default_factory=set)
    #: When the last outage of SQS ends, or has (``time.monotonic``).
    sqs_is_back_at: float = 0.0
    left: int = 0
    outages: int = 0
    seconds: float = 0.0

    @property
    def _harmless(self) -> set[int]:
        return {number for number, kind in self.sent.items() if kind != "killer"}

    def rows(self) -> list[tuple[str, int, bool]]:
        """Return what is counted, each with whether a promise says that it is none."""
        twice = {n for n, ends in self.ends.items() if len(ends) > 1}
        excused = {n for n in twice if self._in_the_window(n)}
        parked = set(self.parked)
        has_run = parked & set(self.ends)
        harmless = (parked & self._harmless) - has_run
        return [
            ("sent", len(self.sent), False),
            ("  of which kill their process", len(self.sent) - len(self._harmless), False),
            ("processes that died", len(self.died), False),
            ("requests in outages", self.outages, False),
            ("lost", len(self._harmless - set(self.ends) - parked), True),
            ("run twice", len(twice - excused), True),
            ("  killed between the work and its record", len(excused), False),
            ("parked although it has run", len(has_run - self.cut_off_at_last), True),
            (
                "  killed at its last receive, without SQS",
                len(has_run & self.cut_off_at_last),
                False,
            ),
            ("parked although harmless", len(harmless - self.killed_at_last), True),
            ("  killed at its last receive", len(harmless & self.killed_at_last), False),
            ("parked without a run", len(parked - set(self.begins) - self.killed_at_last), True),
            ("left on the queue", self.left, True),
        ]

    def _in_the_window(self, number: int) -> bool:
        """Whether all runs but one ended in a process that died before it could tell."""
        *earlier, _ = sorted(self.ends[number], key=lambda end: end[1])
        return all(
            process in self.died and self.died[process] - at < FUNCTION_TIMEOUT_SECONDS
            for process, at in earlier
        )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("-n", type=int, default=2000, help="messages")
    parser.add_argument("--killers", type=int, default=5, help="tasks that kill their process")
    parser.add_argument("--kill-every", type=float, default=3.0, metavar="SECONDS")
    parser.add_argument("--outage-every", type=float, default=4.0, metavar="SECONDS")
    parser.add_argument("--concurrency", type=int, default=1, help="tasks at a time in a process")
    parser.add_argument(
        "--processes", type=int, default=0, help="children of a process, which run its tasks"
    )
    parser.add_argument("--fifo", action="store_true")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--timeout", type=float, default=600.0, metavar="SECONDS")
    parser.add_argument("--log", type=Path, default=Path("storm.log"), help="what is logged")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.randrange(10_000)
    print("python", *sys.argv, f"(seed {seed})")
    with logging_to(options.log):
        result = storm(options, random.Random(seed))
    table = Table("", "figure", "promised", "")
    for name, figure, is_promised in result.rows():
        verdict = ("✗" if figure else "✓") if is_promised else ""
        table.add_row(name, f"{figure:,}", "0" if is_promised else "", verdict)
    table.add_row("seconds", f"{result.seconds:.0f}", "", "")
    Console(width=100).print(table)
    return int(any(figure for _, figure, is_promised in result.rows() if is_promised))


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Have all that is written to a terminal, by the function's processes too, go to *path*."""
    kept = [os.dup(number) for number in (1, 2)]
    with path.open("wb") as log:
        for number in (1, 2):
            os.dup2(log.fileno(), number)
    try:
        yield
    finally:
        sys.stdout.flush()
        for number, original in zip((1, 2), kept, strict=True):
            os.dup2(original, number)
            os.close(original)


def storm(options: argparse.Namespace, generator: random.Random) -> Result:
    """Let it rage until the queue is empty."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        record = scratch / "record"
        record.touch()
        for name in list(os.environ):
            if name.startswith(("AWS_", "LAMBDA_CELERY_")):
                del os.environ[name]
        endpoint = stack.enter_context(ministack())
        proxy = stack.enter_context(Proxy(endpoint).running())
        suffix = ".fifo" if options.fifo else ""
        url = f"{endpoint}/000000000000/storm{suffix}"
        os.environ |= {
            "AWS_ACCESS_KEY_ID": "storm",
            "AWS_SECRET_ACCESS_KEY": "storm",
            "AWS_REGION": "eu-west-1",
            "LAMBDA_CELERY_APP": "storm_app:app",
            "LAMBDA_CELERY_ENDPOINT_URL": endpoint,
            "LAMBDA_CELERY_QUEUE_URL": url,
            "LAMBDA_CELERY_IDEMPOTENCY_TABLE": "storm",
            "LAMBDA_CELERY_DEAD_LETTER_QUEUE_URL": f"{endpoint}/000000000000/storm-dead{suffix}",
            "LAMBDA_CELERY_CONCURRENCY": str(options.concurrency),
            "LAMBDA_CELERY_PROCESSES": str(options.processes),
            "LAMBDA_CELERY_RETRY_BACKOFF_SECONDS": "1",
            "LAMBDA_CELERY_RETRY_BACKOFF_MAX_SECONDS": "2",
            "LAMBDA_CELERY_TIME_RESERVE_SECONDS": "1",
            "STORM_RECORD": str(record),
        }
        from storm_app import app

        settings = Settings.from_app(app)
        provision(
            settings,
            function_timeout_seconds=FUNCTION_TIMEOUT_SECONDS,
            max_receive_count=MAX_RECEIVE_COUNT,
            visibility_timeout_seconds=VISIBILITY_TIMEOUT_SECONDS,
        )
        sqs = aws.client("sqs", settings)
        result = Result(publish(app, options, generator, sqs, url))
        function = stack.enter_context(
            LocalFunction(
                timeout_seconds=FUNCTION_TIMEOUT_SECONDS,
                maximum_concurrency=3,
                environment={"LAMBDA_CELERY_ENDPOINT_URL": proxy.url},
                working_directory=HERE,
            )
        )
        size = 10 if options.fifo else 20
        config = EventSourceMappingConfig(size, 0 if options.fifo else 1, 3)
        started = time.monotonic()

        def note_killed(report: BatchReport) -> None:
            if report.error is None:
                return
            is_cut_off = result.sqs_is_back_at > time.monotonic() - FUNCTION_TIMEOUT_SECONDS
            for each in report.event["Records"]:
                if int(each["attributes"]["ApproximateReceiveCount"]) >= MAX_RECEIVE_COUNT:
                    result.killed_at_last.add(number_in(each["body"]))
                    if is_cut_off:
                        result.cut_off_at_last.add(number_in(each["body"]))

        with EventSourceMapping(url, function, config, sqs, on_batch=note_killed) as mapping:
            with raging(function, proxy, record, options, generator, result):
                time.sleep(min(5.0, options.timeout))
                calm = threading.Event()
                waiting = threading.Thread(target=_wait, args=(mapping, options.timeout, calm))
                waiting.start()
                calm.wait(options.timeout)
            mapping.wait_until_idle(options.timeout)
            waiting.join()
        result.seconds = time.monotonic() - started
        result.outages = proxy.hit
        read_record(record, result)
        if not options.fifo:
            result.killed_at_last &= {
                number for number, begun in result.begins.items() if begun >= MAX_RECEIVE_COUNT - 1
            }
            result.killed_at_last |= result.cut_off_at_last
        dead_letters = settings.dead_letter_queue_url
        while messages := sqs.receive_message(
            QueueUrl=dead_letters, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages"):
            for message in messages:
                result.parked.append(number_in(message["Body"]))
        result.left = depth(sqs, url)
        return result


def _wait(mapping: EventSourceMapping, timeout_seconds: float, calm: threading.Event) -> None:
    try:
        mapping.wait_until_idle(timeout_seconds)
    except TimeoutError as exc:
        print(exc)
    calm.set()


def publish(app: Any, options: Any, generator: random.Random, sqs: Any, url: str) -> dict[int, str]:
    """Send the messages, some of them twice; return what each number is."""
    send = app.tasks["storm.send"]
    kinds = ["killer"] * options.killers
    kinds += generator.choices(["fine", "fails"], weights=[20, 1], k=options.n - len(kinds))
    generator.shuffle(kinds)
    import lambda_celery

    with lambda_celery.batch():
        for number, kind in enumerate(kinds):
            # A killer in a message group stops it until it is parked.
            group = f"killer-{number}" if kind == "killer" else f"group-{number % 40}"
            extra = {"MessageGroupId": group} if options.fifo else {}
            send.apply_async((number, kind, generator.uniform(0, 0.02)), **extra)
    if not options.fifo:  # whose copies SQS itself drops
        copied = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0).get(
            "Messages", []
        )
        for message in copied:
            if "killer" not in message["Body"]:
                sqs.send_message(QueueUrl=url, MessageBody=message["Body"])
    return dict(enumerate(kinds))


@contextmanager
def raging(
    function: LocalFunction,
    proxy: Proxy,
    record: Path,
    options: Any,
    generator: random.Random,
    result: Result,
) -> Iterator[None]:
    """Kill processes and make outages, within the context."""
    over = threading.Event()

    def kill() -> None:
        while not over.wait(generator.expovariate(1 / options.kill_every)):
            # Not one that is still being started: Lambda does not hand a batch to that.
            begun = {int(line.split()[-2]) for line in record.read_text().splitlines()}
            if processes := sorted(begun.intersection(function.process_ids())):
                process = generator.choice(processes)
                try:
                    os.kill(process, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                result.died[process] = time.time()

    def break_aws() -> None:
        while not over.wait(generator.expovariate(1 / options.outage_every)):
            outage = random_outage(generator)
            seconds = generator.uniform(0.2, 3.0)
            if outage.service == "sqs":
                result.sqs_is_back_at = time.monotonic() + seconds
            proxy.outage = outage
            over.wait(seconds)
            proxy.outage = None

    threads = []
    if options.kill_every:
        threads.append(threading.Thread(target=kill))
    if options.outage_every:
        threads.append(threading.Thread(target=break_aws))
    for each in threads:
        each.start()
    try:
        yield
    finally:
        over.set()
        for each in threads:
            each.join()
        proxy.outage = None


def read_record(record: Path, result: Result) -> None:
    """Read what the tasks have written down."""
    last: dict[int, float] = {}
    for line in record.read_text().splitlines():
        what, number, process, at = line.split()
        last[int(process)] = float(at)
        if what == "begin":
            result.begins[int(number)] += 1
            if result.sent[int(number)] == "killer":
                result.died.setdefault(int(process), float(at))
        else:
            result.ends[int(number)].append((int(process), float(at)))


def number_in(body: str) -> int:
    """Return the number of the task in a message."""
    import base64
    import json

    envelope = json.loads(base64.b64decode(body))
    return int(json.loads(base64.b64decode(envelope["body"]))[0][0])


def depth(sqs: Any, url: str) -> int:
    names = [
        "ApproximateNumberOfMessages",
        "ApproximateNumberOfMessagesNotVisible",
        "ApproximateNumberOfMessagesDelayed",
    ]
    answer = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return sum(map(int, answer.values()))


if __name__ == "__main__":
    sys.exit(main())
