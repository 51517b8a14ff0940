"""The serverless.yml of the page says what the definition makes of the stanza on the page."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

from lambda_celery.infrastructure.inputs import Deployment
from lambda_celery.infrastructure.resources import resources

PAGE = (Path(__file__).parents[2] / "docs" / "serverless.md").read_text()
#: osls and Lift make these themselves, of ``functions`` and of ``constructs``.
OF_THE_FUNCTION = {
    "Function", "FunctionAlias", "FunctionLogGroup", "FunctionCeleryMessages", "FunctionRole",
    "FunctionVersion",
}  # fmt: skip
#: The page says so.
LEFT_OUT = {
    "Dashboard", "DurationAlarm", "ErrorsAlarm", "ThrottlesAlarm",
    "IdempotencyReadThrottlesAlarm", "IdempotencyWriteThrottlesAlarm",
}  # fmt: skip


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    [stanza] = blocks("toml")
    return resources(Deployment.parse(tomllib.loads(stanza)["tool"]["lambda-celery"])).resources


@pytest.fixture(scope="module")
def service() -> dict[str, Any]:
    return yaml_parse(blocks("yaml")[0])


@pytest.fixture(scope="module")
def lift() -> dict[str, Any]:
    return yaml_parse(blocks("yaml")[1])["constructs"]["celery"]


def test_the_resources_are_the_definitions(service, made):
    written = service["resources"]["Resources"]

    assert written.keys() == made.keys() - OF_THE_FUNCTION - LEFT_OUT
    for name, resource in written.items():
        assert resource == {k: each for k, each in made[name].items() if k != "Metadata"}, name


def test_the_function_and_its_mapping_have_the_definitions_figures(service, made):
    function, mapping = (
        made[name]["Properties"] for name in ("Function", "FunctionCeleryMessages")
    )
    written = service["functions"]["celery"]
    [event] = written["events"]
    extensions = service["resources"]["extensions"]

    assert event["sqs"] == {
        "arn": mapping["EventSourceArn"],
        "batchSize": mapping["BatchSize"],
        "maximumBatchingWindow": mapping["MaximumBatchingWindowInSeconds"],
        "functionResponseType": "ReportBatchItemFailures",
        "maximumConcurrency": mapping["ScalingConfig"]["MaximumConcurrency"],
    }
    assert mapping["FunctionResponseTypes"] == [event["sqs"]["functionResponseType"]]
    assert written["name"] == function["FunctionName"]
    assert written["handler"] == function["Handler"]
    assert written["timeout"] == function["Timeout"]
    assert written["memorySize"] == function["MemorySize"]
    assert written["environment"] == function["Environment"]["Variables"]
    assert service["provider"]["runtime"] == function["Runtime"]
    assert [service["provider"]["architecture"]] == function["Architectures"]
    assert (
        service["provider"]["logRetentionInDays"]
        == (made["FunctionLogGroup"]["Properties"]["RetentionInDays"])
    )
    # osls names the resources that it makes by the function's key and the queue's logical id.
    assert extensions == {
        "CeleryLambdaFunction": {"Properties": {"RecursiveLoop": function["RecursiveLoop"]}},
        "CeleryEventSourceMappingSQSCeleryQueue": {
            "Properties": {"MetricsConfig": mapping["MetricsConfig"]}
        },
    }


def test_the_function_may_do_what_the_definition_allows(service, made):
    [policy] = made["FunctionRole"]["Properties"]["Policies"]
    allowed = policy["PolicyDocument"]["Statement"]

    # What the log needs is osls' own.
    assert service["provider"]["iam"]["role"]["statements"] == [
        each for each in allowed if each["Sid"] != "Log"
    ]


def test_the_outputs_have_the_definitions_values(service):
    [stanza] = blocks("toml")
    deployment = Deployment.parse(tomllib.loads(stanza)["tool"]["lambda-celery"])
    outputs = {name: each["Value"] for name, each in resources(deployment).outputs.items()}
    written = service["resources"]["Outputs"]

    assert {name: each["Value"] for name, each in written.items()}.items() <= outputs.items()
    # osls itself tells the function's name.
    assert outputs.keys() - written.keys() == {"FunctionName"}


def test_lift_is_given_the_same_figures(lift, service, made):
    queue, mapping = (made[name] for name in ("CeleryQueue", "FunctionCeleryMessages"))
    function = service["functions"]["celery"]
    of_lifts_own = {
        "LAMBDA_CELERY_QUEUE_URL": "${construct:celery.queueUrl}",
        "LAMBDA_CELERY_DEAD_LETTER_QUEUE_URL": "${construct:celery.dlqUrl}",
    }
    kept = {key: queue[key] for key in ("DeletionPolicy", "UpdateReplacePolicy")}

    assert lift["maxRetries"] == queue["Properties"]["RedrivePolicy"]["maxReceiveCount"]
    assert lift["batchSize"] == mapping["Properties"]["BatchSize"]
    assert lift["maxBatchingWindow"] == mapping["Properties"]["MaximumBatchingWindowInSeconds"]
    assert lift["maxConcurrency"] == mapping["Properties"]["ScalingConfig"]["MaximumConcurrency"]
    assert lift["worker"] == {
        **{key: function[key] for key in ("handler", "memorySize", "timeout")},
        "environment": function["environment"] | of_lifts_own,
    }
    retention = {"MessageRetentionPeriod": queue["Properties"]["MessageRetentionPeriod"]}
    assert lift["extensions"] == {"queue": kept | {"Properties": retention}, "dlq": kept}
