"""Where a demo runs: away from any real AWS account, with the function's output in a file."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

ROOT = Path(__file__).resolve().parents[2]
REGION = "eu-central-1"
ACCOUNT_ID = "000000000000"


def main(demo: Callable[[Console], int], log: Path) -> int:
    """Return the status of *demo*, which prints to the console that it is given.

    What the processes print that it starts goes to *log*. A run that is terminated unwinds like
    one that is interrupted, and leaves no child behind.
    """
    console = Console(file=os.fdopen(os.dup(sys.stdout.fileno()), "w"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with _output_of_children_to(log):
            return demo(console)
    except KeyboardInterrupt:
        console.print("Interrupted.")
        return 128 + signal.SIGINT


def set_environment(**variables: str) -> None:
    """Set *variables*, and none of AWS's or Lambda Celery's but these.

    A demo must never find a real AWS account, nor a real deployment's queue.
    """
    for name in list(os.environ):
        if name.startswith(("AWS_", "LAMBDA_CELERY_")):
            del os.environ[name]
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "demo",
        "AWS_SECRET_ACCESS_KEY": "demo",
        "AWS_REGION": REGION,
        **variables,
    }


@contextmanager
def _output_of_children_to(path: Path) -> Iterator[None]:
    kept = [os.dup(number) for number in (1, 2)]
    with path.open("wb") as log:
        for number in (1, 2):
            os.dup2(log.fileno(), number)
    try:
        yield
    finally:
        for number, original in zip((1, 2), kept, strict=True):
            os.dup2(original, number)
            os.close(original)
