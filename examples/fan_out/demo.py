"""A main loop, one turn after another and gathered: the same results, many times as fast.

Real are: DynamoDB (ministack on loopback), Lambda's Invoke API with its concurrency limit, and the
Lambda runtime client (awslambdaric, a process for each environment). One process is killed on
purpose, and more connections are opened than the function has environments. It ends with a table,
and with status 1 where a promise did not hold.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from celery.exceptions import WorkerLostError
from rich.console import Console
from rich.progress import Progress

from examples.fan_out import app as loop
from examples.fan_out import troubled
from examples.fan_out.outcome import Loop, Outcome
from examples.fan_out.picture import draw
from examples.kit.runs import VARIABLE, RunLog
from examples.kit.surroundings import ROOT, main, set_environment
from examples.kit.table import show
from lambda_celery.conf import Settings
from lambda_celery.invoke import invoke
from lambda_celery.local.emulator import ministack
from lambda_celery.local.function import LocalFunction
from lambda_celery.local.invoke_api.server import serving
from lambda_celery.local.provision import provision

HERE = Path(__file__).resolve().parent
TIMEOUT_SECONDS = 60
#: Of the loop as it was, enough to tell how fast it is.
SERIAL_BATCHES = 5
#: Connections beyond the environments: what Lambda refuses comes again.
CROWD = 4


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fan_out", description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=200, help="(%(default)s)")
    parser.add_argument("--turn", type=float, default=1.0, help="seconds a turn (%(default)s)")
    parser.add_argument(
        "--environments", type=int, default=20, help="of the function (%(default)s)"
    )
    parser.add_argument("--picture", type=Path, default=HERE / "turns.png")
    parser.add_argument("--log", type=Path, default=HERE / "function.log")
    options = parser.parse_args()
    if options.batches < 2 * SERIAL_BATCHES:
        parser.error(
            f"--batches must be {2 * SERIAL_BATCHES} or more, to have room for the trouble"
        )
    return options


def demo(options: argparse.Namespace, console: Console) -> int:
    """Run everything; return the status."""
    loop.TURN_SECONDS = options.turn
    fatal = options.batches // 2
    with ExitStack() as stack:
        console.print("Starting an emulated AWS …")
        runs = RunLog(Path(stack.enter_context(TemporaryDirectory())))
        deaths = stack.enter_context(TemporaryDirectory())
        set_environment(
            LAMBDA_CELERY_ENDPOINT_URL=stack.enter_context(ministack()),
            LAMBDA_CELERY_APP=f"{troubled.__name__}:app",
            FAN_OUT_TURN_SECONDS=str(options.turn),
        )
        provision(Settings.from_app(loop.app), function_timeout_seconds=TIMEOUT_SECONDS)
        function = stack.enter_context(
            LocalFunction(
                timeout_seconds=TIMEOUT_SECONDS,
                maximum_concurrency=options.environments,
                working_directory=ROOT,
                environment={
                    VARIABLE: str(runs.directory),
                    troubled.VARIABLE: deaths,
                    troubled.BATCH_VARIABLE: str(fatal),
                },
            )
        )
        os.environ["AWS_ENDPOINT_URL_LAMBDA"] = stack.enter_context(serving(function))

        console.print(f"Running {SERIAL_BATCHES} turns one after another …")
        _, serial = timed(loop.one_after_another, range(SERIAL_BATCHES))
        loops = [Loop(0, SERIAL_BATCHES, serial)]
        console.print(f"Starting {options.environments} environments …")
        warm_up(options)
        runs.forget()

        console.print("The whole loop, gathered, with a process that is killed:")
        results = gathered(options, options.environments, console)
        lost = [n for n, each in enumerate(results) if isinstance(each, WorkerLostError)]
        for batch in lost:  # whoever calls decides what to do about it
            results[batch] = invoke(loop.turn.s(batch))
        noted = runs.read()

        warm_up(options)
        for connections in (
            options.environments // 2, options.environments, CROWD * options.environments,
        ):  # fmt: skip
            console.print(f"The whole loop, with {connections} connections:")
            _, seconds = timed(gathered, options, connections, console)
            loops.append(Loop(connections, options.batches, seconds))
    outcome = Outcome(
        batches=options.batches,
        environments=options.environments,
        loops=loops,
        expected=[loop.inside(batch) for batch in range(options.batches)],
        counts=results,
        lost=lost,
        killed=fatal,
        runs=noted,
    )
    status = show("What became of the loop", outcome.rows(), console)
    console.print(f"π is about {loop.pi(results):.4f}.")
    draw(noted, loops, options.picture)
    console.print(f"The turns over time: {options.picture}", soft_wrap=True)
    console.print(f"What the function logged: {options.log}", soft_wrap=True)
    return status


def gathered(options: argparse.Namespace, connections: int, console: Console) -> list[Any]:
    """Run the whole loop, with a progress bar."""
    with Progress(console=console) as bar:
        shown = bar.add_task("turns", total=options.batches)
        return loop.gathered(
            range(options.batches), connections, lambda done, _: bar.update(shown, completed=done)
        )


def warm_up(options: argparse.Namespace) -> None:
    """Have all environments started: what follows measures none of that."""
    loop.gathered(range(-options.environments, 0), options.environments)


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """Return what *function* returns, and the seconds that it took."""
    began = time.perf_counter()
    return function(*arguments), time.perf_counter() - began


if __name__ == "__main__":
    options = parse_arguments()
    sys.exit(main(partial(demo, options), options.log))
