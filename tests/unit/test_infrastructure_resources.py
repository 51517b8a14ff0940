"""The definition and its two templates: what fits together, and what cfn-lint says of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from cfnlint.api import ManualArgs, lint

from lambda_celery.exceptions import ConfigurationError
from lambda_celery.infrastructure.forms import cdk, cloudformation, sam
from lambda_celery.infrastructure.inputs import Deployment
from lambda_celery.infrastructure.resources import resources

SQS = "arn:aws:sqs:eu-central-1:123456789012:"
KEY = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"
MATRIX: dict[str, dict[str, Any]] = {
    "least": {},
    "several": {
        "queues": {"mail": {"fifo": True}, "new-report": {"timeout": 600}},
        "results": True,
        "provisioned_pollers": {"minimum": 2, "maximum": 20},
    },
    "each": {"queues": ["mail", "report"], "functions": "each", "alarm_email": "ops@example.org"},
    "brought": {
        "queues": {"m": {"queue_arn": SQS + "m", "dead_letter_queue_arn": SQS + "dead"}},
        "alarm_topic_arn": "arn:aws:sns:eu-central-1:123456789012:alarms",
    },
    "own": {
        "kms_key_arn": KEY,
        "results": True,
        "ses_rate": True,
        "tags": {"team": "shop"},
        "vpc": {"subnet_ids": ["subnet-12345678"], "security_group_ids": ["sg-12345678"]},
        "permissions_boundary": "arn:aws:iam::123456789012:policy/boundary",
        "warm_throughput": {"read": 12_000, "write": 8000},
        "layers": ["arn:aws:lambda:eu-central-1:123456789012:layer:binaries:3"],
        "parameters": {"Password": {"variable": "PASSWORD", "secret": True}},
    },
    "image": {"package_type": "image", "architecture": "x86_64", "schedules": False},
    "snap_start": {"snap_start": True, "batch_size": 100},
}


def deployment(**inputs: Any) -> Deployment:
    return Deployment(**{"app": "proj.celery:app", "name": "shop"} | inputs)


def of_type(template: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    return {n: r["Properties"] for n, r in template.items() if r["Type"] == kind}


@pytest.mark.parametrize("form", [cloudformation, sam], ids=["cloudformation", "sam"])
@pytest.mark.parametrize("inputs", MATRIX.values(), ids=MATRIX)
def test_cfn_lint_finds_nothing(form, inputs):
    if form is cloudformation and inputs.get("snap_start"):
        with pytest.raises(ConfigurationError, match="choose the form sam"):
            form.files(deployment(**inputs))
        return
    text = form.files(deployment(**inputs))["template.yaml"]

    assert lint(text, config=ManualArgs(regions=["eu-central-1"])) == []
    assert text == form.files(deployment(**inputs))["template.yaml"]


@pytest.mark.parametrize("inputs", MATRIX.values(), ids=MATRIX)
def test_every_queue_goes_with_its_function_and_its_dead_letter_queue(inputs):
    made = resources(deployment(**inputs)).resources
    functions = of_type(made, "AWS::Lambda::Function")
    aliases = of_type(made, "AWS::Lambda::Alias")
    queues = of_type(made, "AWS::SQS::Queue")

    for mapping in of_type(made, "AWS::Lambda::EventSourceMapping").values():
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert mapping["MetricsConfig"] == {"Metrics": ["EventCount"]}
        assert ("ScalingConfig" in mapping) != ("ProvisionedPollerConfig" in mapping)
        function = functions[aliases[mapping["FunctionName"]["Ref"]]["FunctionName"]["Ref"]]
        if isinstance(mapping["EventSourceArn"], dict):
            name = mapping["EventSourceArn"]["Fn::GetAtt"][0]
            queue = queues[name]
            assert queue["VisibilityTimeout"] == (
                6 * function["Timeout"] + mapping["MaximumBatchingWindowInSeconds"]
            )
            parked = queues[queue["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0]]
            [source] = parked["RedriveAllowPolicy"]["sourceQueueArns"]
            assert source["Fn::Sub"].endswith(":" + queue["QueueName"])
            assert parked.get("FifoQueue") == queue.get("FifoQueue")


@pytest.mark.parametrize("inputs", MATRIX.values(), ids=MATRIX)
def test_what_holds_messages_and_records_is_kept(inputs):
    made = resources(deployment(**inputs)).resources
    kept = {n for n, r in made.items() if r.get("DeletionPolicy") == "RetainExceptOnCreate"}

    # With the group of schedules go the messages in them, which send with the role.
    scheduled = {"ScheduleGroup", "SchedulerRole"} if inputs.get("schedules", True) else set()
    assert kept == scheduled | {
        "IdempotencyTable", "PayloadBucket", *of_type(made, "AWS::SQS::Queue")
    }  # fmt: skip
    assert all(made[name]["UpdateReplacePolicy"] == "Retain" for name in kept)
    # And each queue wants TLS.
    policies = of_type(made, "AWS::SQS::QueuePolicy")
    assert {p["Queues"][0]["Ref"] for p in policies.values()} == {*of_type(made, "AWS::SQS::Queue")}


@pytest.mark.parametrize(("schedules", "waiting"), [(True, 13 * 86_400), (False, 0)])
def test_records_and_bodies_outlive_a_redrive(schedules, waiting):
    """And bodies what their messages wait in EventBridge Scheduler before."""
    made = resources(deployment(message_retention_seconds=100_000, schedules=schedules)).resources
    variables = made["Function"]["Properties"]["Environment"]["Variables"]
    [rule] = made["PayloadBucket"]["Properties"]["LifecycleConfiguration"]["Rules"]

    life = int(variables["LAMBDA_CELERY_IDEMPOTENCY_TTL_SECONDS"])
    assert life == 2 * 100_000 + 1_209_600 + 86_400
    days = rule["ExpirationInDays"]
    assert (days - 1) * 86_400 < life + waiting <= days * 86_400


def test_several_queues_are_told_apart_by_their_celery_names():
    made = resources(deployment(**MATRIX["several"])).resources
    variables = made["Function"]["Properties"]["Environment"]["Variables"]
    queues = json.loads(variables["LAMBDA_CELERY_QUEUES"]["Fn::Sub"])

    assert queues["mail"]["url"] == "${MailQueue}"
    assert queues["new-report"]["dead_letter_queue_url"] == "${NewReportDeadLetterQueue}"
    assert "LAMBDA_CELERY_QUEUE_URL" not in variables
    assert {"FunctionMailMessages", "FunctionNewReportMessages"} <= made.keys()


def test_queues_that_are_there_are_not_made():
    made = resources(deployment(**MATRIX["brought"])).resources
    variables = made["Function"]["Properties"]["Environment"]["Variables"]

    assert not of_type(made, "AWS::SQS::Queue")
    assert made["FunctionMMessages"]["Properties"]["EventSourceArn"] == SQS + "m"
    assert variables["LAMBDA_CELERY_QUEUE_URL"] == {
        "Fn::Sub": "https://sqs.eu-central-1.${AWS::URLSuffix}/123456789012/m"
    }


def test_a_key_of_ones_own_is_used_everywhere_and_may_be_used_by_everybody():
    made = resources(deployment(**MATRIX["own"])).resources
    texts = {name: json.dumps(each) for name, each in made.items()}

    assert {name for name, text in texts.items() if KEY in text} == {
        "CeleryQueue", "CeleryDeadLetterQueue", "IdempotencyTable", "ResultsTable", "PayloadBucket",
        "SchedulerRole", "Function", "FunctionLogGroup", "FunctionRole", "ProducerPolicy",
        "CallerPolicy", "ResultsPolicy",
    }  # fmt: skip
    assert "ec2:CreateNetworkInterface" in texts["FunctionRole"]
    assert resources(deployment(**MATRIX["own"])).outputs["VpcEndpoints"]["Value"] == {
        "Fn::Sub": ",".join(
            f"com.amazonaws.${{AWS::Region}}.{each}"
            for each in ("sqs", "scheduler", "dynamodb", "s3")
        )
    }


@pytest.mark.parametrize("form", [sam, cdk])
def test_snap_start_with_parameters_is_refused_where_values_would_not_arrive(form):
    asked = deployment(snap_start=True, parameters={"Password": {"variable": "PASSWORD"}})

    with pytest.raises(ConfigurationError, match="choose the form terraform"):
        form.files(asked)


def test_sam_publishes_versions_with_snap_start_alone_and_asks_for_secrets():
    template = yaml.safe_load(sam.files(deployment(**MATRIX["snap_start"]))["template.yaml"])
    function = template["Resources"]["Function"]["Properties"]
    asked = sam.document(deployment(**MATRIX["own"]))

    assert function["AutoPublishAlias"] == "live"
    assert "AutoPublishAlias" not in json.dumps(asked)
    assert asked["Resources"]["Function"]["Properties"]["Events"]
    assert function["SnapStart"] == {"ApplyOn": "PublishedVersions"}
    assert function["Events"]["CeleryMessages"]["Properties"]["BatchSize"] == 100
    assert asked["Parameters"] == {"Password": {"Type": "String", "NoEcho": True}}


def test_a_role_of_the_functions_may_have_the_policy_of_callers():
    """Without a circle of dependencies: the policy names the functions, and refers to none."""
    made = resources(deployment(queues=["mail", "report"], functions="each")).resources
    [called, _] = made["CallerPolicy"]["Properties"]["PolicyDocument"]["Statement"]

    assert called["Action"] == "lambda:InvokeFunction"
    assert [each["Fn::Sub"].split(":function:")[1] for each in called["Resource"]] == [
        "shop-mail", "shop-mail:*", "shop-report", "shop-report:*",
    ]  # fmt: skip
    assert "Function" not in json.dumps(made["CallerPolicy"]).replace("InvokeFunction", "")


def test_alarms_watch_queues_functions_and_tables():
    made = resources(deployment(results=True, timeout=100, alarm_email="ops@example.org")).resources
    alarms = of_type(made, "AWS::CloudWatch::Alarm")

    assert {name: alarm["Threshold"] for name, alarm in alarms.items()} == {
        "CeleryDeadLetterAlarm": 0,
        "CeleryOldestMessageAlarm": 900,
        "CeleryOldestReceivedAlarm": 900,
        "CeleryFailedTasksAlarm": 0,
        "ErrorsAlarm": 0,
        "ThrottlesAlarm": 0,
        "DurationAlarm": 90_000,
        "IdempotencyReadThrottlesAlarm": 0,
        "IdempotencyWriteThrottlesAlarm": 0,
        "ResultsReadThrottlesAlarm": 0,
        "ResultsWriteThrottlesAlarm": 0,
    }
    assert all(alarm["AlarmActions"] == [{"Ref": "AlarmTopic"}] for alarm in alarms.values())
    assert made["Dashboard"]["Properties"]["DashboardName"] == "shop"


@pytest.mark.parametrize(
    ("given", "namespace"), [(None, "LambdaCelery"), ("Shop/Tasks", "Shop/Tasks"), ("off", None)]
)
def test_the_function_s_own_metrics_are_named_as_it_is_told(given, namespace):
    environment = {"LAMBDA_CELERY_METRICS_NAMESPACE": given} if given else {}
    made = resources(deployment(environment=environment)).resources
    own = {"LambdaCelery", "Shop/Tasks"}
    watched = {each["Namespace"] for each in of_type(made, "AWS::CloudWatch::Alarm").values()}
    shown = {
        metric[0]
        for widget in json.loads(made["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"])[
            "widgets"
        ]
        for metric in widget["properties"]["metrics"]
    }

    assert watched & own == shown & own == ({namespace} if namespace else set())


@pytest.mark.parametrize("functions", ["one", "each"])
def test_a_queue_more_leaves_what_is_there_as_it_is(functions):
    """Their names are fixed: what got another logical id would be made while it is there."""
    one = resources(deployment(queues=["mail"], functions=functions)).resources
    two = resources(deployment(queues=["mail", "report"], functions=functions)).resources
    # These name every queue, and are updated where they are.
    shared = {
        "AWS::Lambda::Function", "AWS::IAM::Role", "AWS::IAM::ManagedPolicy",
        "AWS::CloudWatch::Dashboard",
    }  # fmt: skip

    assert one.keys() < two.keys()
    for name, each in one.items():
        if each["Type"] in shared:
            names = {"FunctionName", "RoleName", "ManagedPolicyName", "DashboardName"}
            assert {(k, v) for k, v in each["Properties"].items() if k in names} == {
                (k, v) for k, v in two[name]["Properties"].items() if k in names
            }
        else:
            assert each == two[name], name
