"""The Terraform module makes what the definition in Python makes, and allows the same."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lambda_celery.infrastructure import policies
from lambda_celery.infrastructure.resources import resources
from tests.unit.infrastructure import terraform
from tests.unit.infrastructure.test_terraform import pytestmark  # noqa: F401
from tests.unit.infrastructure.test_terraform_agrees import (
    DEPLOYMENTS,
    TERRAFORM_ONLY,
    deployment,
)

#: What Terraform makes of each of CloudFormation's types; a module makes the rest.
KINDS = {
    "AWS::DynamoDB::Table": "aws_dynamodb_table",
    "AWS::S3::Bucket": "aws_s3_bucket",
    "AWS::S3::BucketPolicy": "aws_s3_bucket_policy",
    "AWS::Scheduler::ScheduleGroup": "aws_scheduler_schedule_group",
    "AWS::Lambda::Alias": "aws_lambda_alias",
    "AWS::Lambda::EventSourceMapping": "aws_lambda_event_source_mapping",
    "AWS::Lambda::Function": "module.function",
    "AWS::IAM::ManagedPolicy": "aws_iam_policy",
    "AWS::SNS::Topic": "aws_sns_topic",
    "AWS::CloudWatch::Alarm": "aws_cloudwatch_metric_alarm",
    "AWS::CloudWatch::Dashboard": "aws_cloudwatch_dashboard",
}


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return terraform.figures_root(tmp_path_factory.mktemp("figures"))


@pytest.fixture(
    scope="module",
    params=["default", "full", "full, one function", "list", "brought", "image"],
)
def inputs(request: pytest.FixtureRequest) -> dict[str, Any]:
    image = {"package_type": "image", "image_uri": "uri", "local_existing_package": None}
    return DEPLOYMENTS.get(request.param, image)


@pytest.fixture(scope="module")
def ours(inputs: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    asked = {name: each for name, each in inputs.items() if name not in TERRAFORM_ONLY}
    template = resources(deployment(asked))
    return [(each["Type"], each["Properties"]) for each in template.resources.values()]


@pytest.fixture(scope="module")
def theirs(
    inputs: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[str, dict[str, Any]]]:
    found = terraform.deployed(tmp_path_factory.mktemp("module"), inputs)[0]
    return [
        (".".join(address.split("[")[0].split(".")[: 2 if "module" in address else 1]), each)
        for address, each in found.items()
        if each
    ]


class TestPolicies:
    @pytest.mark.parametrize("inputs", DEPLOYMENTS.values(), ids=DEPLOYMENTS)
    def test_allow_the_same(self, figures: Path, inputs: dict[str, Any]) -> None:
        asked = deployment(inputs)
        of_nothing = set()
        if asked.functions == "one" or len(asked.queues) == 1:
            of_nothing.add("other_queues")
        if all(queue.fifo for queue in asked.queues.values()):
            of_nothing.add("standard_dead_letter_queues")

        theirs = terraform.figures_of(figures, inputs)["statements"]

        for role in ("function", "producer", "caller", "scheduler", "results"):
            assert [
                (each["sid"], each["actions"], each["on"], each["condition"])
                for each in theirs[role]
            ] == [
                (each.sid, list(each.actions), [each.on], dict(each.condition))
                for each in getattr(policies, role)(asked)
                if each.on not in of_nothing
            ], role


def test_the_same_is_kept() -> None:
    """But for queues, which modules/retained keeps."""
    kept = set()
    for path in terraform.MODULE.glob("*.tf"):
        for kind, name, body in terraform.blocks(path.read_text(), "resource"):
            if any("prevent_destroy" in each for each in body.get("lifecycle", [])):
                kept.add(f"{kind}.{name}")

    assert kept == {
        "aws_dynamodb_table.idempotency",
        "aws_s3_bucket.payloads",
        "aws_scheduler_schedule_group.this",
        "aws_iam_role.scheduler",
        # A role of CloudFormation's has its policy within it.
        "aws_iam_role_policy.scheduler",
    }
    made = resources(deployment({})).resources
    ours = {name for name, each in made.items() if each.get("UpdateReplacePolicy") == "Retain"}
    assert {name for name in ours if "Queue" not in name} == {
        "IdempotencyTable",
        "PayloadBucket",
        "ScheduleGroup",
        "SchedulerRole",
    }


class TestResources:
    """What Python's definition makes is what Terraform makes, with the same properties."""

    def test_are_as_many(self, ours: Any, theirs: Any) -> None:
        counted = Counter(KINDS[kind] for kind, _ in ours if kind in KINDS)

        assert counted == Counter(kind for kind, _ in theirs if kind in KINDS.values())

    def test_queues(self, ours: Any, theirs: Any) -> None:
        found = {}
        for kind, each in theirs:
            if kind == "module.queue" and each["create"]:
                key = each["kms_master_key_id"]
                found[each["name"]] = (
                    each["visibility_timeout_seconds"],
                    each["message_retention_seconds"],
                    each["redrive_policy"]["maxReceiveCount"],
                    each["fifo_queue"],
                    key,
                )
                if each["create_dlq"]:
                    retention = each["dlq_message_retention_seconds"]
                    found[each["dlq_name"]] = (None, retention, None, each["fifo_queue"], key)

        assert found == {
            each["QueueName"]: (
                each.get("VisibilityTimeout"),
                each["MessageRetentionPeriod"],
                each.get("RedrivePolicy", {}).get("maxReceiveCount"),
                each.get("FifoQueue", False),
                each.get("KmsMasterKeyId"),
            )
            for kind, each in ours
            if kind == "AWS::SQS::Queue"
        }

    def test_tables(self, ours: Any, theirs: Any) -> None:
        assert {
            each["name"]: (
                each["billing_mode"],
                each["hash_key"],
                each["ttl"][0]["attribute_name"],
                each["point_in_time_recovery"][0]["enabled"],
                [table["kms_key_arn"] for table in each["server_side_encryption"]],
                [
                    (
                        index["name"],
                        index["hash_key"],
                        index["range_key"],
                        index["projection_type"],
                        sorted(index["non_key_attributes"]),
                    )
                    for index in each.get("global_secondary_index", [])
                ],
                sorted((attribute["name"], attribute["type"]) for attribute in each["attribute"]),
                [list(warm.values()) for warm in each.get("warm_throughput", [])],
            )
            for kind, each in theirs
            if kind == "aws_dynamodb_table"
        } == {
            each["TableName"]: (
                each["BillingMode"],
                each["KeySchema"][0]["AttributeName"],
                each["TimeToLiveSpecification"]["AttributeName"],
                each["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"],
                [table["KMSMasterKeyId"] for table in [each.get("SSESpecification")] if table],
                [
                    (
                        index["IndexName"],
                        *(key["AttributeName"] for key in index["KeySchema"]),
                        index["Projection"]["ProjectionType"],
                        sorted(index["Projection"]["NonKeyAttributes"]),
                    )
                    for index in each.get("GlobalSecondaryIndexes", [])
                ],
                sorted(
                    (attribute["AttributeName"], attribute["AttributeType"])
                    for attribute in each["AttributeDefinitions"]
                ),
                [list(warm.values()) for warm in [each.get("WarmThroughput")] if warm],
            )
            for kind, each in ours
            if kind == "AWS::DynamoDB::Table"
        }

    def test_bucket(self, ours: Any, theirs: Any) -> None:
        (bucket,) = [each for kind, each in ours if kind == "AWS::S3::Bucket"]
        found = dict(theirs)
        (ours_rule,) = bucket["LifecycleConfiguration"]["Rules"]
        (rule,) = found["aws_s3_bucket_lifecycle_configuration"]["rule"]
        (encryption,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        default = encryption["ServerSideEncryptionByDefault"]
        (by_default,) = found["aws_s3_bucket_server_side_encryption_configuration"]["rule"]

        assert (rule["id"], rule["expiration"][0]["days"]) == (
            ours_rule["Id"],
            ours_rule["ExpirationInDays"],
        )
        assert by_default["apply_server_side_encryption_by_default"] == [
            {
                "sse_algorithm": default["SSEAlgorithm"],
                "kms_master_key_id": default.get("KMSMasterKeyID"),
            }
        ]

    def test_mappings(self, ours: Any, theirs: Any) -> None:
        def made(pairs: Any, *kinds: str) -> Counter[str]:
            return Counter(json.dumps(each) for kind, each in pairs if kind in kinds)

        found = [
            (
                kind,
                [
                    each["batch_size"],
                    each["maximum_batching_window_in_seconds"],
                    each["function_response_types"],
                    [scaling["maximum_concurrency"] for scaling in each["scaling_config"]],
                    [
                        [pollers["minimum_pollers"], pollers["maximum_pollers"]]
                        for pollers in each["provisioned_poller_config"]
                    ],
                    each["metrics_config"][0]["metrics"],
                ],
            )
            for kind, each in theirs
            if kind == "aws_lambda_event_source_mapping"
        ]
        expected = [
            (
                kind,
                [
                    each["BatchSize"],
                    each["MaximumBatchingWindowInSeconds"],
                    each["FunctionResponseTypes"],
                    list(each.get("ScalingConfig", {}).values()),
                    [
                        [pollers["MinimumPollers"], pollers["MaximumPollers"]]
                        for pollers in [each.get("ProvisionedPollerConfig")]
                        if pollers
                    ],
                    each["MetricsConfig"]["Metrics"],
                ],
            )
            for kind, each in ours
            if kind == "AWS::Lambda::EventSourceMapping"
        ]

        assert made(found, "aws_lambda_event_source_mapping") == made(
            expected, "AWS::Lambda::EventSourceMapping"
        )

    def test_functions(self, ours: Any, theirs: Any) -> None:
        logs = {
            each["LogGroupName"]: (each["RetentionInDays"], each.get("KmsKeyId"))
            for kind, each in ours
            if kind == "AWS::Logs::LogGroup"
        }
        expected = {}
        for kind, each in ours:
            if kind == "AWS::Lambda::Function":
                vpc = each.get("VpcConfig", {})
                expected[each["FunctionName"]] = {
                    "package_type": each["PackageType"],
                    "architectures": each["Architectures"],
                    "memory_size": each["MemorySize"],
                    "timeout": each["Timeout"],
                    "recursive_loop": each["RecursiveLoop"],
                    "kms_key_arn": each.get("KmsKeyArn"),
                    "layers": each.get("Layers", []),
                    "snap_start": "SnapStart" in each,
                    "vpc_subnet_ids": vpc.get("SubnetIds"),
                    "vpc_security_group_ids": vpc.get("SecurityGroupIds"),
                    "image_config_command": each.get("ImageConfig", {}).get("Command", []),
                    "reserved_concurrent_executions": each.get("ReservedConcurrentExecutions"),
                }
        made = {each["function_name"]: each for kind, each in theirs if kind == "module.function"}

        assert {
            name: {key: each[key] for key in expected[name]} for name, each in made.items()
        } == expected
        assert {
            each["logging_log_group"]: (
                each["cloudwatch_logs_retention_in_days"],
                each["cloudwatch_logs_kms_key_id"],
            )
            for each in made.values()
        } == logs

    def test_variables(self, ours: Any, theirs: Any) -> None:
        """Those with values that only AWS knows by their names alone."""
        expected = {
            each["FunctionName"]: each["Environment"]["Variables"]
            for kind, each in ours
            if kind == "AWS::Lambda::Function"
        }
        found = {
            each["function_name"]: each["environment_variables"]
            for kind, each in theirs
            if kind == "module.function"
        }

        assert {name: each.keys() for name, each in found.items()} == {
            name: each.keys() for name, each in expected.items()
        }
        for name, variables in expected.items():
            plain = {key: each for key, each in variables.items() if isinstance(each, str)}
            assert plain.items() <= found[name].items()

    def test_alarms(self, ours: Any, theirs: Any) -> None:
        assert {
            each["alarm_name"]: (
                each["alarm_description"],
                each["namespace"],
                each["metric_name"],
                each["dimensions"],
                each["statistic"],
                each["period"],
                each["evaluation_periods"],
                each["threshold"],
                each["comparison_operator"],
                each["treat_missing_data"],
                len(each["alarm_actions"]),
            )
            for kind, each in theirs
            if kind == "aws_cloudwatch_metric_alarm"
        } == {
            each["AlarmName"]: (
                each["AlarmDescription"],
                each["Namespace"],
                each["MetricName"],
                {each["Dimensions"][0]["Name"]: each["Dimensions"][0]["Value"]},
                each["Statistic"],
                each["Period"],
                each["EvaluationPeriods"],
                each["Threshold"],
                each["ComparisonOperator"],
                each["TreatMissingData"],
                len(each.get("AlarmActions", [])),
            )
            for kind, each in ours
            if kind == "AWS::CloudWatch::Alarm"
        }

    def test_dashboard(self, ours: Any, theirs: Any) -> None:
        expected = dict(ours)["AWS::CloudWatch::Dashboard"]["DashboardBody"]["Fn::Sub"]
        found = dict(theirs)["aws_cloudwatch_dashboard"]["dashboard_body"]

        assert json.loads(found) == json.loads(expected.replace("${AWS::Region}", terraform.REGION))

    def test_schedulers_trust(self, ours: Any, theirs: Any) -> None:
        """Of the same keys: their values are known on AWS alone."""
        made = [each for kind, each in ours if each.get("RoleName", "").endswith("-scheduler")]
        found = [each for kind, each in theirs if kind == "aws_iam_role"]

        assert [
            {each["variable"]: each["test"] for each in statement["condition"]}
            for role in found
            for statement in json.loads(role["assume_role_policy"])["statement"]
        ] == [
            dict.fromkeys(statement["Condition"]["StringEquals"], "StringEquals")
            for role in made
            for statement in role["AssumeRolePolicyDocument"]["Statement"]
        ]

    def test_roles(self, ours: Any, theirs: Any) -> None:
        """Their names and what bounds them."""
        found = {
            each["role_name"]: each["role_permissions_boundary"]
            for kind, each in theirs
            if kind == "module.function"
        } | {
            each["name"]: each["permissions_boundary"]
            for kind, each in theirs
            if kind == "aws_iam_role"
        }

        assert found == {
            each["RoleName"]: each.get("PermissionsBoundary")
            for kind, each in ours
            if kind == "AWS::IAM::Role"
        }
