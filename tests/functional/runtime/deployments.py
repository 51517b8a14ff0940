"""A function on the emulator that takes from a runtime's queue, and its figures in CloudWatch."""

from __future__ import annotations

import io
import json
import uuid
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from click.testing import CliRunner, Result

from lambda_celery.cli import lambda_command
from tests.emulated_aws import REGION


@dataclass
class Deployment:
    """A function that takes from the runtime's queue, by a mapping that is switched off."""

    runtime: Any
    name: str
    uuid: str

    def command(self, *arguments: str) -> Result:
        """Run ``celery -A proj lambda`` with the runtime's app."""
        return CliRunner().invoke(
            lambda_command, [*arguments], obj=SimpleNamespace(app=self.runtime.app)
        )

    def figures(self) -> dict[str, Any]:
        """Return what ``status --json`` prints."""
        done = self.command("status", "--json")
        assert done.exit_code == 0, done.output
        return dict(json.loads(done.output))

    def measure(
        self,
        namespace: str,
        dimension: str,
        metric: str,
        *by_minute: float,
        ago: int = 1,
        task: str | None = None,
    ) -> None:
        """Give CloudWatch the values of minutes, the latest last, which was *ago* minutes ago."""
        minute = datetime.now(UTC).replace(second=0, microsecond=0)
        name = self.name if dimension == "FunctionName" else self.queue_name
        of_task = [{"Name": "TaskName", "Value": task}] if task else []
        boto3.client("cloudwatch", region_name=REGION).put_metric_data(
            Namespace=namespace,
            MetricData=[
                {
                    "MetricName": metric,
                    "Dimensions": [{"Name": dimension, "Value": name}, *of_task],
                    "Timestamp": minute - timedelta(minutes=len(by_minute) - 1 - n + ago),
                    "Value": value,
                }
                for n, value in enumerate(by_minute)
            ],
        )

    def add_mapping(self) -> str:
        """Have an alias of the function take from the queue, too; return the mapping's UUID."""
        client = boto3.client("lambda", region_name=REGION)
        version = client.publish_version(FunctionName=self.name)["Version"]
        client.create_alias(FunctionName=self.name, Name="live", FunctionVersion=version)
        mapping = client.create_event_source_mapping(
            FunctionName=f"{self.name}:live", EventSourceArn=self.runtime.queue_arn, Enabled=False
        )
        return str(mapping["UUID"])

    def states(self) -> set[str]:
        """Return the states of the mappings."""
        return {each["state"] for each in self.figures()["queues"][0]["mappings"]}

    @property
    def queue_name(self) -> str:
        return str(self.runtime.settings.queue_url.rpartition("/")[2])


@pytest.fixture
def deployment(runtime: Any) -> Deployment:
    name = f"proj-{uuid.uuid4().hex[:12]}"
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("nothing.py", "")
    client = boto3.client("lambda", region_name=REGION)
    client.create_function(
        FunctionName=name,
        Runtime="python3.13",
        Role="arn:aws:iam::000000000000:role/function",
        Handler="lambda_runtime.handler",
        Code={"ZipFile": code.getvalue()},
        MemorySize=1024,
        Architectures=["arm64"],
    )
    mapping = client.create_event_source_mapping(
        FunctionName=name,
        EventSourceArn=runtime.queue_arn,
        Enabled=False,
        ScalingConfig={"MaximumConcurrency": 10},
    )
    return Deployment(runtime, name, mapping["UUID"])
