"""The app: one task that waits for a service, as a coroutine and as an ordinary function."""

import asyncio
import time
from typing import Any

from celery import Celery

from examples.big_batch.service import WAIT_SECONDS, ServiceError, fate
from examples.kit.runs import noted
from lambda_celery import install

QUEUE = "https://sqs.eu-central-1.amazonaws.com/000000000000/big"

app = Celery("big_batch")
app.conf.update(
    lambda_tasks=["*"],
    lambda_queue_url=QUEUE,
    lambda_dead_letter_queue_url=f"{QUEUE}-dead-letters",
    lambda_idempotency_table="big",
    task_ignore_result=True,
)
install(app)


@app.task(bind=True, name="fetch")
async def fetch(self: Any, number: int) -> None:
    """Ask the service for *number*; many wait for it on one event loop."""
    with noted(number, self.request.id):
        await asyncio.sleep(WAIT_SECONDS)
        _answer(self, number)


@app.task(bind=True, name="pull")
def pull(self: Any, number: int) -> None:
    """Ask the service for *number*; each that waits for it has a thread."""
    with noted(number, self.request.id):
        time.sleep(WAIT_SECONDS)
        _answer(self, number)


def _answer(task: Any, number: int) -> None:
    """Take the service's answer, which is not always a good one."""
    request = task.request
    match fate(number):
        case "retries once" if not request.retries:
            # A new message, due in a second. The one that is running has done its part.
            raise task.retry(countdown=1)
        case "fails once" if not request.delivery_info["redelivered"]:
            raise ServiceError("Busy: try again.")
        case "fails always":
            raise ServiceError(f"There is no {number}.")
