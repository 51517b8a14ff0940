"""What holds for every test."""

from __future__ import annotations

import boto3
import pytest

from tests.emulated_aws import aws_endpoint  # noqa: F401 - a fixture


@pytest.fixture(autouse=True)
def no_default_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """``boto3.client`` keeps its session, with the credentials of the test that came first."""
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
