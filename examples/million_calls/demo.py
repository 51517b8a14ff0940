"""A CSV whose rows are an HTTP call each, called in one environment, run for real.

Real are: SQS, DynamoDB and S3 (ministack on loopback), the Lambda runtime client (awslambdaric)
and HTTP, to a service on loopback. It shows four things: calls that go on from one invocation to
the next, failures that are called again by themselves, a run that is killed and goes on, and how
long it takes by the number of calls in flight and of processes.

It ends with status 1 where a promise did not hold.
"""

import argparse
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from trial.picture import Course, Line, draw
from trial.stub import Stub, stub

from lambda_celery.local.emulator import ministack

HERE = Path(__file__).resolve().parent
BUCKET = "million"
LATENCY_SECONDS = 0.02
#: Long enough that nothing of the time table is cut.
LONG_TIMEOUT_SECONDS = 900
#: Rows of the time table for each call in flight: two seconds of calls that take nothing else.
TURNS = 100
#: Rows for each call in flight, by default: few rows take several invocations, too, and several
#: saves before the kill.
TURNS_IN_ALL = 200
MOST_IN_FLIGHT = 300
FAILURES_SHOWN = 10
FEWEST_CALLS = 400


def main() -> int:
    options = parse_arguments()
    # A terminated run unwinds like an interrupted one, and leaves no child behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        return run(options)
    except KeyboardInterrupt:
        print("Interrupted.")
        return 128 + signal.SIGINT


def run(options: argparse.Namespace) -> int:
    """Run everything; return the status."""
    with ExitStack() as stack:
        log = stack.enter_context(options.log.open("wb"))
        print("Starting a service to call and an emulated AWS …", flush=True)
        service = stack.enter_context(stub(LATENCY_SECONDS))
        endpoint = stack.enter_context(ministack())
        set_environment(endpoint, service.url)
        # Only now: the app takes its settings from the environment.
        from trial.environment import DESCRIPTORS, Environment

        _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS, hard), hard))
        demo = Demo(options, service)
        with Environment(options.processes[-1], options.timeout, log) as environment:
            course = demo.call_all(environment)
            demo.call_failures_again(environment)
            demo.kill(environment)
        table = []
        for processes in options.processes:
            with Environment(processes, LONG_TIMEOUT_SECONDS, log) as environment:
                table += demo.measure(environment, processes)
    draw(table, course, LATENCY_SECONDS, options.picture)
    print(f"\nThe picture: {options.picture}\nWhat the function logged: {options.log}")
    print(sentences_of_descriptors(options.log), end="")
    for promise in demo.broken:
        print(f"Broken: {promise}")
    return 1 if demo.broken else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=20_000, help="rows (%(default)s)")
    parser.add_argument(
        "--in-flight", type=int,
        help=f"calls at a time (default: a {TURNS_IN_ALL}th of the rows, {MOST_IN_FLIGHT} at most)",
    )  # fmt: skip
    parser.add_argument(
        "--timeout", type=int, help="of the function, seconds (default: so that it takes several)"
    )
    parser.add_argument(
        "--bounds", type=int, nargs="+", default=[10, 50, 100, 300, 500, 1000],
        help="calls at a time in the time table",
    )  # fmt: skip
    parser.add_argument(
        "--processes", type=int, nargs="+", default=[0, 2],
        help="processes in the time table; all else is done with the last",
    )  # fmt: skip
    parser.add_argument("--picture", type=Path, default=HERE / "million-calls.png")
    parser.add_argument("--log", type=Path, default=HERE / "function.log")
    options = parser.parse_args()
    if options.calls < FEWEST_CALLS:
        parser.error(f"--calls must be {FEWEST_CALLS} or more, to have room for the trouble")
    if options.in_flight is None:
        options.in_flight = min(MOST_IN_FLIGHT, options.calls // TURNS_IN_ALL)
    if options.timeout is None:
        options.timeout = min(900, max(5, options.calls // 10_000))
    return options


class Demo:
    """The steps, in their order. What did not hold is in :attr:`broken`."""

    def __init__(self, options: argparse.Namespace, service: Stub) -> None:
        from million.storage import Storage

        self.broken: list[str] = []
        self._options = options
        self._service = service
        self._storage = Storage()
        self._patience_seconds = 120 + options.calls / 100

    def call_all(self, environment: Any) -> Course:
        """Call each row, with trouble, in as many invocations as it takes."""
        from trial.environment import Watcher

        calls, in_flight = self._options.calls, self._options.in_flight
        self._service.begin(calls, max(20, min(1000, calls // 20)))
        self._write("rows.csv", range(1, calls + 1))
        ends: list[float] = []
        lost: list[str] = []

        def ended(report: Any) -> None:
            ends.append(time.monotonic())
            if report.failed_message_ids:
                lost.append(report.error or "the task did not stop in time")

        self._say(
            f"1. {calls:,} rows, {in_flight} at a time, in one environment whose "
            f"time-out is {self._options.timeout} s"
        )
        with Watcher(self._service.calls, sys.maxsize, lambda: None) as watcher:
            self._marks = environment.run(
                "all", "rows.csv", in_flight, self._patience_seconds, on_batch=ended
            )
        seen = self._service.report()
        succeeded = sum(mark.succeeded for mark in self._marks)
        failed = sum(mark.failed for mark in self._marks)
        resumed = sum(mark.runs - 1 for mark in self._marks)
        twice = seen["answered 200 twice or more"]
        rate = calls / seen["seconds"]
        print(f"   from first to last call:   {seen['seconds']:.1f} s, {rate:,.0f} rows a second")
        print(f"   invocations:               {len(ends)}")
        print(f"   times the task went on:    {resumed}")
        print(f"   calls, retries counted:    {seen['calls']:,}: {statuses(seen)}")
        print(f"   rows succeeded, failed:    {succeeded:,}, {failed:,}")
        print(f"   rows answered 200 twice:   {twice:,}")
        for each in lost:  # a machine that is too busy
            print(f"   an invocation failed:      {each}")
        print(f"   peak memory of a process:  {peak_mib(self._marks)} MiB", flush=True)
        self._expect("each row is settled", succeeded + failed == calls)
        self._expect("each row is called", seen["never called"] == 0)
        # What hung when an invocation's time ran out is called again.
        self._expect("each row succeeds once", bool(lost) or twice <= resumed * in_flight)
        self._expect("it takes several invocations", resumed > 0)
        return Course(watcher.samples, ends)

    def call_failures_again(self, environment: Any) -> None:
        """List what has failed; call that alone when the service is well again."""
        from million.progress import FAILED_HEADER, failures

        listed = [
            line
            for part in range(len(self._marks))
            for line in failures(self._storage, "all", part)
        ]
        self._say(f"2. {len(listed):,} rows failed:")
        for line in sorted(listed, key=lambda line: int(line.partition(",")[0]))[:FAILURES_SHOWN]:
            number, status, row = line.split(",", 2)
            print(f"   row {number}: {status} ({row})")
        if len(listed) > FAILURES_SHOWN:
            print(f"   … and {len(listed) - FAILURES_SHOWN:,} more")
        self._storage.write("failed.csv", "\n".join([f"{FAILED_HEADER}path", *listed]).encode())
        self._service.end_trouble()
        before = self._service.calls()
        marks = environment.run(
            "again", "failed.csv", self._options.in_flight, self._patience_seconds,
            failures_of="all",
        )  # fmt: skip
        seen = self._service.report()
        succeeded = sum(mark.succeeded for mark in marks)
        print(f"   called again, alone: {seen['calls'] - before:,} calls, {succeeded:,} succeeded")
        self._expect("what failed is listed", 0 < len(listed) == seen["calls"] - before)
        self._expect("each row has succeeded", succeeded == len(listed))

    def kill(self, environment: Any) -> None:
        """Kill the environment when half of the calls have been made."""
        from trial.environment import Watcher

        calls = min(self._options.calls, self._options.in_flight * TURNS)
        self._service.begin(calls)
        self._write("killed.csv", range(1, calls + 1))
        self._say(f"3. {calls:,} rows, and the process is killed in the middle")
        with Watcher(self._service.calls, calls // 2, environment.kill) as watcher:
            marks = environment.run(
                "killed", "killed.csv", self._options.in_flight, self._patience_seconds
            )
        seen = self._service.report()
        twice = seen["answered 200 twice or more"]
        print(f"   rows answered 200:         {calls - seen['never called']:,}")
        print(f"   called twice:              {twice:,}, in flight or not yet saved at the kill")
        self._expect("a process is killed", watcher.done_at is not None)
        self._expect("each row is called", seen["never called"] == 0)
        self._expect("what was saved is not called again", twice < calls * 3 // 4)
        self._expect("each row is settled", sum(mark.succeeded for mark in marks) == calls)

    def measure(self, environment: Any, processes: int) -> list[Line]:
        """Return the lines of the time table for one number of processes."""
        where = f"{processes} child processes" if processes else "the function's process"
        self._say(f"4. How long it takes, in {where}")
        print(f"   {'in flight':>9}{'rows':>10}{'seconds':>9}{'rows a second':>15}{'MiB':>6}")
        lines = []
        for bound in self._options.bounds:
            calls = min(self._options.calls, bound * TURNS)
            self._service.begin(calls)
            self._write("table.csv", range(1, calls + 1))
            job = f"table-{processes}-{bound}"
            marks = environment.run(job, "table.csv", bound, self._patience_seconds)
            seen = self._service.report()
            line = Line(processes, bound, calls, seen["seconds"], peak_mib(marks))
            print(
                f"   {bound:9}{calls:10,}{line.seconds:9.2f}{line.rate:15,.0f}{line.peak_mib:6}",
                flush=True,
            )
            self._expect("each row is called once", seen["answered 200 once"] == calls)
            lines.append(line)
        return lines

    def _write(self, key: str, members: Sequence[int]) -> None:
        lines = ["path\n", *(f"/members/{number}\n" for number in members)]
        self._storage.write(key, "".join(lines).encode())

    def _say(self, text: str) -> None:
        print(f"\n{text}", flush=True)

    def _expect(self, promise: str, holds: bool) -> None:
        if not holds:
            self.broken.append(promise)


def statuses(seen: dict[str, Any]) -> str:
    return ", ".join(f"{count:,} {status}" for status, count in sorted(seen["statuses"].items()))


def peak_mib(marks: Sequence[Any]) -> int:
    return max(mark.peak_bytes for mark in marks) // 2**20


def sentences_of_descriptors(log: Path) -> str:
    """Return what the function has said of file descriptors, each sentence once."""
    said: dict[str, None] = {}
    for line in log.read_text(errors="replace").splitlines():
        if "file descriptor" in line and line.startswith("{"):
            said[f"The function: {json.loads(line)['message']}\n"] = None
    return "".join(said)


def set_environment(endpoint: str, service_url: str) -> None:
    """Set what the app here and in the function takes from the environment."""
    for name in list(os.environ):
        # The demo must never find a real AWS account, nor a real deployment's queue.
        if name.startswith(("AWS_", "LAMBDA_CELERY_")):
            del os.environ[name]
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "demo",
        "AWS_SECRET_ACCESS_KEY": "demo",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ENDPOINT_URL": endpoint,
        "LAMBDA_CELERY_APP": "million.app:app",
        "LAMBDA_CELERY_QUEUE_URL": f"{endpoint}/000000000000/calls",
        "LAMBDA_CELERY_IDEMPOTENCY_TABLE": "million-idempotency",
        "LAMBDA_CELERY_PAYLOAD_BUCKET": BUCKET,
        "MILLION_BUCKET": BUCKET,
        "MILLION_SERVICE_URL": service_url,
    }


if __name__ == "__main__":
    sys.exit(main())
