"""Direct calls of a function, many at a time: gather, and aioboto3 as one writes it by hand.

    python benchmarks/gather.py

The function is a local stand-in for Lambda's Invoke, a process of its own, that answers after 50 ms
and after 1 s. The peer is ``asyncio.gather`` over one client of aioboto3, with a semaphore. It
wants a botocore of its own, so it runs in an environment of its own, which is made for the first
run (``.venv-peers``). Each run is a fresh process, gather's and the peer's by turns.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import stand_ins
from bench import begin, in_fresh_process, make_app, settings_at
from uv import find_uv_bin

PEERS = Path(__file__).parent / "peers"
ENVIRONMENT = Path(__file__).parents[1] / ".venv-peers"
OURS = "gather"
PEER = "aioboto3"


class Figures(NamedTuple):
    """What the calls took together."""

    seconds: float
    cpu_seconds: float


def gathered(url: str, calls: int, connections: int) -> Figures:
    from lambda_celery.invoke import gather

    app = make_app(settings_at(url, function="bench"))

    def work(_name: str, number: int) -> int:
        return number

    task = app.task(work, name="bench.work", shared=False)
    gather([task.s("warm", 0)])  # modules are loaded
    wall, cpu = time.perf_counter(), time.process_time()
    results = gather((task.s(f"batch-{n}", n) for n in range(calls)), max_connections=connections)
    figures = Figures(time.perf_counter() - wall, time.process_time() - cpu)
    check(results, calls)
    return figures


def ours(url: str, calls: int, connections: int) -> Figures:
    figures: Figures = in_fresh_process(gathered, url, calls, connections)
    return figures


def peer(url: str, calls: int, connections: int) -> Figures:
    made = subprocess.run(
        [
            ENVIRONMENT / "bin" / "python", PEERS / "gather_aioboto3.py", url,
            "--calls", str(calls), "--connections", str(connections),
        ],
        stdout=subprocess.PIPE,
        check=True,
    )  # fmt: skip
    told = json.loads(made.stdout)
    check(told["results"], calls)
    return Figures(told["seconds"], told["cpu_seconds"])


def check(results: list[int], calls: int) -> None:
    if results != list(range(calls)):
        raise SystemExit("What came back is not what was called: no figure.")


WAYS: dict[str, Callable[[str, int, int], Figures]] = {OURS: ours, PEER: peer}


def make_environment() -> None:
    """Install the peer, if that is not done."""
    required, ready = PEERS / "requirements.txt", ENVIRONMENT / ".ready"
    if ready.exists() and ready.stat().st_mtime >= required.stat().st_mtime:
        return
    uv = find_uv_bin()
    subprocess.run(
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, ENVIRONMENT], check=True
    )
    subprocess.run(
        [
            uv, "pip", "install", "--quiet", "--python", ENVIRONMENT / "bin" / "python",
            "--requirement", required,
        ],
        check=True,
    )  # fmt: skip
    ready.touch()


def report(url: str, wait: float, connections: int, options: argparse.Namespace) -> float:
    """Print what each way takes with so many *connections*; return the first's calls a second."""
    calls = min(options.calls, max(1, round(options.at_most * connections / wait)))
    runs: dict[str, list[Figures]] = {name: [] for name in options.ways}
    for _ in range(options.runs):
        for name, of_way in runs.items():
            of_way.append(WAYS[name](url, calls, connections))
    rounds = -(-calls // connections)
    print(
        f"\n{calls:,} calls of {wait:g} s, {connections} at a time: {rounds * wait:.1f} s if a "
        f"call took nothing else; load {os.getloadavg()[0]:.1f}"
    )
    heads = f"{'seconds':>9}{'fastest-slowest':>18}{'calls a second':>16}{'CPU µs a call':>15}"
    print(f"{'':10}{heads}{'seconds / peer':>16}{'CPU / peer':>12}")
    medians = {
        name: Figures(*(statistics.median(each) for each in zip(*of_way, strict=True)))
        for name, of_way in runs.items()
    }
    against = medians.get(PEER)
    for name, (seconds, cpu_seconds) in medians.items():
        walls = [each.seconds for each in runs[name]]
        line = (
            f"{name:10}{seconds:9.2f}{f'{min(walls):.2f}-{max(walls):.2f}':>18}"
            f"{calls / seconds:16.0f}{cpu_seconds / calls * 1e6:15.0f}"
        )
        if against is not None:
            ratios = seconds / against.seconds, cpu_seconds / against.cpu_seconds
            line += f"{ratios[0]:16.2f}{ratios[1]:12.2f}"
        print(line, flush=True)
    return calls / medians[options.ways[0]].seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 10, 100, 200])
    parser.add_argument("--waits", type=float, nargs="+", default=[0.05, 1.0], help="seconds")
    parser.add_argument(
        "--at-most", type=float, default=5.0,
        help="seconds that a run is to take: the fewer calls it has (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    options = parser.parse_args()
    begin()
    if PEER in options.ways:
        make_environment()
    print(f"Medians of {options.runs} runs")
    for wait in options.waits:
        with stand_ins.function(wait) as url:
            rates = {
                connections: report(url, wait, connections, options)
                for connections in options.connections
            }
        if len(rates) > 1:
            fewest, most = min(rates), max(rates)
            print(
                f"\n1,000 calls of {wait:g} s by {options.ways[0]}: {1000 / rates[fewest]:,.1f} s "
                f"with {fewest}, {1000 / rates[most]:,.1f} s with {most}, scaled: "
                f"{rates[most] / rates[fewest]:.1f} x as fast"
            )


if __name__ == "__main__":
    main()
