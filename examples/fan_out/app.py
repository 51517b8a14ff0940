"""The app, and its main loop: one turn after another, and gathered."""

import os
import random
import time
from collections.abc import Iterable, Sequence
from typing import Any

from celery import Celery

from examples.kit.runs import noted
from lambda_celery import install
from lambda_celery.invoke import gather
from lambda_celery.invoke.gathering import Progress

#: How long a turn takes, most of which it waits for somebody else.
TURN_SECONDS = float(os.environ.get("FAN_OUT_TURN_SECONDS", "1"))
SAMPLES = 10_000

app = Celery("fan_out")
app.conf.update(
    lambda_tasks=["*"],
    lambda_queue_url="https://sqs.eu-central-1.amazonaws.com/000000000000/fan-out",
    lambda_idempotency_table="fan-out",
    lambda_function="lambda-celery-local",
    task_ignore_result=True,
)
install(app)


@app.task(name="turn", bind=True)
def turn(self: Any, batch: int) -> int:
    """Return how many of the batch's points are in the circle."""
    with noted(batch, self.request.id):
        time.sleep(TURN_SECONDS)
        return inside(batch)


def inside(batch: int) -> int:
    """Return how many of the points that *batch* draws are in the circle."""
    drawn = random.Random(batch)
    return sum(drawn.random() ** 2 + drawn.random() ** 2 < 1 for _ in range(SAMPLES))


def one_after_another(batches: Iterable[int]) -> list[int]:
    """Run the loop as it was: each turn waits for the one before."""
    return [turn.apply(args=(batch,)).get() for batch in batches]


def gathered(
    batches: Iterable[int], max_connections: int, progress: Progress | None = None
) -> list[Any]:
    """Run the loop on the function, up to *max_connections* turns at a time.

    What a turn raised stands in the place of its result.
    """
    return gather(
        (turn.s(batch) for batch in batches),
        max_connections=max_connections, return_exceptions=True, progress=progress,
    )  # fmt: skip


def pi(counts: Sequence[int]) -> float:
    """Return what the *counts* of all batches say of π."""
    return 4 * sum(counts) / (len(counts) * SAMPLES)
