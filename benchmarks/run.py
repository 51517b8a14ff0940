"""Running a batch: tasks that wait, several at a time in one environment.

    python benchmarks/run.py --records 1000 --seconds 0.05 --concurrency 1 10 100

The handler is called in this process with one batch of messages whose task sleeps. The
idempotency table is on the emulator (ministack, a process of its own on the same machine), so
its speed is part of every figure. The peer is Powertools by hand, as its documentation shows:
BatchProcessor with ``idempotent_function``, which runs one record after the other.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import platform
import statistics
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from celery import Celery

from lambda_celery import aws, install
from lambda_celery.conf import Settings
from lambda_celery.local.emulator import ministack
from lambda_celery.local.provision import provision
from lambda_celery.publisher import OutgoingMessage, Publisher
from lambda_runtime import make_handler

ARN = "arn:aws:sqs:eu-west-1:000000000000:bench"
FUNCTION_SECONDS = 900


@dataclass
class Context:
    """What a Lambda context has to offer."""

    ends_at: float
    aws_request_id: str = "benchmark"

    def get_remaining_time_in_millis(self) -> int:
        return int((self.ends_at - time.time()) * 1000)


def make_app(settings: Settings, concurrency: int, seconds: float) -> Celery:
    app = Celery("bench", broker="memory://", set_as_current=True)
    app.conf.update(
        lambda_tasks=["*"],
        lambda_queue_url=settings.queue_url,
        lambda_dead_letter_queue_url=settings.dead_letter_queue_url,
        lambda_max_receive_count=5,
        lambda_idempotency_table=settings.idempotency_table,
        lambda_idempotency_ttl_seconds=3600,
        lambda_endpoint_url=settings.endpoint_url,
        lambda_region=settings.region,
        lambda_concurrency=concurrency,
        task_ignore_result=True,
        worker_hijack_root_logger=False,
    )
    install(app)

    @app.task(name="bench.wait", shared=False)
    def wait(_n: int) -> None:
        time.sleep(seconds)

    return app


def event(app: Celery, count: int) -> dict[str, Any]:
    """Return a batch of *count* messages, published by the app and caught before they leave."""
    bodies: list[str] = []

    def catch(_publisher: Publisher, _url: str, message: OutgoingMessage, *_: Any) -> None:
        bodies.append(message.body)

    send, Publisher.send = Publisher.send, catch  # type: ignore[method-assign]
    try:
        for n in range(count):
            app.tasks["bench.wait"].delay(n)
    finally:
        Publisher.send = send  # type: ignore[method-assign]
    return {"Records": [record(body) for body in bodies]}


def record(body: str) -> dict[str, Any]:
    return {
        "messageId": str(uuid.uuid4()),
        "receiptHandle": "none",
        "body": body,
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "0"},
        "messageAttributes": {},
        "eventSourceARN": ARN,
        "eventSource": "aws:sqs",
    }


def by_hand(settings: Settings, seconds: float) -> Callable[[dict[str, Any], Any], Any]:
    """Return what Powertools' documentation shows for SQS batches that run once."""
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

    layer = DynamoDBPersistenceLayer(
        table_name=str(settings.idempotency_table), boto3_client=aws.client("dynamodb", settings)
    )
    config = IdempotencyConfig(event_key_jmespath="messageId")
    processor = BatchProcessor(event_type=EventType.SQS)

    @idempotent_function(data_keyword_argument="message", persistence_store=layer, config=config)
    def run(message: dict[str, Any]) -> None:
        envelope = json.loads(base64.b64decode(message["body"]))
        json.loads(base64.b64decode(envelope["body"]))
        time.sleep(seconds)

    def handler(event: dict[str, Any], context: Any) -> Any:
        config.register_lambda_context(context)
        return process_partial_response(
            event=event,
            record_handler=lambda record: run(message=record.raw_event),
            processor=processor,
            context=context,
        )

    return handler


def measure(handler: Callable[..., Any], batch: dict[str, Any]) -> tuple[float, float]:
    """Return seconds and CPU seconds of one invocation, all of whose tasks have succeeded."""
    started, cpu = time.perf_counter(), time.process_time()
    answer = handler(batch, Context(time.time() + FUNCTION_SECONDS))
    took, cpu = time.perf_counter() - started, time.process_time() - cpu
    if answer["batchItemFailures"]:
        raise SystemExit(f"{len(answer['batchItemFailures'])} tasks failed: no figure.")
    return took, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=0.05, help="what a task waits")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    print(f"python {' '.join(sys.argv)}")
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "test")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "test")
    os.environ["POWERTOOLS_LOG_LEVEL"] = os.environ["LOG_LEVEL"] = "WARNING"
    with ministack() as url:
        settings = Settings(
            queue_url=f"{url}/000000000000/bench",
            dead_letter_queue_url=f"{url}/000000000000/bench-dead-letters",
            idempotency_table="bench",
            endpoint_url=url,
            region="eu-west-1",
        )
        provision(settings, function_timeout_seconds=FUNCTION_SECONDS)
        app = make_app(settings, 1, options.seconds)
        report("by hand", by_hand(settings, options.seconds), app, 1, options)
        for concurrency in options.concurrency:
            handler_settings = replace(settings, concurrency=concurrency)
            app = make_app(handler_settings, concurrency, options.seconds)
            report(f"handler, {concurrency}", make_handler(app), app, concurrency, options)


def report(
    name: str,
    handler: Callable[..., Any],
    app: Celery,
    concurrency: int,
    options: argparse.Namespace,
) -> None:
    # One after the other is slow and steady: a tenth of the records says as much.
    count = options.records if concurrency > 1 else max(1, options.records // 10)
    runs = [measure(handler, event(app, count)) for _ in range(options.runs)]
    took = statistics.median(seconds for seconds, _ in runs)
    cpu = statistics.median(each for _, each in runs)
    ideal = count * options.seconds / concurrency
    print(
        f"{name:<14} {count:>6} tasks in {took:6.2f} s: {count / took:7.1f}/s, "
        f"{cpu / count * 1000:5.2f} ms of CPU each, ideal {ideal:.2f} s, {took / ideal:.2f} x"
    )


if __name__ == "__main__":
    main()
