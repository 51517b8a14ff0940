"""What the benchmarks have in common: the app, events, the log of what ran, the peer by hand."""

from __future__ import annotations

import argparse
import base64
import json
import os
import platform
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from multiprocessing import get_context
from pathlib import Path
from typing import IO, Any, NamedTuple

import boto3
from celery import Celery

from lambda_celery import delay_many, install
from lambda_celery.conf import CONF_PREFIX, ENV_PREFIX, Settings
from lambda_celery.publishing.held_messages import caught

REGION = "eu-west-1"
ACCOUNT_ID = "000000000000"
FUNCTION_SECONDS = 900
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": REGION,
}
#: Where the function takes its level from, and what it takes without it.
LOG_LEVEL_VARIABLE = "LOG_LEVEL"
DEFAULT_LOG_LEVEL = "INFO"

RUNS_VARIABLE = "BENCHMARK_RUNS"
WAIT_VARIABLE = "BENCHMARK_WAIT_SECONDS"
POLLING_VARIABLE = "BENCHMARK_POLLING_INTERVAL"
QUEUE_URL_VARIABLE = "LAMBDA_CELERY_QUEUE_URL"


def begin() -> None:
    """Print the command and the machine; keep real credentials out of it."""
    print(f"python {' '.join(sys.argv)}")
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        flush=True,
    )
    for name in list(os.environ):
        if name.startswith(("AWS_", ENV_PREFIX)) or name.endswith(LOG_LEVEL_VARIABLE):
            del os.environ[name]
    os.environ.update(ENVIRONMENT)


def add_log_level(parser: argparse.ArgumentParser) -> None:
    """Let *parser* take the level at which the function logs."""
    parser.add_argument(
        "--loglevel",
        default=DEFAULT_LOG_LEVEL,
        choices=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
        help="the function's (default: %(default)s, as without a setting: two lines a task)",
    )


def set_log_level(level: str) -> None:
    """Have functions that are started from now on, here or in a process, log at *level*."""
    os.environ[LOG_LEVEL_VARIABLE] = level


class Log:
    """What the function has logged."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def lines(self) -> int:
        """Return how many lines there are."""
        self._file.seek(0)
        return sum(1 for _ in self._file)


@contextmanager
def logged() -> Iterator[Log]:
    """Have standard output go to a file, which costs a system call a line as on Lambda.

    That of this process and of those that it starts.
    """
    with tempfile.TemporaryFile("a+b") as file:  # appended to, wherever it is read
        sys.stdout.flush()
        terminal = os.dup(1)
        os.dup2(file.fileno(), 1)
        try:
            yield Log(file)
        finally:
            sys.stdout.flush()
            os.dup2(terminal, 1)
            os.close(terminal)


def settings_at(url: str, **values: Any) -> Settings:
    """Return settings for a queue and a table at the endpoint *url* that need nothing looked up."""
    queue_url = f"{url}/{ACCOUNT_ID}/bench"
    chosen: dict[str, Any] = {
        "queue_url": queue_url,
        "dead_letter_queue_url": f"{queue_url}-dead-letters",
        "max_receive_count": 5,
        "idempotency_table": "bench",
        "idempotency_ttl_seconds": 3600,
        "endpoint_url": url,
        "region": REGION,
    }
    return Settings(**(chosen | values))


def app_environment(
    sqs_url: str, dynamodb_url: str, runs: Path, wait_seconds: float, **settings: object
) -> dict[str, str]:
    """Return the variables for :mod:`mail_app`: two endpoints, where it writes what has run."""
    queue_url = f"{sqs_url}/{ACCOUNT_ID}/mail"
    values: dict[str, object] = {
        "dead_letter_queue_url": f"{queue_url}-dead-letters",
        "max_receive_count": 5,
        "idempotency_table": "bench",
        "idempotency_ttl_seconds": 3600,
        "region": REGION,
        "app": "mail_app:app",
    }
    return {
        "AWS_ENDPOINT_URL_SQS": sqs_url,
        "AWS_ENDPOINT_URL_DYNAMODB": dynamodb_url,
        RUNS_VARIABLE: str(runs),
        WAIT_VARIABLE: str(wait_seconds),
        QUEUE_URL_VARIABLE: queue_url,
        **{
            f"{ENV_PREFIX}{name.upper()}": str(value) for name, value in (values | settings).items()
        },
    }


def make_app(settings: Settings) -> Celery:
    """Return an app all of whose tasks go to SQS, with *settings* as its configuration."""
    app = Celery("bench", broker="memory://localhost", set_as_current=True)
    app.conf.update(lambda_tasks=["*"], task_ignore_result=True)
    for each in fields(settings):
        if (value := getattr(settings, each.name)) and each.name != "tasks":
            app.conf[CONF_PREFIX + each.name] = value
    install(app)
    return app


@dataclass
class Context:
    """What a Lambda context has to offer."""

    ends_at: float
    aws_request_id: str = "benchmark"

    def get_remaining_time_in_millis(self) -> int:
        return int((self.ends_at - time.time()) * 1000)


def context() -> Context:
    """Return the context of an invocation that begins now."""
    return Context(time.time() + FUNCTION_SECONDS)


def event(task: Any, calls: Iterable[tuple[Any, ...]]) -> dict[str, Any]:
    """Return a batch of the messages that calling *task* sends, caught before they leave."""
    return {"Records": [record(body) for body in bodies(task, calls)]}


def bodies(task: Any, calls: Iterable[tuple[Any, ...]]) -> list[str]:
    """Return the bodies of the messages that calling *task* sends, caught before they leave."""
    with caught() as messages:
        delay_many(task, calls)
    return [each.message.body for each in messages]


def record(body: str) -> dict[str, Any]:
    """Return the record of a message with *body*, received for the first time."""
    return {
        "messageId": str(uuid.uuid4()),
        "receiptHandle": "none",
        "body": body,
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "0"},
        "messageAttributes": {},
        "eventSourceARN": f"arn:aws:sqs:{REGION}:{ACCOUNT_ID}:bench",
        "eventSource": "aws:sqs",
    }


def by_hand(settings: Settings, run: Callable[..., Any]) -> Callable[[dict[str, Any], Any], Any]:
    """Return what Powertools' documentation shows for SQS batches that run once.

    *run* gets the arguments of the message.
    """
    from aws_lambda_powertools.utilities.batch import (
        BatchProcessor,
        EventType,
        process_partial_response,
    )
    from aws_lambda_powertools.utilities.idempotency import (
        DynamoDBPersistenceLayer,
        IdempotencyConfig,
        idempotent_function,
    )

    client = boto3.client("dynamodb", endpoint_url=settings.endpoint_url, region_name=REGION)
    layer = DynamoDBPersistenceLayer(
        table_name=str(settings.idempotency_table), boto3_client=client
    )
    config = IdempotencyConfig(event_key_jmespath="messageId")
    processor = BatchProcessor(event_type=EventType.SQS)

    @idempotent_function(data_keyword_argument="message", persistence_store=layer, config=config)
    def run_once(message: dict[str, Any]) -> None:
        envelope = json.loads(base64.b64decode(message["body"]))
        args, kwargs, _embed = json.loads(base64.b64decode(envelope["body"]))
        run(*args, **kwargs)

    def handler(event: dict[str, Any], context: Any) -> Any:
        config.register_lambda_context(context)
        return process_partial_response(
            event=event,
            record_handler=lambda record: run_once(message=record.raw_event),
            processor=processor,
            context=context,
        )

    return handler


def in_fresh_process(function: Callable[..., Any], *args: Any) -> Any:
    """Return what *function*, of a module, returns in a process that has done nothing before."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        return executor.submit(function, *args).result()


class Run(NamedTuple):
    """One run of a task, which ended at a time (epoch seconds)."""

    number: int
    succeeded: bool
    ended: float


class RunLog:
    """What ran, in whichever processes: a file for each of them in one directory.

    A line is written by one system call when a run has ended; it costs a few microseconds.
    """

    _LINE = "%08d %d %017.6f\n"
    _LINE_BYTES = len(_LINE % (0, 0, 0.0))

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file = -1
        self._process_id = -1

    def note(self, number: int, *, succeeded: bool = True) -> None:
        """Write that the run of *number* ends now."""
        if self._process_id != os.getpid():  # not the file of the one that this was forked of
            path = self._directory / str(os.getpid())
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self._process_id = os.getpid()  # last, since other threads come by
        os.write(self._file, (self._LINE % (number, succeeded, time.time())).encode())

    def count(self) -> int:
        """Return how many runs there are so far."""
        sizes = (each.stat().st_size for each in self._directory.iterdir())
        return sum(size // self._LINE_BYTES for size in sizes)

    def processes(self) -> int:
        """Return how many processes have run something."""
        return len(list(self._directory.iterdir()))

    def read(self) -> list[Run]:
        """Return all runs, in the order in which they ended."""
        lines = [line.split() for each in self._directory.iterdir() for line in each.open()]
        runs = [Run(int(number), ok == "1", float(ended)) for number, ok, ended in lines]
        return sorted(runs, key=lambda run: run.ended)
