"""A burst through the stack that each form of the definition makes.

Ministack's CloudFormation makes the stack, and its own event source mapping takes the messages to
the function, whose code it runs from the zip: neither is ours. The zip has this project's code and
the app's; what they require is that of the interpreter.
"""

from __future__ import annotations

import base64
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.waiter import WaiterModel, create_waiter_with_client

from lambda_celery.infrastructure.computed import compute
from lambda_celery.infrastructure.forms import cloudformation, sam
from lambda_celery.infrastructure.inputs import Deployment
from lambda_celery.packaging import archive
from tests.wheelhouse import this_project

MESSAGES = 50
APP = """
import os
from pathlib import Path

import lambda_celery
from celery import Celery

app = Celery("proj")
app.conf.lambda_tasks = ["*"]
lambda_celery.install(app)

@app.task
def note(text):
    Path(os.environ["NOTES"], text).touch(exist_ok=False)  # twice would be an error

@app.task(max_retries=0)
def fail():
    raise ValueError("no such member")
"""
PRODUCER = """
import sys
from proj import fail, note

queues = sys.argv[2:]
sent = [note.apply_async((f"{q}-{n}",), queue=q) for n in range(int(sys.argv[1])) for q in queues]
failed = fail.apply_async(queue=queues[0])
for each in sent:
    each.get(timeout=60)
failed.get(timeout=60, propagate=False)
print(failed.state, failed.id)
"""

#: Makes of a deployment and the place of its zip in S3 a template and its parameters.
Form = Callable[[Deployment, str, str], tuple[dict[str, Any], dict[str, str]]]


def of_cloudformation(
    deployment: Deployment, bucket: str, key: str
) -> tuple[dict[str, Any], dict[str, str]]:
    return cloudformation.document(deployment), {"CodeBucket": bucket, "CodeKey": key}


def of_sam(deployment: Deployment, bucket: str, key: str) -> tuple[dict[str, Any], dict[str, str]]:
    """As ``sam package`` leaves it; CloudFormation applies the transform."""
    template = sam.document(deployment)
    for each in template["Resources"].values():
        if each["Type"] == "AWS::Serverless::Function":
            each["Properties"]["CodeUri"] = f"s3://{bucket}/{key}"
    return template, {}


def of_cdk(deployment: Deployment, bucket: str, key: str) -> tuple[dict[str, Any], dict[str, str]]:
    """As ``cdk synth`` leaves it, without the parameter by which CDK looks at its bootstrapping."""
    from aws_cdk import App, DefaultStackSynthesizer, Stack, aws_lambda, aws_s3

    from lambda_celery.infrastructure.cdk import LambdaCelery

    app = App(analytics_reporting=False)
    synthesizer = DefaultStackSynthesizer(generate_bootstrap_version_rule=False)
    stack = Stack(app, deployment.name, synthesizer=synthesizer)
    code = aws_lambda.Code.from_bucket(aws_s3.Bucket.from_bucket_name(stack, "Code", bucket), key)
    LambdaCelery(stack, "Celery", deployment=deployment, code=code)
    template: dict[str, Any] = app.synth().get_stack_by_name(deployment.name).template
    return template, {}


FORMS: dict[str, Form] = {"cloudformation": of_cloudformation, "sam": of_sam, "cdk": of_cdk}
INPUTS: dict[str, dict[str, Any]] = {
    "one queue": {},
    "a function for each queue": {
        "queues": {"mail": {}, "report": {"fifo": True}},
        "functions": "each",
    },
}


@pytest.fixture(scope="module")
def code(aws_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, Path]:
    """Put the zip into S3; return bucket, key, and the directory that was zipped."""
    house, directory = tmp_path_factory.mktemp("house"), tmp_path_factory.mktemp("code")
    this_project(house)
    [wheel] = house.iterdir()
    shutil.unpack_archive(wheel, directory, "zip")
    (directory / "proj.py").write_text(APP)
    zipped = house / "lambda.zip"
    archive.write(directory, zipped)
    bucket = f"code-{uuid.uuid4().hex[:12]}"
    s3 = boto3.client("s3")
    s3.create_bucket(
        Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": s3.meta.region_name}
    )
    s3.upload_file(str(zipped), bucket, "lambda.zip")
    return bucket, "lambda.zip", directory


@pytest.fixture(params=INPUTS.values(), ids=INPUTS)
def deployment(request: pytest.FixtureRequest, tmp_path: Path) -> Deployment:
    machine = platform.machine()
    return Deployment.parse(
        {
            "app": "proj:app",
            "name": f"s{uuid.uuid4().hex[:12]}",
            "runtime": f"python3.{sys.version_info[1]}",
            "architecture": {"aarch64": "arm64"}.get(machine, machine),
            "maximum_concurrency": 2,
            "results": True,
            "environment": {"NOTES": str(tmp_path)},
            **request.param,
        }
    )


@pytest.fixture(params=FORMS.values(), ids=FORMS)
def outputs(
    request: pytest.FixtureRequest, deployment: Deployment, code: tuple[str, str, Path]
) -> Iterator[list[dict[str, str]]]:
    """The outputs of the deployment's stack, which goes at the test's end with its mappings."""
    bucket, key, _ = code
    template, parameters = request.param(deployment, bucket, key)
    stacks = boto3.client("cloudformation")
    stacks.create_stack(
        StackName=deployment.name,
        TemplateBody=json.dumps(template),
        Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()],
        Capabilities=["CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
    )
    waiting = {"StackName": deployment.name, "WaiterConfig": {"Delay": 1, "MaxAttempts": 60}}
    try:
        stacks.get_waiter("stack_create_complete").wait(**waiting)
        [stack] = stacks.describe_stacks(StackName=deployment.name)["Stacks"]
        yield stack["Outputs"]
    finally:
        stacks.delete_stack(StackName=deployment.name)
        stacks.get_waiter("stack_delete_complete").wait(**waiting)


def producer_settings(outputs: list[dict[str, str]]) -> dict[str, str]:
    """Return the variables that the outputs say are a producer's."""
    found = {}
    for each in outputs:
        if name := re.search(r"\b([A-Z]+(?:_[A-Z]+)+) of ", each["Description"]):
            found[name[1]] = each["OutputValue"]
    return found


def wait_until_empty(queue_url: str) -> None:
    counts = " || ".join(
        f"Attributes.ApproximateNumberOfMessages{each} != '0'"
        for each in ("", "NotVisible", "Delayed")
    )
    empty = {"state": "success", "matcher": "path", "argument": counts, "expected": False}
    config = {"operation": "GetQueueAttributes", "delay": 0.1, "maxAttempts": 300}
    model = WaiterModel({"version": 2, "waiters": {"Empty": config | {"acceptors": [empty]}}})
    waiter = create_waiter_with_client("Empty", model, boto3.client("sqs"))
    waiter.wait(QueueUrl=queue_url, AttributeNames=["All"])


def parked_on(queue_url: str, wait_seconds: int) -> list[dict[str, Any]]:
    answer = boto3.client("sqs").receive_message(
        QueueUrl=queue_url,
        MaxNumberOfMessages=10,
        MessageAttributeNames=["All"],
        WaitTimeSeconds=wait_seconds,
    )
    return list(answer.get("Messages", []))


def test_burst_runs_through_the_stack(outputs, deployment, code, tmp_path):
    # Given: what the stack should have, by the inputs
    queues = compute(deployment).queues
    sqs = boto3.client("sqs")
    urls, dead_letter_urls = (
        [sqs.get_queue_url(QueueName=getattr(each, name))["QueueUrl"] for each in queues.values()]
        for name in ("name", "dead_letter_queue_name")
    )
    *_, directory = code

    # When: a producer that knows nothing but the outputs calls tasks, and waits for their results
    done = subprocess.run(
        [sys.executable, "-c", PRODUCER, str(MESSAGES // len(queues)), *queues],
        env=os.environ | {"PYTHONPATH": str(directory)} | producer_settings(outputs),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=120,
    )

    # Then: each call has run once, and is gone from its queue
    state, failed_id = done.stdout.split()
    assert state == "FAILURE"
    assert len(list(tmp_path.iterdir())) == MESSAGES
    for url in urls:
        wait_until_empty(url)

    # And: the one that failed is the only one that is parked, with the reason
    [message] = parked_on(dead_letter_urls[0], wait_seconds=20)
    assert json.loads(base64.b64decode(message["Body"]))["headers"]["id"] == failed_id
    assert {k: v["StringValue"] for k, v in message["MessageAttributes"].items()} == {
        "LambdaCeleryReason": "failed",
        "LambdaCeleryException": "ValueError: no such member",
        "LambdaCeleryReceiveCount": "1",
    }
    assert not any(parked_on(url, wait_seconds=0) for url in dead_letter_urls)
