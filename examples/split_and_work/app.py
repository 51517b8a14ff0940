"""The app: one task splits a file into rows, another one works on a row."""

import json
import os
import time
from collections.abc import Iterator
from typing import Any

import boto3
from celery import Celery

from examples.kit.runs import noted
from lambda_celery import delay_many, install

QUEUES = "https://sqs.eu-central-1.amazonaws.com/000000000000"
#: How long a row takes.
WORK_SECONDS = float(os.environ.get("SPLIT_AND_WORK_SECONDS", "0.01"))

app = Celery("split_and_work")
app.conf.update(
    lambda_tasks=["*"],
    # A queue for each, so that each has a function of its own size and time-out.
    lambda_queues={"split": f"{QUEUES}/split", "work": f"{QUEUES}/work"},
    task_routes={"split": {"queue": "split"}, "work": {"queue": "work"}},
    lambda_idempotency_table="split-and-work",
    task_ignore_result=True,
)
install(app)


@app.task(name="split")
def split(bucket: str, key: str) -> None:
    """Call :func:`work` for each row of a file of JSON lines in S3.

    It may be killed at any row and run again: its second run makes the same calls, and each
    call runs once.
    """
    delay_many(work, ((row,) for row in rows_of(bucket, key)), ids=False)


@app.task(name="work", bind=True)
def work(self: Any, row: dict[str, Any]) -> None:
    """Work on one row: here, wait for a moment, and note it."""
    with noted(row["number"], self.request.id):
        time.sleep(WORK_SECONDS)


def rows_of(bucket: str, key: str) -> Iterator[dict[str, Any]]:
    """Yield the file's rows as they are read."""
    for line in boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].iter_lines():
        yield json.loads(line)
