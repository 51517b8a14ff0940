"""Cold start: the handler's import and init against that of what it is built on.

    python benchmarks/cold_start.py --runs 11

The peer imports Celery with its tracer, boto3 with the clients that the first message needs
(SQS and DynamoDB), and Powertools' idempotency with its DynamoDB layer, and makes a tracer for
a task: what one would have to load to write this by hand. Both run in fresh processes, in
turn, and CPU seconds are compared, since a process that starts hardly waits.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections import Counter

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "LAMBDA_CELERY_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/123456789012/mail",
    "LAMBDA_CELERY_IDEMPOTENCY_TABLE": "idempotency",
}
REPORT = "\nimport time; print(time.process_time())"
APP = """
from celery import Celery
app = Celery("proj", broker="memory://")
"""
PROGRAMS = {
    "by hand": APP
    + """
import boto3, celery.app.trace, celery.worker.request
from aws_lambda_powertools.utilities.idempotency import DynamoDBPersistenceLayer
boto3.client("sqs")
DynamoDBPersistenceLayer(table_name="idempotency", boto3_client=boto3.client("dynamodb"))
app.loader.init_worker()
@app.task(name="proj.task")
def task(): pass
app.finalize()
celery.app.trace.build_tracer("proj.task", app.tasks["proj.task"], app=app)
""",
    "handler": APP
    + """
from lambda_runtime import make_handler
@app.task(name="proj.task")
def task(): pass
handler = make_handler(app)
""",
}
# The handler makes its SQS client when it first needs one; the peer has made it already.
PROGRAMS["handler, with its SQS client"] = (
    PROGRAMS["handler"]
    + """
from lambda_celery import aws
aws.client("sqs", handler.settings)
"""
)


def run(program: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *options, "-c", program + REPORT],
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )


def cpu_seconds(program: str) -> float:
    return float(run(program).stdout.splitlines()[-1])


def dearest_imports(program: str, count: int) -> list[tuple[str, float]]:
    """Return the packages whose modules took longest by themselves, with milliseconds."""
    spent: Counter[str] = Counter()
    for line in run(program, "-X", "importtime").stderr.splitlines():
        own, _, module = line.removeprefix("import time:").split("|")
        if own.strip().isdecimal():
            spent[".".join(module.strip().split(".")[:2])] += int(own)
    return [(name, microseconds / 1000) for name, microseconds in spent.most_common(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(options.runs):
        for name, program in PROGRAMS.items():
            seconds[name].append(cpu_seconds(program))
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    ratios = {name: each / medians["by hand"] for name, each in medians.items()}
    if options.json:
        print(json.dumps({"cpu_seconds": medians, "ratios": ratios}))
        return
    print(f"python {' '.join(sys.argv)}")
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for name, each in seconds.items():
        print(
            f"{name:<28} {medians[name]:.3f} s of CPU, {ratios[name]:.2f} x "
            f"({min(each):.3f} to {max(each):.3f}, {len(each)} runs)"
        )
    print("\nThe ten dearest packages of the handler, by their own time:")
    for name, milliseconds in dearest_imports(PROGRAMS["handler"], 10):
        print(f"  {milliseconds:6.1f} ms  {name}")


if __name__ == "__main__":
    main()
