"""The app that workers and the function run in benchmarks: tasks that wait, as for a mail server.

What it needs to know is in the variables that :func:`bench.app_environment` returns. ``app`` is
for the function; ``workers`` is Celery as it comes, and runs the same messages.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench import POLLING_VARIABLE, QUEUE_URL_VARIABLE, REGION, RUNS_VARIABLE, WAIT_VARIABLE, RunLog
from celery import Celery

from lambda_celery import install

log = RunLog(Path(os.environ[RUNS_VARIABLE]))
wait_seconds = float(os.environ[WAIT_VARIABLE])
queue_url = os.environ[QUEUE_URL_VARIABLE]

app = Celery("mail", broker="memory://localhost")
app.conf.update(lambda_tasks=["*"], task_ignore_result=True)
install(app)

workers = Celery(
    "workers", broker=f"sqs://test:test@{urlsplit(queue_url).netloc}", set_as_current=False
)
workers.conf.update(
    task_ignore_result=True,
    broker_transport_options={
        "region": REGION,
        "is_secure": False,
        "predefined_queues": {"celery": {"url": queue_url}},
        "polling_interval": float(os.environ.get(POLLING_VARIABLE, 1)),
    },
)


def send(number: int) -> None:
    """Send a mail, as far as waiting goes."""
    time.sleep(wait_seconds)
    log.note(number)


app_send = app.task(send, name="mail.send", shared=False)
workers_send = workers.task(send, name="mail.send", shared=False)


@app.task(name="mail.send_or_fail", bind=True, shared=False)
def send_or_fail(self: Any, number: int, fails: bool) -> None:
    """Send a mail; if it *fails*, raise when the message is received for the first time."""
    time.sleep(wait_seconds)
    failed = fails and not self.request.delivery_info["redelivered"]
    log.note(number, succeeded=not failed)
    if failed:
        raise ConnectionError("The mail server is busy.")
