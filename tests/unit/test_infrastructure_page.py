"""The stanzas of the page are taken, and make what the page says of them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from lambda_celery.infrastructure.computed import compute
from lambda_celery.infrastructure.inputs import Deployment
from lambda_celery.infrastructure.resources import resources, vpc_endpoints
from tests.infrastructure.lint import EXPLAINED

PAGE = (Path(__file__).parents[2] / "docs" / "infrastructure.md").read_text()
LEAST = {"app": "proj.celery:app", "name": "shop"}


def stanzas() -> list[Deployment]:
    """Return what each block says, which need not name app and name."""
    found = []
    for block in re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        text = block if "[tool.lambda-celery" in block else f"[tool.lambda-celery]\n{block}"
        found.append(Deployment.parse(LEAST | tomllib.loads(text)["tool"]["lambda-celery"]))
    return found


def test_the_smallest_stanza_makes_what_the_table_says():
    smallest = stanzas()[0]
    [queue] = compute(smallest).queues.values()
    section = PAGE.partition("## The smallest stanza")[2].partition("## Write")[0]
    names = {
        each["Properties"][key]
        for each in resources(smallest).resources.values()
        for key in ("QueueName", "TableName", "FunctionName", "RoleName", "ManagedPolicyName")
        if isinstance(each["Properties"].get(key), str)
    }

    assert names == {
        "shop", "shop-celery", "shop-celery-dead-letters", "shop-idempotency", "shop-producer",
        "shop-caller", "shop-scheduler",
    }  # fmt: skip
    assert all(f"`{name}`" in section for name in names)
    assert f"a visibility time-out of {queue.visibility_timeout_seconds} s" in section
    assert f"objects expire after {compute(smallest).payload_days} days" in section
    assert f"{queue.batch_size} messages" in section
    assert f"{queue.maximum_concurrency} invocations at a time" in section
    assert f"{smallest.timeout} s, {smallest.memory_size:,} MB, {smallest.architecture}" in section


def test_several_queues_have_the_times_that_the_page_says():
    [several] = [
        each for each in stanzas() if "reports" in each.queues and each.queues["reports"].timeout
    ]
    one = compute(several)
    each = compute(Deployment.parse({**vars(several), "functions": "each"}))

    assert {q.visibility_timeout_seconds for q in one.queues.values()} == {5400}
    assert each.queues["mail"].visibility_timeout_seconds == 6 * 60
    assert {f.name for f in each.functions.values()} == {"shop-mail", "shop-reports"}


def test_the_endpoints_are_those_that_the_output_names():
    section = PAGE.partition("## A VPC")[2].partition("## A KMS key")[0]
    [in_vpc] = [each for each in stanzas() if each.vpc]

    assert tuple(re.findall(r"`com\.amazonaws\.REGION\.(\w+)`", section)) == vpc_endpoints(in_vpc)


def test_the_page_has_each_finding_that_stays():
    section = PAGE.partition("## What is checked")[2]
    explained = {check for reasons in EXPLAINED.values() for check in reasons}

    assert {*re.findall(r"CKV_AWS_\d+", section)} == explained
