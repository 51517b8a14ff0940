"""One task that makes many HTTP calls, beside programs that make the same calls.

    python benchmarks/million_calls.py --calls 50000 --at-once 100 300

The task is the one of examples/million_calls: it reads rows from S3 (ministack), calls, tries again
what fails, and saves its place every second. The handler is called with one message, and the
idempotency table is a stand-in. Its peers know the number of rows and nothing else: a plain
aiohttp program, with as many coroutines as calls in flight, and one in Go (net/http), with as many
goroutines, once as it is and once on one core as the others are. Without ``go`` on the path these
are left out. The service is a local stand-in that answers after 50 ms. Each run is a process of its
own; seconds and CPU seconds are that process's, from before the first call to after the last.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import stand_ins
from bench import (
    REGION,
    add_log_level,
    begin,
    context,
    event,
    in_fresh_process,
    logged,
    set_log_level,
    settings_at,
)
from http_calls import SERVICE_SECONDS, TABLE_SECONDS, Figures, Stopwatch

from lambda_celery.conf import ENV_PREFIX
from lambda_celery.local.emulator import ministack

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "million_calls"
GO_SOURCE = Path(__file__).parent / "million_calls_in_go" / "main.go"
BUCKET = "million"
KEY = "rows.csv"


def task(url: str, calls: int, at_once: int) -> Figures:
    """Run the example's task by the handler."""
    sys.path.insert(0, str(EXAMPLE))
    os.environ["MILLION_SERVICE_URL"] = url
    with stand_ins.dynamodb(TABLE_SECONDS) as table_url:
        settings = settings_at(table_url)
        for name in (
            "queue_url", "dead_letter_queue_url", "max_receive_count", "idempotency_table",
            "idempotency_ttl_seconds", "endpoint_url", "region",
        ):  # fmt: skip
            os.environ[f"{ENV_PREFIX}{name.upper()}"] = str(getattr(settings, name))
        from million.app import app
        from million.progress import begin as begin_job
        from million.progress import read_mark
        from million.storage import Storage
        from million.tasks import call_rows

        from lambda_runtime import make_handler

        job = str(os.getpid())
        parts = begin_job(Storage(), job, KEY)
        handler, made = make_handler(app), event(call_rows, [(job, 0, at_once, parts)])
        watch = Stopwatch()
        with logged(), watch:
            answer = handler(made, context())
    if answer["batchItemFailures"] or read_mark(Storage(), job, 0).succeeded != calls:
        raise SystemExit("Not all calls were answered: no figure.")
    return watch.total


def plain(url: str, calls: int, at_once: int) -> Figures:
    """Make the calls in a plain aiohttp program."""
    import aiohttp

    watch, answered = Stopwatch(), itertools.count()

    async def work(client: aiohttp.ClientSession, numbers: Iterator[int]) -> None:
        for number in numbers:
            async with client.get(f"{url}/members/{number}") as answer:
                await answer.read()
                assert answer.status == 200
            next(answered)

    async def main() -> None:
        numbers = iter(range(1, calls + 1))
        connector = aiohttp.TCPConnector(limit=at_once)
        async with aiohttp.ClientSession(connector=connector) as client:
            with watch:
                await asyncio.gather(*(work(client, numbers) for _ in range(at_once)))

    asyncio.run(main())
    if (count := next(answered)) != calls:
        raise SystemExit(f"{count} of {calls} calls were answered: no figure.")
    return watch.total


def go(program: Path, variables: dict[str, str], url: str, calls: int, at_once: int) -> Figures:
    """Make the calls in Go."""
    command = [str(program), "-url", url, "-calls", str(calls), "-at-once", str(at_once)]
    run = subprocess.run(command, env=os.environ | variables, stdout=subprocess.PIPE, check=True)
    figures = json.loads(run.stdout)
    if figures["answered"] != calls:
        raise SystemExit(f"{figures['answered']} of {calls} calls were answered: no figure.")
    return Figures(figures["seconds"], figures["cpu_seconds"])


@contextmanager
def go_program() -> Iterator[Path | None]:
    """Build the program in Go; yield where it is, or ``None`` where there is no Go."""
    if (compiler := shutil.which("go")) is None:
        print("There is no go on the path: the program in Go is left out.")
        yield None
        return
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory) / "million_calls"
        subprocess.run([compiler, "build", "-o", program, GO_SOURCE], check=True)
        print(subprocess.run([compiler, "version"], capture_output=True, text=True).stdout.strip())
        yield program


@contextmanager
def rows(calls: int) -> Iterator[None]:
    """Have a CSV of *calls* rows in a bucket that the environment names."""
    import boto3

    with ministack() as endpoint:
        os.environ["AWS_ENDPOINT_URL_S3"] = endpoint
        os.environ["MILLION_BUCKET"] = BUCKET
        s3 = boto3.client("s3", region_name=REGION)
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        lines = ["path\n", *(f"/members/{number}\n" for number in range(1, calls + 1))]
        s3.put_object(Bucket=BUCKET, Key=KEY, Body="".join(lines).encode())
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=50_000)
    parser.add_argument("--at-once", type=int, nargs="+", default=[100, 300])
    parser.add_argument("--runs", type=int, default=3)
    add_log_level(parser)
    options = parser.parse_args()
    begin()
    set_log_level(options.loglevel)
    with ExitStack() as stack:
        program = stack.enter_context(go_program())
        url = stack.enter_context(stand_ins.http(SERVICE_SECONDS))
        stack.enter_context(rows(options.calls))
        ways: dict[str, Any] = {
            "plain aiohttp": partial(in_fresh_process, plain),
            "our task": partial(in_fresh_process, task),
        }
        if program is not None:
            ways["Go"] = partial(go, program, {})
            ways["Go, one core"] = partial(go, program, {"GOMAXPROCS": "1"})
        for at_once in options.at_once:
            report(ways, url, at_once, options)


def report(ways: dict[str, Any], url: str, at_once: int, options: argparse.Namespace) -> None:
    runs: dict[str, list[Figures]] = {name: [] for name in ways}
    for _ in range(options.runs):  # in turn: the machine's speed changes
        for name, way in ways.items():
            runs[name].append(way(url, options.calls, at_once))
    ideal = options.calls * SERVICE_SECONDS / at_once
    print(
        f"\n{options.calls:,} calls of {SERVICE_SECONDS * 1000:.0f} ms, {at_once} at a time: "
        f"{ideal:.1f} s if a call took nothing else; medians of {options.runs}, "
        f"fastest-slowest; load {os.getloadavg()[0]:.1f}"
    )
    print(f"{'':15}{'seconds':>9}{'':15}{'calls a second':>14}{'CPU ms a call':>15}")
    for name, of_way in runs.items():
        seconds = sorted(each.seconds for each in of_way)
        cpu = statistics.median(each.cpu_seconds for each in of_way) / options.calls
        median = statistics.median(seconds)
        spread = f"{seconds[0]:.2f}-{seconds[-1]:.2f}"
        print(
            f"{name:15}{median:9.2f}{spread:>15}{options.calls / median:14,.0f}{cpu * 1000:15.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
