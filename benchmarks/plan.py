"""``lambda plan`` against the local runner: seconds predicted and seconds measured.

    python benchmarks/plan.py

Publishes sleeping tasks to an emulated SQS, and then lets the local event source mapping
run them in real awslambdaric processes. The local mapping has all its concurrency at once,
so the prediction is made without the ramp; the warm-up takes the cold starts out of it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from celery import Celery

from lambda_celery import install
from lambda_celery.aws import client
from lambda_celery.conf import Settings
from lambda_celery.local.emulator import ministack
from lambda_celery.local.event_source_mapping import EventSourceMapping, EventSourceMappingConfig
from lambda_celery.local.function import LocalFunction
from lambda_celery.local.provision import provision
from lambda_celery.plan.limits import Limits
from lambda_celery.plan.model import Burst, Function
from lambda_celery.plan.simulation import simulate

REGION = "eu-west-1"
TIMEOUT_SECONDS = 60

APP = """
import time
from celery import Celery

app = Celery("proj", broker="amqp://guest@127.0.0.1:1//")
app.conf.update(lambda_tasks=["*"], worker_hijack_root_logger=False)


@app.task(name="proj.nap", ignore_result=True)
def nap(seconds):
    time.sleep(seconds)
"""


@dataclass(frozen=True)
class Case:
    messages: int
    duration_seconds: float
    batch_size: int
    concurrency: int


CASES = [
    Case(messages=60, duration_seconds=0.2, batch_size=5, concurrency=2),
    Case(messages=60, duration_seconds=0.2, batch_size=5, concurrency=4),
    Case(messages=60, duration_seconds=0.2, batch_size=10, concurrency=4),
    Case(messages=200, duration_seconds=0.1, batch_size=10, concurrency=8),
]


def predicted_seconds(case: Case, overhead_seconds: float) -> float:
    """Return what the simulation says to *case*, with what a task takes besides sleeping."""
    drain = simulate(
        Burst(case.messages, case.duration_seconds + overhead_seconds),
        Function(batch_size=case.batch_size, timeout_seconds=TIMEOUT_SECONDS, cold_start_seconds=0),
        Limits(maximum_concurrency=case.concurrency, initial_concurrency=case.concurrency),
    )
    return drain.seconds


def measured_seconds(app: Celery, settings: Settings, directory: Path, case: Case) -> float:
    """Drain *case* in processes that are warm, and return how long that took."""
    environment = {
        **os.environ,
        "LAMBDA_CELERY_APP": "proj:app",
        "LAMBDA_CELERY_QUEUE_URL": str(settings.queue_url),
        "LAMBDA_CELERY_IDEMPOTENCY_TABLE": str(settings.idempotency_table),
        "LAMBDA_CELERY_ENDPOINT_URL": str(settings.endpoint_url),
        "LAMBDA_CELERY_REGION": REGION,
    }
    config = EventSourceMappingConfig(
        batch_size=case.batch_size, maximum_concurrency=case.concurrency
    )
    with LocalFunction(
        timeout_seconds=TIMEOUT_SECONDS,
        maximum_concurrency=case.concurrency,
        environment=environment,
        working_directory=directory,
    ) as function:

        def drain(messages: int, seconds: float) -> float:
            for _ in range(messages):
                app.send_task("proj.nap", (seconds,), ignore_result=True)
            mapping = EventSourceMapping(
                str(settings.queue_url), function, config, client("sqs", settings)
            )
            started = time.perf_counter()
            with mapping:
                mapping.wait_until_idle(600)
                return time.perf_counter() - started

        # Long enough that each batch finds the other processes busy, so that all of them start.
        drain(case.batch_size * case.concurrency, 0.5)
        return drain(case.messages, case.duration_seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--overhead",
        type=float,
        default=0.01,
        help="seconds that a task takes here besides sleeping (default: %(default)s)",
    )
    overhead_seconds = parser.parse_args().overhead
    with ministack() as url, tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "proj.py").write_text(APP)
        os.environ |= {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
        }
        settings = Settings(
            queue_url=f"{url}/000000000000/plan",
            idempotency_table="plan-idempotency",
            endpoint_url=url,
            region=REGION,
        )
        provision(settings, function_timeout_seconds=TIMEOUT_SECONDS)
        app = Celery("web", broker="amqp://guest@127.0.0.1:1//", set_as_current=True)
        app.conf.update(
            lambda_tasks=["*"],
            lambda_queue_url=settings.queue_url,
            lambda_endpoint_url=url,
            lambda_region=REGION,
        )
        install(app)
        print("messages  task s  batch  concurrency  predicted s  measured s")
        for case in CASES:
            measured = measured_seconds(app, settings, directory, case)
            print(
                f"{case.messages:8}  {case.duration_seconds:6.2f}  {case.batch_size:5}  "
                f"{case.concurrency:11}  {predicted_seconds(case, overhead_seconds):11.2f}  "
                f"{measured:10.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
