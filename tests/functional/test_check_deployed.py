"""``lambda check --deployed``: a right deployment is green; each wrong thing is found, alone."""

from __future__ import annotations

import io
import json
import uuid
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from celery import Celery

from lambda_celery import aws
from lambda_celery.check.deployed.deployment import Deployed
from lambda_celery.check.facts import Facts
from lambda_celery.check.model import Finding, Grade
from lambda_celery.check.rules import registry
from lambda_celery.conf import Settings
from lambda_celery.infrastructure.computed import compute
from lambda_celery.infrastructure.forms.cloudformation import document
from lambda_celery.infrastructure.inputs import Deployment
from lambda_celery.table.schema import TABLE_DEFINITION
from tests.emulated_aws import REGION

ACCOUNT = "000000000000"
DAY = 86_400
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:alarms"
PLAIN_HTTP_DENIED = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Deny",
                "Principal": "*",
                "Action": "*",
                "Resource": "*",
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            }
        ],
    }
)
PRIVATE = dict.fromkeys(
    ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"), True
)


def trust(service: str) -> str:
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": f"{service}.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def allow(*statements: tuple[list[str], str]) -> str:
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Action": actions, "Resource": resource}
                for actions, resource in statements
            ],
        }
    )


@cache  # making one takes longer than all that is asked of it here
def client_of(service: str, endpoint: str) -> Any:
    return boto3.client(service, endpoint_url=endpoint, region_name=REGION)


@dataclass
class World:
    """A deployment as it must be, until a test changes it."""

    endpoint: str
    name: str
    app: Celery
    settings: Settings
    deployment: Deployment | None = None
    producer_role: str | None = None
    caller_role: str | None = None

    def client(self, service: str) -> Any:
        return client_of(service, self.endpoint)

    @property
    def queue_url(self) -> str:
        return f"{self.endpoint}/{ACCOUNT}/{self.name}-celery"

    @property
    def dead_letter_queue_url(self) -> str:
        return f"{self.queue_url}-dead-letters"

    @property
    def queue_arn(self) -> str:
        return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{self.name}-celery"

    @property
    def dead_letter_arn(self) -> str:
        return f"{self.queue_arn}-dead-letters"

    @property
    def bucket(self) -> str:
        return f"{self.name}-payloads"

    @property
    def uuid(self) -> str:
        mappings = self.client("lambda").list_event_source_mappings(EventSourceArn=self.queue_arn)
        return str(mappings["EventSourceMappings"][0]["UUID"])

    def set_queue(self, **attributes: str) -> None:
        self.client("sqs").set_queue_attributes(QueueUrl=self.queue_url, Attributes=attributes)

    def set_dead_letter_queue(self, **attributes: str) -> None:
        self.client("sqs").set_queue_attributes(
            QueueUrl=self.dead_letter_queue_url, Attributes=attributes
        )

    def set_mapping(self, **options: Any) -> None:
        self.client("lambda").update_event_source_mapping(UUID=self.uuid, **options)

    def set_function(self, **options: Any) -> None:
        self.client("lambda").update_function_configuration(FunctionName=self.name, **options)

    def set_variables(self, **variables: str | None) -> None:
        merged = self.variables | variables
        self.set_function(
            Environment={"Variables": {k: v for k, v in merged.items() if v is not None}}
        )

    @property
    def variables(self) -> dict[str, Any]:
        return {
            "LAMBDA_CELERY_APP": "proj.celery:app",
            "LAMBDA_CELERY_QUEUE_URL": self.queue_url,
            "LAMBDA_CELERY_DEAD_LETTER_QUEUE_URL": self.dead_letter_queue_url,
            "LAMBDA_CELERY_IDEMPOTENCY_TABLE": self.name,
        }

    def set_alarm(self, name: str, namespace: str, metric: str, dimension: str, value: str,
                  **options: Any) -> None:  # fmt: skip
        self.client("cloudwatch").put_metric_alarm(
            **{
                "AlarmName": f"{self.name}-{name}",
                "Namespace": namespace,
                "MetricName": metric,
                "Dimensions": [{"Name": dimension, "Value": value}],
                "Statistic": "Maximum",
                "Period": 60,
                "EvaluationPeriods": 1,
                "Threshold": 0,
                "ComparisonOperator": "GreaterThanThreshold",
                "TreatMissingData": "notBreaching",
                "AlarmActions": [TOPIC],
                "ActionsEnabled": True,
                **options,
            }
        )

    def set_oldest_message_alarm(self, **options: Any) -> None:
        self.set_alarm("oldest", "AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName",
                       f"{self.name}-celery", **options)  # fmt: skip

    def set_dead_letter_alarm(self, **options: Any) -> None:
        self.set_alarm("dead", "AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName",
                       f"{self.name}-celery-dead-letters", **options)  # fmt: skip

    def set_role(self, role: str, *statements: tuple[list[str], str]) -> None:
        self.client("iam").put_role_policy(
            RoleName=f"{self.name}-{role}", PolicyName="own", PolicyDocument=allow(*statements)
        )

    def role_arn(self, role: str) -> str:
        return f"arn:aws:iam::{ACCOUNT}:role/{self.name}-{role}"

    def create(self) -> None:
        self._create_queues()
        self._create_storage()
        self._create_roles()
        self._create_function()
        self._create_alarms()
        self.client("scheduler").create_schedule_group(Name=self.name)

    def _create_queues(self) -> None:
        sqs = self.client("sqs")
        sqs.create_queue(
            QueueName=f"{self.name}-celery-dead-letters",
            Attributes={
                "MessageRetentionPeriod": str(14 * DAY),
                "SqsManagedSseEnabled": "true",
                "Policy": PLAIN_HTTP_DENIED,
                "RedriveAllowPolicy": json.dumps(
                    {"redrivePermission": "byQueue", "sourceQueueArns": [self.queue_arn]}
                ),
            },
        )
        sqs.create_queue(
            QueueName=f"{self.name}-celery",
            Attributes={
                "VisibilityTimeout": "181",
                "MessageRetentionPeriod": str(4 * DAY),
                "SqsManagedSseEnabled": "true",
                "Policy": PLAIN_HTTP_DENIED,
                "RedrivePolicy": json.dumps(
                    {"deadLetterTargetArn": self.dead_letter_arn, "maxReceiveCount": 5}
                ),
            },
        )

    def _create_storage(self) -> None:
        create_table(self, self.name, "expiration")
        s3 = self.client("s3")
        s3.create_bucket(
            Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        s3.put_public_access_block(Bucket=self.bucket, PublicAccessBlockConfiguration=PRIVATE)
        s3.put_bucket_policy(Bucket=self.bucket, Policy=PLAIN_HTTP_DENIED)
        self.set_lifecycle(36)

    def set_lifecycle(self, days: int, **options: Any) -> None:
        set_lifecycle(self, self.bucket, days, **options)

    def _create_roles(self) -> None:
        iam = self.client("iam")
        for role in ("function", "scheduler", "producer", "caller"):
            service = "scheduler" if role == "scheduler" else "lambda"
            iam.create_role(RoleName=f"{self.name}-{role}", AssumeRolePolicyDocument=trust(service))
            self.set_role(role, (["*"], "*"))

    def _create_function(self) -> None:
        self.client("lambda").create_function(
            FunctionName=self.name,
            Runtime="python3.13",
            Role=self.role_arn("function"),
            Handler="lambda_runtime.handler",
            Code={"ZipFile": empty_zip()},
            Timeout=30,
            MemorySize=1024,
            Architectures=["arm64"],
            Environment={"Variables": self.variables},
        )
        self.client("lambda").put_function_recursion_config(
            FunctionName=self.name, RecursiveLoop="Allow"
        )
        self.client("lambda").create_event_source_mapping(
            FunctionName=self.name,
            EventSourceArn=self.queue_arn,
            BatchSize=10,
            MaximumBatchingWindowInSeconds=1,
            FunctionResponseTypes=["ReportBatchItemFailures"],
            ScalingConfig={"MaximumConcurrency": 10},
        )

    def _create_alarms(self) -> None:
        self.set_oldest_message_alarm()
        self.set_dead_letter_alarm()
        for metric in ("OldestMessageAge", "TasksFailed"):
            self.set_alarm(metric, "LambdaCelery", metric, "QueueName", f"{self.name}-celery")
        for metric in ("Errors", "Throttles", "Duration"):
            self.set_alarm(metric, "AWS/Lambda", metric, "FunctionName", self.name)
        for metric in ("ReadThrottleEvents", "WriteThrottleEvents"):
            self.set_alarm(metric, "AWS/DynamoDB", metric, "TableName", self.name)

    def delete_alarms(self) -> None:
        """Spare the other tests them: whoever asks for those of one queue is answered with all."""
        cloudwatch = self.client("cloudwatch")
        found = cloudwatch.describe_alarms(AlarmNamePrefix=self.name)["MetricAlarms"]
        cloudwatch.delete_alarms(AlarmNames=[each["AlarmName"] for each in found])

    def check(self) -> list[Finding]:
        """Return what every rule of ``--deployed`` finds."""
        deployed = Deployed(
            self.app, self.settings, self.deployment, "proj", self.producer_role, self.caller_role
        )
        facts = Facts(self.app, self.settings, Path(__file__).parent, deployed=deployed)
        rules = [rule for rule in registry if rule.id.startswith("deployed-")]
        return list(dict.fromkeys(each for rule in rules for each in rule.find(facts)))

    def differences(self) -> list[Finding]:
        """Return what is not green."""
        return [each for each in self.check() if each.grade is not Grade.GREEN]

    def the_difference(self) -> Finding:
        """Return what is not green, which must be one thing."""
        found = self.differences()
        assert len(found) == 1, found
        return found[0]


def set_lifecycle(world: World, bucket: str, days: int, **options: Any) -> None:
    rule = {
        "ID": "expire", "Status": "Enabled", "Filter": {"Prefix": ""},
        "Expiration": {"Days": days}, **options,
    }  # fmt: skip
    world.client("s3").put_bucket_lifecycle_configuration(
        Bucket=bucket, LifecycleConfiguration={"Rules": [rule]}
    )


def empty_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("nothing.py", "")
    return buffer.getvalue()


def create_table(world: World, name: str, ttl: str | None, key: str = "id", **options: Any) -> None:
    dynamodb = world.client("dynamodb")
    _, *of_the_index = TABLE_DEFINITION["AttributeDefinitions"]
    dynamodb.create_table(
        **{
            **TABLE_DEFINITION,
            "TableName": name,
            "KeySchema": [{"AttributeName": key, "KeyType": "HASH"}],
            "AttributeDefinitions": [{"AttributeName": key, "AttributeType": "S"}, *of_the_index],
            "BillingMode": "PAY_PER_REQUEST",
            **options,
        }
    )
    if ttl is not None:
        dynamodb.update_time_to_live(
            TableName=name, TimeToLiveSpecification={"Enabled": True, "AttributeName": ttl}
        )
    dynamodb.update_continuous_backups(
        TableName=name, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
    )


@pytest.fixture
def world(aws_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    # Shared tasks of other tests are none of this project's.
    monkeypatch.setattr("celery._state._on_app_finalizers", set())
    name = f"proj-{uuid.uuid4().hex[:12]}"
    app = Celery("proj", set_as_current=False)

    @app.task(name="proj.mail", shared=False)
    def mail() -> None:
        pass

    app.finalize()
    made = World(aws_endpoint, name, app, Settings())
    made.settings = Settings(
        queue_url=made.queue_url,
        idempotency_table=name,
        payload_bucket=made.bucket,
        schedule_group=name,
        schedule_role_arn=made.role_arn("scheduler"),
        endpoint_url=aws_endpoint,
        region=REGION,
    )
    made.create()
    yield made
    made.delete_alarms()


def test_what_is_deployed_as_it_must_be_is_green(world):
    found = world.check()

    assert [each for each in found if each.grade is not Grade.GREEN] == []
    assert {each.subject for each in found} >= {
        f"queue {world.name}-celery",
        f"dead-letter queue {world.name}-celery-dead-letters",
        f"mapping of queue {world.name}-celery",
        f"function {world.name}",
        f"table {world.name}",
        f"bucket {world.bucket}",
        f"schedule group {world.name}",
        f"role {world.name}-scheduler",
    }


Change = Callable[[World], None]


def _case(rule: str, grade: Grade, words: str, change: Change) -> Any:
    return pytest.param(change, rule, grade, words, id=f"{rule}: {words}")


RED, AMBER = Grade.RED, Grade.AMBER
ALL_BUT_SQS = [(["dynamodb:*", "s3:*", "scheduler:*", "iam:PassRole", "logs:*"], "*")]


def _redrive(**changes: Any) -> Change:
    def change(world: World) -> None:
        policy = {"deadLetterTargetArn": world.dead_letter_arn, "maxReceiveCount": 5, **changes}
        world.set_queue(RedrivePolicy=json.dumps(policy))

    return change


def _settings(**changes: Any) -> Change:
    def change(world: World) -> None:
        world.settings = replace(world.settings, **changes)

    return change


def _second_mapping(world: World) -> None:
    world.client("lambda").create_event_source_mapping(
        FunctionName=world.name,
        EventSourceArn=world.queue_arn,
        BatchSize=10,
        MaximumBatchingWindowInSeconds=1,
        FunctionResponseTypes=["ReportBatchItemFailures"],
        ScalingConfig={"MaximumConcurrency": 5},
    )


def _conf(**changes: Any) -> Change:
    return lambda world: world.app.conf.update(changes)


def _called(function: Callable[[World], str]) -> Change:
    """Let direct calls go to *function*."""
    return lambda world: _settings(function=function(world))(world)


def _with_an_alias(world: World) -> str:
    version = world.client("lambda").publish_version(FunctionName=world.name)["Version"]
    world.client("lambda").create_alias(
        FunctionName=world.name, Name="live", FunctionVersion=version
    )
    return f"{world.name}:live"


def _another_function(world: World) -> str:
    world.client("lambda").create_function(
        FunctionName=f"{world.name}-other",
        Runtime="python3.13",
        Role=world.role_arn("function"),
        Handler="lambda_runtime.handler",
        Code={"ZipFile": empty_zip()},
    )
    return f"{world.name}-other"


def _another_table(**options: Any) -> Change:
    def change(world: World) -> None:
        dynamodb = world.client("dynamodb")
        dynamodb.delete_table(TableName=world.name)
        create_table(world, world.name, **({"ttl": "expiration"} | options))

    return change


CASES = [
    _case("deployed-queue", RED, "there is none of that name",
          lambda w: w.client("sqs").delete_queue(QueueUrl=w.queue_url)),
    _case("deployed-queue", RED, "name no queue", _settings(queue_url=None)),
    _case("deployed-visibility", RED, "hides a message for 30 s",
          lambda w: w.set_queue(VisibilityTimeout="30")),
    _case("deployed-retention", RED, "parked, so that it may be lost",
          lambda w: (w.set_dead_letter_queue(MessageRetentionPeriod=str(3 * DAY)))),
    _case("deployed-retention", RED, "would run again",
          _settings(idempotency_ttl_seconds=3600)),
    _case("deployed-retention", RED, "The function remembers a completed call for 60 s",
          lambda w: w.set_variables(LAMBDA_CELERY_IDEMPOTENCY_TTL_SECONDS="60")),
    _case("deployed-redrive", RED, "has no redrive policy",
          lambda w: (w.set_queue(RedrivePolicy=""), w.set_lifecycle(36))),
    _case("deployed-redrive", RED, "parks a message after 2 receives", _redrive(maxReceiveCount=2)),
    _case("deployed-redrive", RED, "names this dead-letter queue, but there is none",
          lambda w: w.client("sqs").delete_queue(QueueUrl=w.dead_letter_queue_url)),
    _case("deployed-redrive", AMBER, "spent after 7 receives", _settings(max_receive_count=7)),
    _case("deployed-redrive", AMBER, "dead letters are in two places",
          _settings(dead_letter_queue_url=f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/other")),
    _case("deployed-redrive-permission", RED, "does not allow",
          lambda w: w.set_dead_letter_queue(
              RedriveAllowPolicy=json.dumps({"redrivePermission": "denyAll"}))),
    _case("deployed-queue-encryption", AMBER, "does not encrypt",
          lambda w: w.set_queue(SqsManagedSseEnabled="false")),
    _case("deployed-queue-tls", AMBER, "without TLS", lambda w: w.set_queue(Policy="")),
    _case("deployed-mapping", RED, "is Disabled", lambda w: w.set_mapping(Enabled=False)),
    _case("deployed-mapping", RED, "each a part", _second_mapping),
    _case("deployed-mapping", RED, "has a filter",
          lambda w: w.set_mapping(FilterCriteria={"Filters": [{"Pattern": '{"body": ["x"]}'}]})),
    _case("deployed-partial-responses", RED, "the failed ones too",
          lambda w: w.set_mapping(FunctionResponseTypes=[])),
    _case("deployed-partial-responses", AMBER, "comes back for one failure",
          _settings(report_batch_item_failures=False)),
    _case("deployed-concurrency", AMBER, "neither MaximumConcurrency nor",
          lambda w: w.set_mapping(ScalingConfig={})),
    _case("deployed-concurrency", RED, "may have 5 invocations",
          lambda w: w.client("lambda").put_function_concurrency(
              FunctionName=w.name, ReservedConcurrentExecutions=5)),
    _case("deployed-visibility", RED, "are 361 s", lambda w: w.set_function(Timeout=60)),
    _case("deployed-function", AMBER, "time_limit of proj.mail is 300 s",
          _conf(task_time_limit=300)),
    _case("deployed-runtime", RED, "does not run on",
          lambda w: w.set_function(Runtime="python3.9")),
    _case("deployed-recursion", RED, "after 16 rounds",
          lambda w: w.client("lambda").put_function_recursion_config(
              FunctionName=w.name, RecursiveLoop="Terminate")),
    _case("deployed-alias", RED, "no alias and no version",
          lambda w: w.set_function(SnapStart={"ApplyOn": "PublishedVersions"})),
    _case("deployed-environment", RED, "has no LAMBDA_CELERY_APP",
          lambda w: w.set_variables(LAMBDA_CELERY_APP=None)),
    _case("deployed-environment", RED, "is other.celery:app",
          lambda w: w.set_variables(LAMBDA_CELERY_APP="other.celery:app")),
    _case("deployed-environment", RED, "has no LAMBDA_CELERY_IDEMPOTENCY_TABLE",
          lambda w: w.set_variables(LAMBDA_CELERY_IDEMPOTENCY_TABLE=None)),
    _case("deployed-environment", RED, "cannot read its settings",
          lambda w: w.set_variables(LAMBDA_CELERY_CONCURRENCY="many")),
    _case("deployed-environment", AMBER, "LAMBDA_CELERY_CONCURRENCY of the function is 4",
          lambda w: (w.set_variables(LAMBDA_CELERY_CONCURRENCY="4"),
                     w.app.conf.update(lambda_concurrency=8),
                     _settings(concurrency=8)(w))),
    _case("deployed-table", RED, "there is none of that name",
          lambda w: w.client("dynamodb").delete_table(TableName=w.name)),
    _case("deployed-table", RED, "must be id (S, HASH)", _another_table(key="key")),
    _case("deployed-table", RED, "time to live is off", _another_table(ttl=None)),
    _case("deployed-table", RED, "time to live is on ttl", _another_table(ttl="ttl")),
    _case("deployed-table", AMBER, "billing mode is PROVISIONED",
          _another_table(BillingMode="PROVISIONED",
                         ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 5})),
    _case("deployed-table", AMBER, "has no index failures",
          _another_table(GlobalSecondaryIndexes=[
              {**TABLE_DEFINITION["GlobalSecondaryIndexes"][0], "IndexName": "others"}])),
    _case("deployed-table", AMBER, "no point-in-time recovery",
          lambda w: w.client("dynamodb").update_continuous_backups(
              TableName=w.name,
              PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": False})),
    _case("deployed-bucket", RED, "there is none of that name",
          lambda w: w.client("s3").delete_bucket(Bucket=w.bucket)),
    _case("deployed-bucket", RED, "after 3 days", lambda w: w.set_lifecycle(3)),
    # 13 of them may go by in EventBridge Scheduler.
    _case("deployed-bucket", RED, "can live for 36 days", lambda w: w.set_lifecycle(35)),
    _case("deployed-bucket", AMBER, "stay for ever",
          lambda w: w.client("s3").delete_bucket_lifecycle(Bucket=w.bucket)),
    _case("deployed-bucket", AMBER, "stay for ever",
          lambda w: w.set_lifecycle(36, Filter={"Prefix": "other/"})),
    _case("deployed-bucket", RED, "BlockPublicAcls is off",
          lambda w: w.client("s3").put_public_access_block(
              Bucket=w.bucket,
              PublicAccessBlockConfiguration=PRIVATE | {"BlockPublicAcls": False})),
    _case("deployed-bucket", RED, "does not block public access",
          lambda w: w.client("s3").delete_public_access_block(Bucket=w.bucket)),
    _case("deployed-bucket", AMBER, "without TLS",
          lambda w: w.client("s3").delete_bucket_policy(Bucket=w.bucket)),
    _case("deployed-schedules", RED, "it does not exist",
          lambda w: w.client("scheduler").delete_schedule_group(Name=w.name)),
    _case("deployed-schedules", RED, "does not trust",
          lambda w: w.client("iam").update_assume_role_policy(
              RoleName=f"{w.name}-scheduler", PolicyDocument=trust("lambda"))),
    _case("deployed-schedules", AMBER, "name one alone", _settings(schedule_group=None)),
    _case("deployed-role", RED, "sqs:DeleteMessage",
          lambda w: w.set_role("function", *ALL_BUT_SQS, (["sqs:*"], w.dead_letter_arn),
                               (["sqs:Rec*", "sqs:Send*", "sqs:Get*", "sqs:Change*"], "*"))),
    _case("deployed-role", RED, "sqs:DeleteMessage",
          lambda w: w.set_role("function", *ALL_BUT_SQS, (["sqs:*"], w.queue_arn),
                               (["sqs:Rec*", "sqs:Send*", "sqs:Get*", "sqs:Change*"], "*"))),
    _case("deployed-role", RED, "may not sqs:SendMessage on",
          lambda w: w.set_role("scheduler", (["sqs:*"], w.queue_arn))),
    _case("deployed-producer", RED, "may not s3:DeleteObject on",
          lambda w: (w.set_role("producer", (["sqs:*", "dynamodb:*", "s3:PutObject",
                                              "scheduler:*", "iam:PassRole"], "*")),
                     setattr(w, "producer_role", w.role_arn("producer")))),
    _case("deployed-caller", RED, "may not lambda:InvokeFunction on",
          lambda w: (_called(lambda w: w.name)(w), w.set_role("caller", (["s3:*"], "*")),
                     setattr(w, "caller_role", w.role_arn("caller")))),
    _case("deployed-caller", RED, "may not s3:GetObject on",
          lambda w: (_called(lambda w: w.name)(w),
                     w.set_role("caller", (["lambda:*", "s3:PutObject", "s3:DeleteObject"], "*")),
                     setattr(w, "caller_role", w.role_arn("caller")))),
    _case("deployed-direct-calls", RED, "there is no such function, alias or version",
          _called(lambda w: "no-such-function")),
    _case("deployed-direct-calls", RED, "there is no such function, alias or version",
          _called(lambda w: f"{w.name}:no-such-alias")),
    _case("deployed-direct-calls", AMBER, "that may be other code", _called(_with_an_alias)),
    _case("deployed-direct-calls", AMBER, "the idempotency table None",
          _called(_another_function)),
    _case("deployed-results", RED, "there is none of that name",
          _conf(result_backend=f"lambda-dynamodb://@{REGION}/no-such-table")),
    _case("deployed-alarms", AMBER, "No alarm watches Errors",
          lambda w: w.client("cloudwatch").delete_alarms(AlarmNames=[f"{w.name}-Errors"])),
    _case("deployed-alarms", AMBER, "are switched off",
          lambda w: w.set_oldest_message_alarm(ActionsEnabled=False)),
    _case("deployed-alarms", AMBER, "nobody is told",
          lambda w: w.set_oldest_message_alarm(AlarmActions=[])),
    _case("deployed-alarms", AMBER, "goes off at 11 only. As the infrastructure makes it, it must",
          lambda w: w.set_dead_letter_alarm(Threshold=10)),
    _case("deployed-alarms", AMBER, "goes off at 0, which is always",
          lambda w: w.set_dead_letter_alarm(ComparisonOperator="GreaterThanOrEqualToThreshold")),
    _case("deployed-alarms", AMBER, "compares by LessThanThreshold",
          lambda w: w.set_oldest_message_alarm(ComparisonOperator="LessThanThreshold")),
    _case("deployed-alarms", AMBER, "is on the statistic Minimum",
          lambda w: w.set_oldest_message_alarm(Statistic="Minimum")),
]  # fmt: skip


def _stanza(**inputs: Any) -> Change:
    """Give the project a stanza, as it is deployed but for *inputs*."""

    def change(world: World) -> None:
        as_deployed: dict[str, Any] = {
            "app": "proj.celery:app",
            "name": world.name,
            "timeout": 30,
            "maximum_batching_window_in_seconds": 1,
            "schedules": True,
        }
        world.deployment = Deployment(**(as_deployed | inputs))

    return change


KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1"
STANZA_CASES = [
    ({"timeout": 60}, "deployed-function", "Timeout of the function is 30"),
    ({"memory_size": 2048}, "deployed-function", "MemorySize of the function is 1024"),
    ({"architecture": "x86_64"}, "deployed-function", "Architectures of the function is arm64"),
    ({"package_type": "image"}, "deployed-function", "PackageType of the function is Zip"),
    ({"handler": "proj.handler"}, "deployed-function", "must be proj.handler"),
    ({"runtime": "python3.12"}, "deployed-runtime", "Runtime of the function is python3.13"),
    ({"batch_size": 5}, "deployed-batch", "BatchSize is 10"),
    ({"maximum_batching_window_in_seconds": 3}, "deployed-batch", "must be 3"),
    ({"maximum_concurrency": 20}, "deployed-concurrency", "MaximumConcurrency is 10"),
    ({"max_receive_count": 6}, "deployed-redrive", "By pyproject.toml it must be 6"),
    ({"message_retention_seconds": 86_400}, "deployed-retention", "it must be 86,400 s"),
    ({"dlq_message_retention_seconds": 864_000}, "deployed-retention", "it must be 864,000 s"),
    ({"snap_start": True}, "deployed-alias", "SnapStart is off"),
    (
        {"environment": {"STAGE": "live"}},
        "deployed-environment",
        "STAGE of the function is missing",
    ),
    ({"app": "other:app"}, "deployed-environment", "the project's app is other:app"),
    ({"name": "another"}, "deployed-mapping", "the function is another"),
]


def test_what_the_stanza_says_is_deployed(world):
    _stanza()(world)

    assert world.differences() == []


@pytest.mark.parametrize(
    ("inputs", "rule", "words"), STANZA_CASES, ids=[str(each[0]) for each in STANZA_CASES]
)
def test_what_differs_from_the_stanza_is_found(world, inputs, rule, words):
    _stanza(**inputs)(world)

    found = world.the_difference()

    assert found.rule == rule
    assert words in found.sentence


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"Threshold": 900, "EvaluationPeriods": 5}, None),
        ({"Threshold": 901, "ComparisonOperator": "GreaterThanOrEqualToThreshold"}, None),
        ({"Threshold": 60, "Period": 300}, None),
        ({"Threshold": 3600}, "goes off at 3,601 only. By pyproject.toml it must at 901"),
        ({"EvaluationPeriods": 10}, "goes off after 600 s. By pyproject.toml it must after 300 s"),
        ({"EvaluationPeriods": 10, "DatapointsToAlarm": 5}, None),
        ({"Threshold": 900, "Statistic": "Average"}, "is on the statistic Average"),
        ({"TreatMissingData": "missing"}, "takes data that are missing as missing"),
    ],
)
def test_an_alarm_goes_off_no_later_than_that_of_the_stanza(world, options, words):
    _stanza(oldest_message_age_seconds=900)(world)
    world.set_oldest_message_alarm(**options)

    if words is None:
        assert world.differences() == []
    else:
        found = world.the_difference()
        assert words in found.sentence
        assert found.remedy.startswith("AWS is wrong: deploy the infrastructure anew. If the")


def test_one_alarm_of_several_that_is_right_is_enough(world):
    world.set_dead_letter_alarm(Threshold=100, AlarmName=f"{world.name}-many-dead")
    assert world.differences() == []


def test_the_key_of_the_stanza_is_that_of_queues_and_bucket(world):
    _stanza(kms_key_arn=KEY)(world)

    found = world.differences()

    assert [each.rule for each in found] == ["deployed-queue-encryption"] * 2 + ["deployed-bucket"]


def test_each_rule_has_a_case():
    ids = {each.id for each in registry if each.id.startswith("deployed-")}
    tested = {case.values[1] for case in CASES} | {rule for _, rule, _ in STANZA_CASES}

    assert ids == tested | {"deployed-access", "deployed-seen"}  # which have tests of their own


@pytest.mark.parametrize(("change", "rule", "grade", "words"), CASES)
def test_one_wrong_thing_is_found_alone(world, change, rule, grade, words):
    change(world)

    found = world.the_difference()

    assert (found.rule, found.grade) == (rule, grade), found
    assert words in found.sentence
    assert found.remedy.startswith(("AWS is wrong: ", "The settings are wrong: "))
    assert found.resource


@pytest.mark.parametrize("qualifier", ["", ":$LATEST", ":live"])
def test_direct_calls_go_where_the_messages_go(world, qualifier):
    called = _with_an_alias(world).partition(":")[0] + qualifier
    if qualifier == ":live":
        world.set_mapping(FunctionName=called)
    _called(lambda w: called)(world)
    world.caller_role = world.role_arn("caller")
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{called}"
    world.set_role("caller", (["lambda:InvokeFunction"], arn), (["s3:*"], "*"))

    assert world.differences() == []

    _called(lambda w: arn)(world)

    assert world.differences() == []


def test_a_mapping_on_the_alias_gets_the_snapshot(world):
    aws_lambda = world.client("lambda")
    world.set_function(SnapStart={"ApplyOn": "PublishedVersions"})
    version = aws_lambda.publish_version(FunctionName=world.name)["Version"]
    aws_lambda.create_alias(FunctionName=world.name, Name="live", FunctionVersion=version)
    world.set_mapping(FunctionName=f"{world.name}:live")
    _stanza(snap_start=True)(world)

    assert world.differences() == []

    _stanza(snap_start=True, alias="blue")(world)

    found = world.the_difference()
    assert found.rule == "deployed-alias"
    assert "must name the alias blue" in found.sentence


def test_a_function_that_is_gone_is_found(world):
    world.client("lambda").delete_function(FunctionName=world.name)

    found = world.the_difference()

    assert found.rule == "deployed-function"
    assert "does not exist" in found.sentence


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"queues": ["mail", "reports"], "functions": "each", "batch_size": 100},
        {"queues": {"mail": {"fifo": True}}, "schedules": False},
    ],
    ids=["least", "each", "fifo"],
)
def test_the_definition_is_what_the_check_wants(world, inputs):
    """What is deployed of the definition is green, when what ministack drops is added."""
    name = f"d{uuid.uuid4().hex[:12]}"
    deployment = Deployment(
        app="proj.celery:app", name=name, timeout=30, alarm_topic_arn=TOPIC, **inputs
    )
    functions = [each.name for each in compute(deployment).functions.values()]
    world.client("s3").put_object(Bucket=world.bucket, Key="code.zip", Body=empty_zip())
    cloudformation = world.client("cloudformation")
    code = {"CodeBucket": world.bucket, "CodeKey": "code.zip"}
    cloudformation.create_stack(
        StackName=name,
        TemplateBody=json.dumps(document(deployment)),
        Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in code.items()],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    cloudformation.get_waiter("stack_create_complete").wait(
        StackName=name, WaiterConfig={"Delay": 1}
    )
    aws_lambda = world.client("lambda")
    function = aws_lambda.get_function_configuration(FunctionName=functions[0])
    settings = Settings.from_app(
        world.app,
        function["Environment"]["Variables"]
        | {"LAMBDA_CELERY_ENDPOINT_URL": world.endpoint, "LAMBDA_CELERY_REGION": REGION},
    )
    deployed = replace(world, name=name, settings=settings, deployment=deployment)
    assert settings.idempotency_table is not None
    assert settings.payload_bucket is not None

    for each in functions:
        aws_lambda.put_function_recursion_config(FunctionName=each, RecursiveLoop="Allow")
        role = aws_lambda.get_function_configuration(FunctionName=each)["Role"]
        # Its simulation knows no context keys, such as iam:PassedToService.
        world.client("iam").put_role_policy(
            RoleName=role.rpartition("/")[2],
            PolicyName="without-a-condition",
            PolicyDocument=allow((["iam:PassRole"], "*")),
        )
    dynamodb = world.client("dynamodb")
    dynamodb.update_time_to_live(
        TableName=settings.idempotency_table,
        TimeToLiveSpecification={"Enabled": True, "AttributeName": "expiration"},
    )
    dynamodb.update_continuous_backups(
        TableName=settings.idempotency_table,
        PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True},
    )
    set_lifecycle(world, settings.payload_bucket, 36)

    assert deployed.differences() == []


@pytest.mark.parametrize(
    "scheme", ["lambda-dynamodb", "lambda_celery.results:DynamoDBBackend+dynamodb"]
)
def test_results_are_written_where_they_are_read(world, scheme):
    table = f"{world.name}-results"
    create_table(world, table, "ttl")
    for metric in ("ReadThrottleEvents", "WriteThrottleEvents"):
        world.set_alarm(f"{table}-{metric}", "AWS/DynamoDB", metric, "TableName", table)
    world.app.conf.result_backend = f"{scheme}://@{REGION}/{table}"

    assert world.differences() == []

    world.set_variables(CELERY_RESULT_BACKEND="lambda-dynamodb:///others")

    found = world.the_difference()
    assert found.rule == "deployed-results"
    assert "names another table" in found.sentence


class Refusing:
    """A client of which some operations are refused."""

    def __init__(self, client: Any, operations: set[str], code: str) -> None:
        self._client = client
        self._operations = operations
        self._code = code

    def __getattr__(self, name: str) -> Any:
        if name not in self._operations:
            return getattr(self._client, name)

        def refuse(**_: Any) -> None:
            error = {"Error": {"Code": self._code, "Message": "no"}}
            raise ClientError(error, name)  # type: ignore[arg-type]

        return refuse


@pytest.fixture
def refuse(monkeypatch) -> Callable[..., None]:
    """Refuse operations, as AWS does; ministack asks for no permission."""
    make = aws.client

    def refuse(*operations: str, code: str = "AccessDenied") -> None:
        monkeypatch.setattr(
            aws,
            "client",
            lambda *args, **options: Refusing(make(*args, **options), set(operations), code),
        )

    return refuse


@pytest.mark.parametrize(
    ("operation", "action"),
    [
        ("get_queue_attributes", "sqs:GetQueueAttributes"),
        ("list_event_source_mappings", "lambda:ListEventSourceMappings"),
        ("get_function_configuration", "lambda:GetFunctionConfiguration"),
        ("get_function_concurrency", "lambda:GetFunctionConcurrency"),
        ("get_function_recursion_config", "lambda:GetFunctionRecursionConfig"),
        ("describe_table", "dynamodb:DescribeTable"),
        ("describe_time_to_live", "dynamodb:DescribeTimeToLive"),
        ("describe_continuous_backups", "dynamodb:DescribeContinuousBackups"),
        ("head_bucket", "s3:ListBucket"),
        ("get_bucket_lifecycle_configuration", "s3:GetLifecycleConfiguration"),
        ("get_bucket_encryption", "s3:GetEncryptionConfiguration"),
        ("get_public_access_block", "s3:GetBucketPublicAccessBlock"),
        ("get_bucket_policy", "s3:GetBucketPolicy"),
        ("get_schedule_group", "scheduler:GetScheduleGroup"),
        ("get_role", "iam:GetRole"),
        ("simulate_principal_policy", "iam:SimulatePrincipalPolicy"),
        ("describe_alarms_for_metric", "cloudwatch:DescribeAlarmsForMetric"),
    ],
)
def test_what_is_refused_is_amber_and_the_rest_is_checked(world, refuse, operation, action):
    world.set_alarm("Errors", "AWS/Lambda", "Errors", "FunctionName", world.name, AlarmActions=[])
    world.set_lifecycle(3)
    refuse(operation)

    found = world.differences()

    refused = [each for each in found if each.rule == "deployed-access"]
    assert refused
    assert all(each.grade is Grade.AMBER for each in refused)
    assert all(f"allow {action}" in each.sentence for each in refused)
    others = {each.rule for each in found} - {"deployed-access"}
    assert others or operation == "get_queue_attributes"
    documented = (Path(__file__).parents[2] / "docs/operations/permissions.md").read_text()
    assert f'"{action}"' in documented


def test_what_is_not_there_is_never_green(aws_endpoint):
    name = f"none-{uuid.uuid4().hex[:12]}"
    settings = Settings(
        queue_url=f"{aws_endpoint}/{ACCOUNT}/{name}",
        idempotency_table=name,
        payload_bucket=name,
        schedule_group=name,
        schedule_role_arn=f"arn:aws:iam::{ACCOUNT}:role/{name}",
        endpoint_url=aws_endpoint,
        region=REGION,
    )
    nowhere = World(aws_endpoint, name, Celery("proj", set_as_current=False), settings)

    found = nowhere.check()

    assert {each.subject for each in found if each.grade is Grade.RED} == {
        f"queue {name}",
        f"table {name}",
        f"bucket {name}",
        f"schedule group {name}",
        f"role {name}",
    }
    assert [each for each in found if each.grade is Grade.GREEN] == []


def test_a_queue_alone_makes_nothing_else_green(world):
    """What a list is asked for is not there because the list is told."""
    world.client("lambda").delete_event_source_mapping(UUID=world.uuid)
    world.client("cloudwatch").delete_alarms(AlarmNames=[f"{world.name}-oldest"])

    green = {each.subject for each in world.check() if each.grade is Grade.GREEN}

    assert green == {
        f"dead-letter queue {world.name}-celery-dead-letters",
        f"table {world.name}",
        f"bucket {world.bucket}",
        f"schedule group {world.name}",
        f"role {world.name}-scheduler",
    }


def test_a_rule_alone_tells_what_it_could_not_see(world, refuse):
    refuse("get_bucket_encryption")
    deployed = Deployed(world.app, world.settings)
    facts = Facts(world.app, world.settings, Path(__file__).parent, deployed=deployed)

    found = list(registry.get("deployed-bucket", "test").find(facts))

    assert [each.rule for each in found] == ["deployed-access"]


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidClientTokenId"])
def test_credentials_that_are_no_good_are_red_and_told_once(world, refuse, code):
    refuse("get_queue_attributes", code=code)

    found = world.differences()

    assert [(each.rule, each.grade, each.subject) for each in found] == [
        ("deployed-access", Grade.RED, "AWS")
    ]
    assert "does not accept the credentials" in found[0].sentence


def test_nothing_is_asked_without_credentials(world, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setattr("lambda_celery.aws.clients._clients", {})
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)

    [found] = world.differences()

    assert (found.rule, found.grade) == ("deployed-access", Grade.RED)
    assert "No AWS credentials were found" in found.sentence


def test_an_endpoint_that_does_not_answer_is_red(world, monkeypatch):
    # Retries are botocore's own; their waiting is not what is tested.
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda seconds: None))
    world.settings = replace(world.settings, endpoint_url="http://127.0.0.1:9")

    found = world.differences()

    assert {(each.rule, each.grade) for each in found} == {("deployed-access", Grade.RED)}
    assert "all of sqs" in {each.subject for each in found}


def test_the_calls_are_bounded(world, monkeypatch):
    monkeypatch.setattr("lambda_celery.check.deployed.reading.MAXIMUM_CALLS", 3)

    found = world.differences()

    assert [(each.rule, each.grade) for each in found] == [("deployed-access", Grade.RED)]
    assert "the rest was not looked at" in found[0].sentence


def test_only_reading_operations_are_called(world, monkeypatch):
    asked = []
    make = aws.client

    class Recording:
        def __init__(self, client: Any) -> None:
            self._client = client

        def __getattr__(self, name: str) -> Any:
            asked.append(name)
            return getattr(self._client, name)

    monkeypatch.setattr(aws, "client", lambda *args, **options: Recording(make(*args, **options)))

    assert world.differences() == []
    assert {each.partition("_")[0] for each in asked} == {
        "describe", "get", "head", "list", "simulate",
    }  # fmt: skip


def test_variables_that_lambda_cannot_decrypt_are_not_green(world, monkeypatch):
    make = aws.client

    class Undecrypted:
        def __init__(self, client: Any) -> None:
            self._client = client

        def __getattr__(self, name: str) -> Any:
            called = getattr(self._client, name)
            if name != "get_function_configuration":
                return called
            error = {"Error": {"ErrorCode": "AccessDeniedException", "Message": "no key"}}
            return lambda **options: called(**options) | {"Environment": error}

    monkeypatch.setattr(aws, "client", lambda *args, **options: Undecrypted(make(*args, **options)))

    found = world.the_difference()

    assert found.rule == "deployed-access"
    assert "kms:Decrypt" in found.sentence
