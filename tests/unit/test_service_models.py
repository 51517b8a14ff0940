"""What template and definition say is what the APIs behind CloudFormation take, by their models."""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import botocore.session
import pytest

from lambda_celery.exceptions import ConfigurationError
from lambda_celery.infrastructure.inputs import Deployment, takes
from lambda_celery.infrastructure.resources import resources
from tests.sam import example, expanded_template
from tests.service_models import OPERATIONS, refusals
from tests.unit import test_infrastructure_resources as definition

#: What has to be changed together with an input, or the two would contradict each other.
FIFO = {"queues": {"celery": {"fifo": True}}}
TOGETHER: dict[tuple[str, Any], dict[str, Any]] = {
    ("dlq_message_retention_seconds", 60): {"message_retention_seconds": 60} | FIFO,
    # A standard queue's must be less than that of its dead-letter queue, which has no more.
    ("message_retention_seconds", 1_209_600): FIFO,
}
RUNTIMES_OF_BOTOCORE = (
    botocore.session.get_session().get_service_model("lambda").shape_for("Runtime").enum
)


def bounds() -> Iterator[dict[str, Any]]:
    """Yield each input with each value that is the least, the most, or one of few."""
    yield {}
    for each in fields(Deployment):
        words = takes(each)
        if whole := re.fullmatch(r"a whole number from (\d+) to (\d+)", words):
            values = [int(bound) for bound in whole.groups()]
        elif words == "true or false":
            values = [True, False]
        elif re.fullmatch(r"('[\w.]+'|\d+)( or ('[\w.]+'|\d+))+", words):
            values = [ast.literal_eval(value) for value in words.split(" or ")]
        else:
            continue
        if each.name == "runtime":  # an old botocore does not know the new ones
            values = [value for value in values if value in RUNTIMES_OF_BOTOCORE]
        for value in values:
            yield {each.name: value} | TOGETHER.get((each.name, value), {})


def test_each_kind_of_bound_is_found():
    named = {name for given in bounds() for name in given}
    assert named >= {"timeout", "batch_size", "results", "runtime", "log_retention_days"}


@pytest.mark.parametrize("given", list(bounds()), ids=str)
def test_aws_takes_what_the_template_says(given):
    made = resources(example(**given)).resources
    assert len({each["Type"] for each in made.values()} & OPERATIONS.keys()) >= 6
    assert refusals(made) == []


@pytest.mark.parametrize("inputs", definition.MATRIX.values(), ids=definition.MATRIX)
def test_aws_takes_what_the_definition_says(inputs):
    made = definition.resources(definition.deployment(**inputs)).resources
    assert len({each["Type"] for each in made.values()} & OPERATIONS.keys()) >= 6
    assert refusals(made) == []


@pytest.mark.parametrize("functions", ["one", "each"])
def test_aws_takes_the_longest_names(functions):
    queues = {"q" * 37: {}, "r" * 37: {"fifo": True}}
    inputs = {"name": "n" * 24, "queues": queues, "functions": functions}
    assert refusals(definition.resources(definition.deployment(**inputs)).resources) == []
    with pytest.raises(ConfigurationError, match="AWS takes 61 characters"):
        definition.deployment(**inputs | {"queues": {"r" * 38: {"fifo": True}}})


def test_aws_takes_what_sam_makes_of_the_template():
    assert refusals(expanded_template()["Resources"]) == []


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("CeleryQueue", {"VisibilityTimeout": 43_201}, "CeleryQueue.VisibilityTimeout is 43201"),
        ("CeleryQueue", {"MessageRetentionPeriod": 59}, "CeleryQueue.MessageRetentionPeriod is 59"),
        ("CeleryQueue", {"QueueName": "q" * 81}, "no name of a queue"),
        ("CeleryQueue", {"QueueName": "mail.queue"}, "no name of a queue"),
        ("CeleryQueue", {"FifoTopic": True}, "no attribute of a queue"),
        ("CeleryQueue", {"RedrivePolicy": {"maxReceiveCount": 0}}, "AWS takes 1 to 1000"),
        ("Function", {"MemorySize": 127}, "Function.MemorySize is 127"),
        ("Function", {"FunctionName": "f" * 65}, "The length of Function.FunctionName"),
        ("Function", {"Runtime": "python2.6"}, "Function.Runtime is 'python2.6'"),
        ("Function", {"Architectures": ["arm65"]}, "Function.Architectures[0] is 'arm65'"),
        ("Function", {"SnapStart": {"ApplyOn": "Always"}}, "Function.SnapStart.ApplyOn"),
        ("FunctionCeleryMessages", {"ScalingConfig": {"MaximumConcurrency": 1}}, "takes 2 to 1000"),
        (
            "FunctionCeleryMessages",
            {"BatchSize": 10_001},
            "FunctionCeleryMessages.BatchSize is 10001",
        ),
        (
            "FunctionCeleryMessages",
            {"FunctionResponseTypes": ["Report"]},
            "ReportBatchItemFailures",
        ),
        (
            "FunctionCeleryMessages",
            {"Batch": 1},
            "nothing that lambda:CreateEventSourceMapping takes",
        ),
        ("ScheduleGroup", {"Name": "mail queue"}, "ScheduleGroup.Name is 'mail queue'"),
        ("IdempotencyTable", {"BillingMode": "FREE"}, "IdempotencyTable.BillingMode is 'FREE'"),
        ("CeleryDeadLetterAlarm", {"Period": 0}, "CeleryDeadLetterAlarm.Period is 0"),
    ],
)
def test_what_aws_does_not_take_is_found(name, change, sentence):
    made = copy.deepcopy(resources(example()).resources)
    made[name].setdefault("Properties", {}).update(change)
    (found,) = refusals(made)
    assert sentence in found
