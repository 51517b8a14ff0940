"""The emulated AWS that all tests of a session share, wherever they stand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

REGION = "eu-west-1"


def aws_environment(url: str) -> dict[str, str]:
    """Return the variables that point a process to the emulator at *url*."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
    }


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
