"""What ``--deployed`` expects is what the project and AWS say elsewhere."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import cfnlint
import pytest
from celery import Celery

from lambda_celery.check.deployed.deployment import Deployed
from lambda_celery.check.deployed.rules.queues import denies_plain_http
from lambda_celery.check.facts import Facts
from lambda_celery.check.model import Finding, Grade
from lambda_celery.check.report import FORMATS, Report, as_text
from lambda_celery.check.rules import registry
from lambda_celery.conf import Settings
from lambda_celery.exceptions import ConfigurationError
from lambda_celery.infrastructure.runtimes import ALL_RUNTIMES

ARN = "arn:aws:sqs:eu-west-1:000000000000:mail"
FINDING = Finding(
    "deployed-visibility",
    Grade.RED,
    "queue mail",
    "The queue hides a message for 30 s.",
    "AWS is wrong: raise it.",
    resource=ARN,
)


def test_the_ends_of_runtimes_are_those_that_cfn_lint_knows():
    path = Path(cfnlint.__file__).parent / "data/AdditionalSpecs/LmbdRuntimeLifecycle.json"
    known = json.loads(path.read_text())

    assert {name: date.fromisoformat(known[name]["deprecated"]) for name in ALL_RUNTIMES} == {
        name: each.deprecated_on for name, each in ALL_RUNTIMES.items()
    }


@pytest.mark.parametrize(
    ("statement", "denies"),
    [
        ({"Principal": "*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}, True),
        ({"Principal": {"AWS": "*"}, "Condition": {"Bool": {"aws:securetransport": False}}}, True),
        ({"Principal": "*", "Condition": {"Bool": {"aws:SecureTransport": ["false"]}}}, True),
        ({"Principal": "*", "Condition": {"Bool": {"aws:SecureTransport": "true"}}}, False),
        ({"Principal": "*"}, False),
        ({"Principal": {"AWS": "arn:aws:iam::000000000000:root"},
          "Condition": {"Bool": {"aws:SecureTransport": "false"}}}, False),
    ],
)  # fmt: skip
def test_a_policy_denies_everybody_plain_http_or_not(statement, denies):
    allowed = statement | {"Effect": "Allow"}

    assert denies_plain_http({"Statement": [statement | {"Effect": "Deny"}]}) is denies
    assert denies_plain_http({"Statement": statement | {"Effect": "Deny"}}) is denies
    assert not denies_plain_http({"Statement": [allowed]})


def test_each_report_names_the_resource():
    report = Report((FINDING,), {})

    assert ARN in as_text(report, is_coloured=False, width=100)
    assert json.loads(FORMATS["json"](report, registry))["findings"][0]["resource"] == ARN
    [run] = json.loads(FORMATS["sarif"](report, registry))["runs"]
    [location] = run["results"][0]["locations"]
    assert location["logicalLocations"] == [{"fullyQualifiedName": ARN, "kind": "resource"}]
    assert ARN in FORMATS["github"](report, registry)


def test_nothing_is_found_unless_it_is_asked_for(tmp_path):
    facts = Facts(Celery("proj", set_as_current=False), Settings(), tmp_path)
    rules = [each for each in registry if each.id.startswith("deployed-")]

    assert rules
    assert [finding for rule in rules for finding in rule.find(facts)] == []


def test_a_producer_role_must_be_an_arn(tmp_path):
    facts = Facts(Celery("proj", set_as_current=False), Settings(), tmp_path)

    with pytest.raises(ConfigurationError, match="must be the ARN of a role"):
        Deployed.of(facts, "web")
    with pytest.raises(ConfigurationError, match="--caller-role is 'web', but must be the ARN"):
        Deployed.of(facts, caller_role="web")


def test_a_caller_role_goes_with_a_function(tmp_path):
    facts = Facts(Celery("proj", set_as_current=False), Settings(), tmp_path)

    with pytest.raises(ConfigurationError, match="set lambda_function"):
        Deployed.of(facts, caller_role="arn:aws:iam::123456789012:role/web")
