"""Whether AWS's own descriptions of its APIs, which botocore has, take what a template says.

CloudFormation hands most properties to an API under the same name. What such an API takes is in
its service model: lengths, ranges, patterns, lists of words. SQS's attributes are text there, and
their ranges stand in its documentation alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import botocore.session
from botocore.model import ListShape, MapShape, Shape, StructureShape

#: Which operation takes the properties of a type, and which of them are called otherwise there.
OPERATIONS = {
    "AWS::CloudWatch::Alarm": ("cloudwatch", "PutMetricAlarm"),
    "AWS::CloudWatch::Dashboard": ("cloudwatch", "PutDashboard"),
    "AWS::DynamoDB::Table": ("dynamodb", "CreateTable"),
    "AWS::KMS::Key": ("kms", "CreateKey"),
    "AWS::Lambda::Alias": ("lambda", "CreateAlias"),
    "AWS::Lambda::EventSourceMapping": ("lambda", "CreateEventSourceMapping"),
    "AWS::Lambda::Function": ("lambda", "CreateFunction"),
    "AWS::Logs::LogGroup": ("logs", "CreateLogGroup"),
    "AWS::SNS::Topic": ("sns", "CreateTopic"),
    "AWS::SQS::Queue": ("sqs", "CreateQueue"),
    "AWS::Scheduler::ScheduleGroup": ("scheduler", "CreateScheduleGroup"),
}
RENAMED = {
    ("AWS::Lambda::Function", "KmsKeyArn"): "KMSKeyArn",
    ("AWS::Logs::LogGroup", "LogGroupName"): "logGroupName",
    ("AWS::SNS::Topic", "TopicName"): "Name",
}
#: Properties that other operations take, or CloudFormation alone, or in another form.
ELSEWHERE = {
    "AWS::CloudWatch::Dashboard": {"DashboardBody"},
    "AWS::DynamoDB::Table": {
        "PointInTimeRecoverySpecification", "SSESpecification", "TimeToLiveSpecification",
    },
    "AWS::KMS::Key": {"EnableKeyRotation", "Enabled", "KeyPolicy", "PendingWindowInDays"},
    "AWS::Lambda::EventSourceMapping": {"Tags"},
    "AWS::Lambda::Function": {"Code", "RecursiveLoop", "ReservedConcurrentExecutions", "Tags"},
    "AWS::Logs::LogGroup": {"KmsKeyId", "RetentionInDays", "Tags"},
    "AWS::SNS::Topic": {"KmsMasterKeyId", "Subscription"},
    "AWS::SQS::Queue": {
        "KmsMasterKeyId", "RedriveAllowPolicy", "RedrivePolicy", "SqsManagedSseEnabled", "Tags",
    },
}  # fmt: skip
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html
QUEUE_RANGES = {
    "DelaySeconds": (0, 900),
    "KmsDataKeyReusePeriodSeconds": (60, 86_400),
    "MaximumMessageSize": (1_024, 1_048_576),
    "MessageRetentionPeriod": (60, 1_209_600),
    "ReceiveMessageWaitTimeSeconds": (0, 20),
    "VisibilityTimeout": (0, 43_200),
}
MAXIMUM_RECEIVE_COUNT = (1, 1_000)
QUEUE_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}|(?=.{1,80}$)[A-Za-z0-9_-]+\.fifo")
#: A name alone; the model's figure is that of an ARN.
#: https://docs.aws.amazon.com/lambda/latest/api/API_CreateFunction.html
MAXIMUM_FUNCTION_NAME = 64
QUEUE_FLAGS = {"ContentBasedDeduplication", "FifoQueue"}
#: It keeps the models that it has read.
SESSION = botocore.session.get_session()


def refusals(resources: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each property of *resources* that AWS would refuse.

    What CloudFormation fills in while it deploys (``Ref``, ``Fn::GetAtt``) is taken for right.
    """
    found: list[str] = []
    for name, resource in resources.items():
        kind = resource["Type"]
        if kind not in OPERATIONS:
            continue
        service, operation = OPERATIONS[kind]
        shape = SESSION.get_service_model(service).operation_model(operation).input_shape
        for key, value in resource.get("Properties", {}).items():
            place = f"{name}.{key}"
            if kind == "AWS::SQS::Queue":
                found += _of_queue(place, key, value)
            if (kind, key) == ("AWS::Lambda::Function", "FunctionName") and isinstance(value, str):
                found += _of_range(f"The length of {place}", len(value), 1, MAXIMUM_FUNCTION_NAME)
                continue
            if key in ELSEWHERE.get(kind, ()) or kind == "AWS::SQS::Queue":
                continue
            member = shape.members.get(RENAMED.get((kind, key), key))
            if member is None:
                found.append(f"{place} is nothing that {service}:{operation} takes.")
            else:
                found += _of_shape(place, value, member)
    return found


def _of_queue(place: str, key: str, value: Any) -> Iterator[str]:
    if key == "RedrivePolicy":
        yield from _of_range(place, value["maxReceiveCount"], *MAXIMUM_RECEIVE_COUNT)
    elif key == "QueueName" and isinstance(value, str):
        if not QUEUE_NAME.fullmatch(value):
            yield f"{place} is {value!r}, which is no name of a queue."
    elif key in QUEUE_RANGES:
        yield from _of_range(place, value, *QUEUE_RANGES[key])
    elif key not in ELSEWHERE["AWS::SQS::Queue"] | QUEUE_FLAGS | {"QueueName"}:
        yield f"{place} is no attribute of a queue that is known here."


def _of_range(place: str, value: Any, least: float | None, most: float | None) -> Iterator[str]:
    if isinstance(value, dict):
        return
    number = float(value)
    if (least is not None and number < least) or (most is not None and number > most):
        yield f"{place} is {value}, and AWS takes {least} to {most}."


def _of_shape(place: str, value: Any, shape: Shape) -> Iterator[str]:
    if isinstance(value, dict) and any(each == "Ref" or "::" in each for each in value):
        return
    least, most = (shape.metadata.get(each) for each in ("min", "max"))
    match shape:
        case StructureShape():
            for key, each in value.items():
                if key not in shape.members:
                    yield f"{place}.{key} is nothing that AWS takes."
                else:
                    yield from _of_shape(f"{place}.{key}", each, shape.members[key])
        case ListShape():
            yield from _of_range(f"The number of {place}", len(value), least, most)
            for number, each in enumerate(value):
                yield from _of_shape(f"{place}[{number}]", each, shape.member)
        case MapShape():
            for key, each in value.items():
                yield from _of_shape(f"The name {key} in {place}", key, shape.key)
                yield from _of_shape(f"{place}.{key}", each, shape.value)
        case _ if shape.type_name in {"double", "float", "integer", "long"}:
            yield from _of_range(place, value, least, most)
        case _ if shape.type_name == "string":
            yield from _of_text(place, str(value), shape)


def _of_text(place: str, text: str, shape: Any) -> Iterator[str]:
    yield from _of_range(
        f"The length of {place}",
        len(text),
        shape.metadata.get("min"),
        shape.metadata.get("max"),
    )
    if shape.enum and text not in shape.enum:
        yield f"{place} is {text!r}, and AWS takes {', '.join(shape.enum)}."
    pattern = shape.metadata.get("pattern")
    if pattern and not re.fullmatch(pattern, text):
        yield f"{place} is {text!r}, and AWS takes {pattern}."
