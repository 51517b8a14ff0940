"""The emulated AWS that all tests of a session share, wherever they stand."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from typing import Any

import boto3
import pytest
from botocore.client import BaseClient

REGION = "eu-west-1"
_call = BaseClient._make_api_call


def aws_environment(url: str) -> dict[str, str]:
    """Return the variables that point a process to the emulator at *url*."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
    }


@cache
def own_client(service: str) -> Any:
    """Return the tests' own client for *service* of ``aws_endpoint``, for which that must be up.

    It is none of the project's clients, into which a test puts faults or which it watches. What a
    test puts around the calls of all clients does not reach it: a mapping that is shared by tests
    polls with it meanwhile, and what is raised there would end its thread. And it leaves no default
    session, with which the project would make clients anew.
    """
    made = boto3.session.Session().client(service)
    made._make_api_call = partial(_call, made)
    return made


@pytest.fixture(scope="session")
def aws_endpoint() -> Iterator[str]:
    """The URL of an emulator, to which the whole process's AWS environment points."""
    from lambda_celery.local.emulator import ministack

    with ministack() as url, pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
            patch.delenv(name, raising=False)
        for name, value in aws_environment(url).items():
            patch.setenv(name, value)
        # A unit test may have made a client that found no credentials.
        patch.setattr("lambda_celery.aws.clients._clients", {})
        yield url
