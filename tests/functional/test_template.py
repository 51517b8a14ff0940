"""The SAM template: its figures fit together, and a burst runs through what it creates.

Linting is ``make lint``'s. Here aws-sam-translator expands the template, offline, as
CloudFormation would. Ministack's CloudFormation drops TTL and S3 lifecycles, so these
are looked up in the expanded template.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from lambda_celery.local.event_source_mapping import EventSourceMapping, EventSourceMappingConfig
from lambda_celery.local.function import LocalFunction
from tests.sam import EXAMPLE, expanded_template

SECONDS_PER_DAY = 86_400


@pytest.fixture(scope="module")
def expanded() -> dict[str, Any]:
    return expanded_template()


def properties(template: dict[str, Any], name: str) -> dict[str, Any]:
    return template["Resources"][name]["Properties"]


@pytest.mark.parametrize("changes", [{}, {"timeout": 900}, {"timeout": 60, "batch_size": 11}])
def test_visibility_timeout_is_six_function_timeouts_and_the_window(changes):
    expanded = expanded_template(**changes)
    function = properties(expanded, "Function")
    mapping = properties(expanded, "FunctionCeleryMessages")
    queue = properties(expanded, "CeleryQueue")

    assert function["Timeout"] == changes.get("timeout", 30)
    assert queue["VisibilityTimeout"] == (
        6 * function["Timeout"] + mapping["MaximumBatchingWindowInSeconds"]
    )
    # AWS wants a window as soon as a batch may exceed 10.
    assert mapping["BatchSize"] <= 10 or mapping["MaximumBatchingWindowInSeconds"] >= 1


def test_retention_grows_from_the_queue_to_the_records(expanded):
    queue = properties(expanded, "CeleryQueue")["MessageRetentionPeriod"]
    dead_letters = properties(expanded, "CeleryDeadLetterQueue")["MessageRetentionPeriod"]
    variables = properties(expanded, "Function")["Environment"]["Variables"]
    [rule] = properties(expanded, "PayloadBucket")["LifecycleConfiguration"]["Rules"]

    # On the queue, parked, and on the queue again after a redrive.
    longest_life = queue + dead_letters + queue

    assert dead_letters > queue
    assert int(variables["LAMBDA_CELERY_IDEMPOTENCY_TTL_SECONDS"]) > longest_life
    assert rule["Status"] == "Enabled"
    assert rule["ExpirationInDays"] * SECONDS_PER_DAY > longest_life


def test_receives_of_the_queue_and_of_the_function_are_the_same(expanded):
    redrive = properties(expanded, "CeleryQueue")["RedrivePolicy"]
    variables = properties(expanded, "Function")["Environment"]["Variables"]

    assert redrive["maxReceiveCount"] >= 5
    assert redrive["maxReceiveCount"] == int(variables["LAMBDA_CELERY_MAX_RECEIVE_COUNT"])


def test_event_source_mapping_reports_failures_and_has_a_limit(expanded):
    mapping = properties(expanded, "FunctionCeleryMessages")

    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert int(mapping["ScalingConfig"]["MaximumConcurrency"]) >= 2
    # What is deployed anew is invoked, a parameter's new value too: no version has the old one.
    assert mapping["FunctionName"] == {"Ref": "Function"}
    assert not any("Version" in each["Type"] for each in expanded["Resources"].values())


def test_records_expire_and_messages_and_payloads_are_private(expanded):
    table = properties(expanded, "IdempotencyTable")
    bucket = properties(expanded, "PayloadBucket")
    [tls] = properties(expanded, "PayloadBucketPolicy")["PolicyDocument"]["Statement"]

    assert table["TimeToLiveSpecification"] == {"AttributeName": "expiration", "Enabled": True}
    assert table["KeySchema"] == [{"AttributeName": "id", "KeyType": "HASH"}]
    assert all(bucket["PublicAccessBlockConfiguration"].values())
    assert bucket["BucketEncryption"]
    assert (tls["Effect"], tls["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
    for queue in ("CeleryQueue", "CeleryDeadLetterQueue"):
        assert properties(expanded, queue)["SqsManagedSseEnabled"] is True


def test_function_and_producer_may_do_what_they_do_and_no_more(expanded):
    function = statements_of(expanded, "FunctionRole")
    producer = properties(expanded, "ProducerPolicy")["PolicyDocument"]["Statement"]

    # SAM adds managed policies for all queues and logs to a role that it makes itself.
    roles = [n for n, r in expanded["Resources"].items() if r["Type"] == "AWS::IAM::Role"]
    assert sorted(roles) == ["FunctionRole", "SchedulerRole"]
    assert not any("ManagedPolicyArns" in properties(expanded, role) for role in roles)
    for statement in function + producer:
        assert statement["Effect"] == "Allow"
        assert not any("*" in action for action in actions(statement))
        if actions(statement) == ["scheduler:ListSchedules"]:
            assert statement["Resource"] == "*"  # AWS knows no narrower one for it
            continue
        # A resource of this stack, never a pattern; an object's or a schedule's ARN ends in "*".
        assert list(statement["Resource"]) in (["Fn::GetAtt"], ["Fn::Sub"])
    assert {action for statement in producer for action in actions(statement)} == {
        "sqs:SendMessage",
        "sqs:GetQueueAttributes",
        "s3:PutObject",
        "s3:DeleteObject",
        "dynamodb:BatchWriteItem",
        "scheduler:CreateSchedule",
        "scheduler:GetSchedule",
        "scheduler:ListSchedules",
        "scheduler:DeleteSchedule",
        "iam:PassRole",
    }


def test_function_and_producer_may_schedule_in_the_group_alone(expanded):
    function = statements_of(expanded, "FunctionRole")
    producer = properties(expanded, "ProducerPolicy")["PolicyDocument"]["Statement"]

    for statements in (function, producer):
        [create] = [s for s in statements if "scheduler:CreateSchedule" in actions(s)]
        [role] = [s for s in statements if "iam:PassRole" in actions(s)]
        assert create["Resource"]["Fn::Sub"].endswith(":schedule/${ScheduleGroup}/eta-*")
        assert role["Resource"] == {"Fn::GetAtt": ["SchedulerRole", "Arn"]}
        assert role["Condition"] == {
            "StringEquals": {"iam:PassedToService": "scheduler.amazonaws.com"}
        }
    variables = properties(expanded, "Function")["Environment"]["Variables"]
    assert variables["LAMBDA_CELERY_SCHEDULE_GROUP"] == {"Ref": "ScheduleGroup"}
    assert variables["LAMBDA_CELERY_SCHEDULE_ROLE_ARN"] == {"Fn::GetAtt": ["SchedulerRole", "Arn"]}


def test_scheduler_of_this_account_may_send_and_no_more(expanded):
    [trust] = properties(expanded, "SchedulerRole")["AssumeRolePolicyDocument"]["Statement"]
    allowed = statements_of(expanded, "SchedulerRole")

    assert trust["Principal"] == {"Service": "scheduler.amazonaws.com"}
    assert trust["Condition"] == {
        "StringEquals": {
            "aws:SourceAccount": {"Ref": "AWS::AccountId"},
            "aws:SourceArn": {"Fn::GetAtt": ["ScheduleGroup", "Arn"]},
        }
    }
    assert [(actions(s), s["Resource"]) for s in allowed] == [
        (["sqs:SendMessage"], {"Fn::GetAtt": ["CeleryQueue", "Arn"]}),
        (["sqs:SendMessage"], {"Fn::GetAtt": ["CeleryDeadLetterQueue", "Arn"]}),
    ]


def statements_of(template: dict[str, Any], role: str) -> list[dict[str, Any]]:
    policies = properties(template, role)["Policies"]
    return [s for p in policies for s in p["PolicyDocument"]["Statement"]]


def actions(statement: dict[str, Any]) -> list[str]:
    action = statement["Action"]
    return [action] if isinstance(action, str) else action


def test_alarms_watch_the_dead_letter_queue_and_the_oldest_message(expanded):
    parked = properties(expanded, "CeleryDeadLetterAlarm")
    waiting = properties(expanded, "CeleryOldestMessageAlarm")

    assert parked["MetricName"] == "ApproximateNumberOfMessagesVisible"
    assert parked["Dimensions"] == [
        {"Name": "QueueName", "Value": properties(expanded, "CeleryDeadLetterQueue")["QueueName"]}
    ]
    assert (parked["Threshold"], parked["ComparisonOperator"]) == (0, "GreaterThanThreshold")
    assert waiting["MetricName"] == "ApproximateAgeOfOldestMessage"
    assert waiting["Dimensions"] == [
        {"Name": "QueueName", "Value": properties(expanded, "CeleryQueue")["QueueName"]}
    ]


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The example's mail server, which answers the first mail to one in five with 451."""
    monkeypatch.syspath_prepend(EXAMPLE)
    from rehearsal.smtp_sink import SmtpSink

    with SmtpSink(busy_every=5) as sink:
        yield sink


def create_stack(template: dict[str, Any], **parameters: str) -> dict[str, str]:
    """Create *template* on the emulator and return its outputs."""
    # Not with its event source mapping: ministack would poll the queue and run the code in
    # an interpreter of its own, even if the mapping is disabled. Ours takes its place.
    resources = {n: r for n, r in template["Resources"].items() if n != "FunctionCeleryMessages"}
    cloudformation = boto3.client("cloudformation")
    cloudformation.create_stack(
        StackName="announcements",
        TemplateBody=json.dumps(template | {"Resources": resources}),
        Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    waiter = cloudformation.get_waiter("stack_create_complete")
    waiter.wait(StackName="announcements", WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    [stack] = cloudformation.describe_stacks(StackName="announcements")["Stacks"]
    return {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}


def test_burst_runs_through_the_stack(aws_endpoint, sink, tmp_path):
    # Given: the stack, and the function and the mapping as the stack describes them
    expanded = expanded_template(results=True)
    outputs = create_stack(
        expanded,
        EmailHost=sink.host,
        EmailPort=str(sink.port),
        EmailUseTls="false",
        FromAddress="office@example.org",
    )
    deployed = boto3.client("lambda").get_function_configuration(
        FunctionName=outputs["FunctionName"]
    )
    described = properties(expanded, "FunctionCeleryMessages")
    config = EventSourceMappingConfig(
        batch_size=int(described["BatchSize"]),
        maximum_batching_window_seconds=described["MaximumBatchingWindowInSeconds"],
        maximum_concurrency=2,
        report_batch_item_failures="ReportBatchItemFailures" in described["FunctionResponseTypes"],
    )
    sqs = boto3.client("sqs")

    # When: a producer that knows nothing but the outputs announces something to 20 members
    producer = {
        "LAMBDA_CELERY_QUEUE_URL": outputs["QueueUrl"],
        "LAMBDA_CELERY_PAYLOAD_BUCKET": outputs["PayloadBucketName"],
        "CELERY_RESULT_BACKEND": outputs["ResultBackend"],
        "DATABASE_PATH": str(tmp_path / "db.sqlite3"),
    }
    for command in (["migrate"], ["add_members", "20"], ["announce", "Subject", "Text"]):
        subprocess.run(
            [sys.executable, str(EXAMPLE / "manage.py"), *command],
            env=os.environ | producer,
            check=True,
        )
    function = LocalFunction(
        deployed["Handler"],
        timeout_seconds=deployed["Timeout"],
        maximum_concurrency=2,
        environment={k: str(v) for k, v in deployed["Environment"]["Variables"].items()},
        working_directory=EXAMPLE,
    )
    with function, EventSourceMapping(outputs["QueueUrl"], function, config, sqs) as mapping:
        mapping.wait_until_idle(timeout_seconds=120)
    sink.stop()

    # Then: each member has got it once, those that were refused at first included, and the
    # sender the report of the task
    assert sorted(mail.recipient for mail in sink.accepted) == sorted(
        ["office@example.org", *(f"member-{n}@example.org" for n in range(20))]
    )
    assert len(sink.refused) == 4
    parked = sqs.get_queue_attributes(
        QueueUrl=outputs["DeadLetterQueueUrl"], AttributeNames=["ApproximateNumberOfMessages"]
    )
    assert parked["Attributes"]["ApproximateNumberOfMessages"] == "0"
    group = boto3.client("scheduler").get_schedule_group(Name=outputs["ScheduleGroupName"])
    assert group["State"] == "ACTIVE"
    # 21 mails, 4 retries and the task, each a publication of its own
    records = boto3.client("dynamodb").scan(TableName=outputs["IdempotencyTableName"])["Items"]
    assert [record["status"]["S"] for record in records] == ["COMPLETED"] * 26
    results = boto3.client("dynamodb").scan(TableName=outputs["ResultBackend"].rpartition("/")[2])[
        "Items"
    ]
    # The task's: nobody asks for a mail's result
    assert [json.loads(each["result"]["B"])["status"] for each in results] == ["SUCCESS"]
    assert all(int(each["ttl"]["N"]) > time.time() for each in results)
    life_seconds = int(
        properties(expanded, "Function")["Environment"]["Variables"][
            "LAMBDA_CELERY_IDEMPOTENCY_TTL_SECONDS"
        ]
    )
    assert all(
        int(record["expiration"]["N"]) > time.time() + life_seconds - SECONDS_PER_DAY
        for record in records
    )
