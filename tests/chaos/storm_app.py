"""The app of the storm: tasks that write down when they begin and when they are through."""

from __future__ import annotations

import os
import time

from celery import Celery

import lambda_celery

app = Celery("storm")
app.conf.update(lambda_tasks=["storm.*"], task_ignore_result=True)
lambda_celery.install(app)


def note(*words: object) -> None:
    """Append a line to the record, in one write: several processes do."""
    line = " ".join(map(str, (*words, os.getpid(), time.time())))
    file = os.open(os.environ["STORM_RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{line}\n".encode())
    finally:
        os.close(file)


@app.task(name="storm.send", bind=True, max_retries=None)
def send(self, number: int, kind: str, seconds: float) -> None:
    """Do what *kind* says: be fine, fail once, or kill the process."""
    note("begin", number)
    time.sleep(seconds)
    if kind == "killer":
        os._exit(9)
    if kind == "fails" and not os.path.exists(f"{os.environ['STORM_RECORD']}-{number}"):
        with open(f"{os.environ['STORM_RECORD']}-{number}", "w"):
            raise ConnectionError("451")
    note("end", number)
