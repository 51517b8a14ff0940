"""The one definition of a project's infrastructure, in CloudFormation's shape."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from lambda_celery.exceptions import ConfigurationError
from lambda_celery.infrastructure import policies
from lambda_celery.infrastructure.alarms import alarms, dashboard
from lambda_celery.infrastructure.computed import (
    ALL,
    Figures,
    FunctionFigures,
    QueueFigures,
    compute,
)
from lambda_celery.infrastructure.inputs import STANZA, Deployment, resource_name
from lambda_celery.table.schema import FAILURES_INDEX, TABLE_DEFINITION

#: As Retain, but for a stack whose very creation fails: what it leaves behind would have the names
#: that the next attempt needs.
_KEPT = {"DeletionPolicy": "RetainExceptOnCreate", "UpdateReplacePolicy": "Retain"}
_GONE = {"DeletionPolicy": "Delete", "UpdateReplacePolicy": "Delete"}
#: Of all variables together, as JSON.
_MAXIMUM_ENVIRONMENT_BYTES = 4096
#: What has a queue's name in its own, which nothing else of the type may have.
_NAMED = {
    "AWS::SQS::Queue": "QueueName",
    "AWS::Lambda::Function": "FunctionName",
    "AWS::IAM::Role": "RoleName",
    "AWS::CloudWatch::Alarm": "AlarmName",
}


@dataclass(frozen=True)
class Template:
    """A CloudFormation template: parameters, resources and outputs by their logical ids."""

    description: str
    parameters: dict[str, Any] = field(default_factory=dict)
    resources: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)


def resources(deployment: Deployment) -> Template:
    """Return everything that *deployment* needs on AWS.

    The code is a parameter: ``CodeBucket`` and ``CodeKey``, or ``ImageUri``. Raises
    :exc:`ConfigurationError` if two resources would be called the same.
    """
    return _Definition(deployment, compute(deployment)).template()


def camel_case(name: str) -> str:
    """Return *name* as a part of a logical id: ``new-mail`` becomes ``NewMail``."""
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", name))


def queue_id(queue: str, what: str) -> str:
    """Return the logical id of *what* of the Celery queue: ``MailDeadLetterQueue`` of ``mail``.

    It has the queue's name in any case. Names on AWS are fixed, so that a logical id that changed
    with the number of queues would have CloudFormation make what is there already.
    """
    return camel_case(queue) + what


def function_id(key: str, what: str) -> str:
    """Return the logical id of *what* of the function *key*: ``MailFunctionRole`` of ``mail``."""
    return what if key == ALL else camel_case(key) + what


def vpc_endpoints(deployment: Deployment) -> tuple[str, ...]:
    """Return the services that a function without a way to the internet needs an endpoint for."""
    scheduler = ("scheduler",) if deployment.schedules else ()
    return ("sqs", *scheduler, "dynamodb", "s3")


def _ref(logical_id: str) -> dict[str, Any]:
    return {"Ref": logical_id}


def _att(logical_id: str, name: str = "Arn") -> dict[str, Any]:
    return {"Fn::GetAtt": [logical_id, name]}


def _sub(text: str) -> dict[str, Any]:
    return {"Fn::Sub": text}


def _arn(service: str, rest: str) -> dict[str, Any]:
    place = "${AWS::Region}:${AWS::AccountId}"
    return _sub(f"arn:${{AWS::Partition}}:{service}:{place}:{rest}")


def _document(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _trust(service: str, **condition: Any) -> dict[str, Any]:
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": f"{service}.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    return _document(statement | ({"Condition": condition} if condition else {}))


def _tls_only(service: str, *arns: Any) -> dict[str, Any]:
    return _document(
        {
            "Sid": "TlsOnly",
            "Effect": "Deny",
            "Principal": "*",
            "Action": f"{service}:*",
            "Resource": list(arns) if len(arns) > 1 else arns[0],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
    )


class _Definition:
    """A template under way."""

    def __init__(self, deployment: Deployment, figures: Figures) -> None:
        self._inputs = deployment
        self._figures = figures
        self._made = Template(f"Celery tasks of {deployment.app} on AWS Lambda, fed by SQS.")

    def template(self) -> Template:
        """Return it with everything in it, in the order in which it is read best."""
        self._parameters()
        for queue in self._figures.queues.values():
            self._queue(queue)
        self._tables()
        self._bucket()
        if self._inputs.schedules:
            self._schedules()
        for function in self._figures.functions.values():
            self._function(function)
        self._producer()
        self._caller()
        self._alarms()
        self._outputs()
        self._refuse_too_large_an_environment()
        for name in self._made.parameters.keys() & self._made.resources.keys():
            raise ConfigurationError(
                f"{name} in parameters is the logical id of a resource, too: rename the parameter. "
                f"Change [{STANZA}]."
            )
        return self._made

    def _add(
        self, logical_id: str, kind: str, properties: dict[str, Any], why: str = "", **more: Any
    ) -> None:
        """Put in a resource. *why* stands beside it, *more* are its other attributes."""
        metadata = {"Why": why} if why else {}
        metadata |= more.pop("Metadata", {})
        attributes = more | ({"Metadata": metadata} if metadata else {})
        given = {name: each for name, each in properties.items() if each is not None}
        self._refuse_second(logical_id, kind, given)
        self._made.resources[logical_id] = {"Type": kind, **attributes, "Properties": given}

    def _refuse_second(self, logical_id: str, kind: str, properties: dict[str, Any]) -> None:
        if logical_id in self._made.resources:
            raise ConfigurationError(
                f"Two resources would have the logical id {logical_id}: rename a queue, so that "
                f"its letters and digits tell it from the others. Change [{STANZA}]."
            )
        if (name := properties.get(_NAMED.get(kind, ""))) is None:
            return
        for other in self._made.resources.values():
            # IAM does not tell large letters from small ones.
            if other["Type"] == kind and other["Properties"][_NAMED[kind]].lower() == name.lower():
                raise ConfigurationError(
                    f"Two of {kind} would be called {name} on AWS: rename a queue. Change "
                    f"[{STANZA}]."
                )

    def _refuse_too_large_an_environment(self) -> None:
        variables = {name: self._longest(each) for name, each in self._variables().items()}
        # As Lambda measures it.
        size = len(json.dumps(variables, separators=(",", ":"), ensure_ascii=False).encode())
        if size > _MAXIMUM_ENVIRONMENT_BYTES:
            raise ConfigurationError(
                f"The function's variables take up to {size} bytes, and Lambda takes "
                f"{_MAXIMUM_ENVIRONMENT_BYTES}: shorten environment, or name fewer queues in one "
                f"deployment. Change [{STANZA}]."
            )

    def _longest(self, value: Any) -> str:
        """Return a text as long as *value* can get on AWS."""
        match value:
            case str():
                return value
            case {"Fn::Sub": text}:
                return re.sub(r"\$\{([\w:]+)\}", lambda each: self._longest_of(each[1]), text)
            case {"Ref": name} | {"Fn::GetAtt": [name, _]}:
                return self._longest_of(name)
        raise AssertionError(f"{value} is no value of a variable.")

    def _longest_of(self, logical_id: str) -> str:
        if parameter := self._made.parameters.get(logical_id):
            # What is asked for is not known here.
            return str(parameter.get("Default", ""))
        if logical_id == "AWS::URLSuffix":
            return "amazonaws.com.cn"
        properties = self._made.resources[logical_id]["Properties"]
        match self._made.resources[logical_id]["Type"]:
            case "AWS::SQS::Queue":
                name = properties["QueueName"]
                return f"https://sqs.cn-northwest-1.amazonaws.com.cn/123456789012/{name}"
            case "AWS::IAM::Role":
                return f"arn:aws-us-gov:iam::123456789012:role/{properties['RoleName']}"
            case "AWS::S3::Bucket":
                return "b" * 63
        return str(properties.get("TableName") or properties["Name"])

    @property
    def _tags(self) -> list[dict[str, str]] | None:
        return [{"Key": key, "Value": each} for key, each in self._inputs.tags.items()] or None

    # ------------------------------------------------------------------ parameters
    def _parameters(self) -> None:
        code = {
            "zip": {
                "CodeBucket": {"Type": "String", "Description": "The bucket that the zip is in."},
                "CodeKey": {
                    "Type": "String",
                    "Description": "The key of the zip. Give each build a key of its own.",
                },
            },
            "image": {"ImageUri": {"Type": "String", "Description": "The image in ECR."}},
        }
        self._made.parameters.update(code[self._inputs.package_type])
        for name, parameter in self._inputs.parameters.items():
            self._made.parameters[name] = {
                "Type": "String",
                **({"Description": parameter.description} if parameter.description else {}),
                **({} if parameter.default is None else {"Default": parameter.default}),
                **({"NoEcho": True} if parameter.secret else {}),
            }

    # ------------------------------------------------------------------ messages
    def _queue(self, queue: QueueFigures) -> None:
        own, parked = (
            queue_id(queue.celery_name, "Queue"),
            queue_id(queue.celery_name, "DeadLetterQueue"),
        )
        common = {
            "FifoQueue": True if queue.fifo else None,
            "KmsMasterKeyId": self._inputs.kms_key_arn,
            "SqsManagedSseEnabled": None if self._inputs.kms_key_arn else True,
            "Tags": self._tags,
        }
        if not queue.queue_arn:
            properties = {
                "QueueName": queue.name,
                # Six times the function's time-out, and the batching window.
                "VisibilityTimeout": queue.visibility_timeout_seconds,
                "MessageRetentionPeriod": queue.message_retention_seconds,
                "RedrivePolicy": {
                    "deadLetterTargetArn": self._dead_letter_queue_arn(queue),
                    "maxReceiveCount": queue.max_receive_count,
                },
            }
            self._add(own, "AWS::SQS::Queue", properties | common, **_KEPT)
            self._queue_policy(own)
        if not queue.dead_letter_queue_arn:
            properties = {
                "QueueName": queue.dead_letter_queue_name,
                "MessageRetentionPeriod": self._inputs.dlq_message_retention_seconds,
                "RedriveAllowPolicy": {
                    "redrivePermission": "byQueue",
                    # By its name: the queue itself names this one.
                    "sourceQueueArns": [_arn("sqs", queue.name)],
                },
            }
            self._add(parked, "AWS::SQS::Queue", properties | common, **_KEPT)
            self._queue_policy(parked)

    def _queue_policy(self, logical_id: str) -> None:
        self._add(
            f"{logical_id}Policy",
            "AWS::SQS::QueuePolicy",
            {
                "Queues": [_ref(logical_id)],
                "PolicyDocument": _tls_only("sqs", _att(logical_id)),
            },
        )

    def _queue_arn(self, queue: QueueFigures) -> Any:
        return queue.queue_arn or _att(queue_id(queue.celery_name, "Queue"))

    def _dead_letter_queue_arn(self, queue: QueueFigures) -> Any:
        return queue.dead_letter_queue_arn or _att(queue_id(queue.celery_name, "DeadLetterQueue"))

    def _url(self, queue: QueueFigures, what: str) -> str:
        """Return the URL of a queue or a dead-letter queue, as ``Fn::Sub`` takes it."""
        arn = queue.queue_arn if what == "Queue" else queue.dead_letter_queue_arn
        if arn is None:
            return f"${{{queue_id(queue.celery_name, what)}}}"
        region, account, name = arn.split(":")[3:]
        return f"https://sqs.{region}.${{AWS::URLSuffix}}/{account}/{name}"

    def _url_value(self, queue: QueueFigures, what: str) -> Any:
        url = self._url(queue, what)
        return _ref(url[2:-1]) if url.startswith("${") else _sub(url)

    # ------------------------------------------------------------------ records and bodies
    def _tables(self) -> None:
        warm = self._inputs.warm_throughput
        self._table(
            "IdempotencyTable",
            "idempotency",
            "expiration",
            **TABLE_DEFINITION,
            # A new table takes about 4,000 writes a second, and grows from there.
            WarmThroughput=warm
            and {"ReadUnitsPerSecond": warm.read, "WriteUnitsPerSecond": warm.write},
        )
        if self._inputs.results:
            self._table(
                "ResultsTable",
                "results",
                "ttl",
                AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
                KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            )

    def _table(self, logical_id: str, name: str, ttl: str, **more: Any) -> None:
        key = self._inputs.kms_key_arn
        properties = {
            "TableName": f"{self._inputs.name}-{name}",
            "BillingMode": "PAY_PER_REQUEST",
            "TimeToLiveSpecification": {"AttributeName": ttl, "Enabled": True},
            "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
            "SSESpecification": key
            and {"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": key},
            "Tags": self._tags,
            **more,
        }
        # Without its records, what is sent again runs again. Results are no such loss.
        kept = _KEPT if name == "idempotency" else _GONE
        self._add(logical_id, "AWS::DynamoDB::Table", properties, **kept)

    def _bucket(self) -> None:
        key = self._inputs.kms_key_arn
        encryption: dict[str, Any] = {
            "ServerSideEncryptionByDefault": (
                {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
                if key
                else {"SSEAlgorithm": "AES256"}
            )
        }
        properties = {
            # No name of its own: names of buckets are everybody's.
            "BucketEncryption": {
                "ServerSideEncryptionConfiguration": [
                    encryption | ({"BucketKeyEnabled": True} if key else {})
                ]
            },
            "PublicAccessBlockConfiguration": {
                "BlockPublicAcls": True,
                "BlockPublicPolicy": True,
                "IgnorePublicAcls": True,
                "RestrictPublicBuckets": True,
            },
            "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
            "LifecycleConfiguration": {
                "Rules": [
                    {
                        "Id": "expire-payloads",
                        "Status": "Enabled",
                        "ExpirationInDays": self._figures.payload_days,
                        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
                    }
                ]
            },
            "Tags": self._tags,
        }
        self._add(
            "PayloadBucket",
            "AWS::S3::Bucket",
            properties,
            "Bodies that are too big for SQS. The function deletes them when their message is "
            "settled; the lifecycle removes what nobody came for.",
            **_KEPT,
        )
        self._add(
            "PayloadBucketPolicy",
            "AWS::S3::BucketPolicy",
            {
                "Bucket": _ref("PayloadBucket"),
                "PolicyDocument": _tls_only(
                    "s3", _att("PayloadBucket"), _sub("${PayloadBucket.Arn}/*")
                ),
            },
        )

    # ------------------------------------------------------------------ schedules
    def _schedules(self) -> None:
        self._add(
            "ScheduleGroup",
            "AWS::Scheduler::ScheduleGroup",
            {"Name": self._inputs.name, "Tags": self._tags},
            "What is due later than SQS can delay it, and the entries of beat_schedule. With the "
            "group, the messages that wait in its schedules would be deleted.",
            **_KEPT,
        )
        self._add(
            "SchedulerRole",
            "AWS::IAM::Role",
            {
                "RoleName": f"{self._inputs.name}-scheduler",
                "AssumeRolePolicyDocument": _trust(
                    "scheduler",
                    StringEquals={
                        "aws:SourceAccount": _ref("AWS::AccountId"),
                        "aws:SourceArn": _att("ScheduleGroup"),
                    },
                ),
                "PermissionsBoundary": self._inputs.permissions_boundary,
                "Policies": [
                    {
                        "PolicyName": "send-messages",
                        "PolicyDocument": self._policy(policies.scheduler(self._inputs)),
                    }
                ],
                "Tags": self._tags,
            },
            "The schedules that are kept send with it.",
            **_KEPT,
        )

    # ------------------------------------------------------------------ functions
    def _function(self, function: FunctionFigures) -> None:
        inputs = self._inputs
        own, role = function_id(function.key, "Function"), function_id(function.key, "FunctionRole")
        log_group = function_id(function.key, "FunctionLogGroup")
        is_zip = inputs.package_type == "zip"
        code = {"S3Bucket": _ref("CodeBucket"), "S3Key": _ref("CodeKey")}
        self._add(
            own,
            "AWS::Lambda::Function",
            {
                "FunctionName": function.name,
                "Description": "Runs Celery tasks.",
                "PackageType": "Zip" if is_zip else "Image",
                "Code": code if is_zip else {"ImageUri": _ref("ImageUri")},
                "Handler": inputs.handler if is_zip else None,
                "Runtime": inputs.runtime if is_zip else None,
                "ImageConfig": None if is_zip else {"Command": [inputs.handler]},
                "Architectures": [inputs.architecture],
                "MemorySize": inputs.memory_size,
                "Timeout": function.timeout_seconds,
                "Role": _att(role),
                "RecursiveLoop": "Allow",
                "LoggingConfig": {"LogGroup": _ref(log_group)},
                "Environment": {"Variables": self._variables()},
                "KmsKeyArn": inputs.kms_key_arn,
                "VpcConfig": inputs.vpc
                and {
                    "SubnetIds": list(inputs.vpc.subnet_ids),
                    "SecurityGroupIds": list(inputs.vpc.security_group_ids),
                },
                "Layers": list(inputs.layers) or None,
                "SnapStart": {"ApplyOn": "PublishedVersions"} if inputs.snap_start else None,
                "Tags": self._tags,
            },
            "RecursiveLoop: retries, long countdowns and chains go back to the function's own "
            "queue, and AWS would stop them after 16 rounds.",
        )
        version, alias = f"{own}Version", f"{own}Alias"
        self._add(version, "AWS::Lambda::Version", {"FunctionName": _ref(own)})
        self._add(
            alias,
            "AWS::Lambda::Alias",
            {
                "FunctionName": _ref(own),
                "FunctionVersion": _att(version, "Version"),
                "Name": inputs.alias,
            },
            "What the mappings invoke. Rolling back is naming an older version here.",
        )
        for name in function.queues:
            self._mapping(self._figures.queues[name], own, _ref(alias))
        self._add(
            log_group,
            "AWS::Logs::LogGroup",
            {
                "LogGroupName": function.log_group,
                "RetentionInDays": inputs.log_retention_days,
                "KmsKeyId": inputs.kms_key_arn,
                "Tags": self._tags,
            },
            **_GONE,
        )
        statements = policies.function(inputs)
        self._add(
            role,
            "AWS::IAM::Role",
            {
                "RoleName": function.name,
                "AssumeRolePolicyDocument": _trust("lambda"),
                "PermissionsBoundary": inputs.permissions_boundary,
                "Policies": [
                    {
                        "PolicyName": "run-tasks",
                        "PolicyDocument": self._policy(statements, function),
                    }
                ],
                "Tags": self._tags,
            },
        )

    def _mapping(self, queue: QueueFigures, function: str, invoked: Any) -> None:
        pollers = self._inputs.provisioned_pollers
        # A function of its own has the queue's name in its id already.
        of = "" if self._inputs.functions == "each" else camel_case(queue.celery_name)
        self._add(
            f"{function}{of}Messages",
            "AWS::Lambda::EventSourceMapping",
            {
                "EventSourceArn": self._queue_arn(queue),
                "FunctionName": invoked,
                "BatchSize": queue.batch_size,
                "MaximumBatchingWindowInSeconds": queue.window_seconds,
                "FunctionResponseTypes": ["ReportBatchItemFailures"],
                "ScalingConfig": queue.maximum_concurrency
                and {"MaximumConcurrency": queue.maximum_concurrency},
                "ProvisionedPollerConfig": pollers
                and {"MinimumPollers": pollers.minimum, "MaximumPollers": pollers.maximum},
                "MetricsConfig": {"Metrics": ["EventCount"]},
                "Tags": self._tags,
            },
            "Without ReportBatchItemFailures, Lambda would delete every message of a batch, the "
            "failed ones too. The limit is the pollers' own: reserved concurrency would throttle, "
            "and a throttled message has been received once more for nothing.",
        )

    def _variables(self) -> dict[str, Any]:
        inputs, queues = self._inputs, list(self._figures.queues.values())
        variables: dict[str, Any] = {"LAMBDA_CELERY_APP": inputs.app}
        if len(queues) == 1:
            variables["LAMBDA_CELERY_QUEUE_URL"] = self._url_value(queues[0], "Queue")
            variables["LAMBDA_CELERY_DEAD_LETTER_QUEUE_URL"] = self._url_value(
                queues[0], "DeadLetterQueue"
            )
            variables["LAMBDA_CELERY_MAX_RECEIVE_COUNT"] = str(queues[0].max_receive_count)
        else:
            variables["LAMBDA_CELERY_QUEUES"] = self._queue_settings()
        variables |= {
            "LAMBDA_CELERY_IDEMPOTENCY_TABLE": _ref("IdempotencyTable"),
            "LAMBDA_CELERY_IDEMPOTENCY_TTL_SECONDS": str(self._figures.record_life_seconds),
            "LAMBDA_CELERY_PAYLOAD_BUCKET": _ref("PayloadBucket"),
        }
        if inputs.schedules:
            variables["LAMBDA_CELERY_SCHEDULE_GROUP"] = _ref("ScheduleGroup")
            variables["LAMBDA_CELERY_SCHEDULE_ROLE_ARN"] = _att("SchedulerRole")
        if inputs.results:
            variables["CELERY_RESULT_BACKEND"] = _sub("lambda-dynamodb:///${ResultsTable}")
        variables |= inputs.environment
        return variables | {
            parameter.variable: _ref(name) for name, parameter in inputs.parameters.items()
        }

    def _queue_settings(self) -> Any:
        """Return what tells the queues apart, by Celery's names for them, as JSON."""
        return _sub(
            json.dumps(
                {
                    queue.celery_name: {
                        "url": self._url(queue, "Queue"),
                        "dead_letter_queue_url": self._url(queue, "DeadLetterQueue"),
                        "max_receive_count": queue.max_receive_count,
                        "idempotency_ttl_seconds": queue.record_life_seconds,
                    }
                    for queue in self._figures.queues.values()
                },
                separators=(",", ":"),  # Lambda takes no more than 4 KB of variables
            )
        )

    # ------------------------------------------------------------------ policies
    def _policy(
        self, statements: tuple[policies.Statement, ...], function: FunctionFigures | None = None
    ) -> dict[str, Any]:
        arns = self._arns(function)
        made = []
        for statement in statements:
            on = arns[statement.on]
            if on:
                actions = list(statement.actions)
                made.append(
                    {
                        "Sid": statement.sid,
                        "Effect": "Allow",
                        "Action": actions if len(actions) > 1 else actions[0],
                        "Resource": on if len(on) > 1 else on[0],
                    }
                    | (
                        {"Condition": {"StringEquals": dict(statement.condition)}}
                        if statement.condition
                        else {}
                    )
                )
        return _document(*made)

    def _arns(self, function: FunctionFigures | None) -> dict[str, list[Any]]:
        """Return the ARNs of each kind of resource, as *function* sees them if there is one."""
        queues = list(self._figures.queues.values())
        arns: dict[str, list[Any]] = {
            "queues": [self._queue_arn(each) for each in queues],
            "standard_dead_letter_queues": [
                self._dead_letter_queue_arn(each) for each in queues if not each.fifo
            ],
            "idempotency_table": [_att("IdempotencyTable")],
            "failures_index": [_sub(f"${{IdempotencyTable.Arn}}/index/{FAILURES_INDEX}")],
            "results_table": [_att("ResultsTable")],
            "payloads": [_sub("${PayloadBucket.Arn}/*")],
            "payload_bucket": [_att("PayloadBucket")],
            # By their names: a role of theirs may have the policy, too. With an alias or a version
            # it is another resource.
            "functions": [
                _arn("lambda", f"function:{each.name}{qualifier}")
                for each in self._figures.functions.values()
                for qualifier in ("", ":*")
            ],
            "schedules": [_arn("scheduler", "schedule/${ScheduleGroup}/eta-*")],
            "scheduler_role": [_att("SchedulerRole")],
            "kms_key": [self._inputs.kms_key_arn],
            "everything": ["*"],
        }
        if function is not None:
            own = [each for each in queues if each.celery_name in function.queues]
            others = [each for each in queues if each not in own]
            arns |= {
                "own_queues": [self._queue_arn(each) for each in own],
                "own_dead_letter_queues": [self._dead_letter_queue_arn(each) for each in own],
                "other_queues": [self._queue_arn(each) for each in others],
                "log_group": [_att(function_id(function.key, "FunctionLogGroup"))],
            }
        return arns

    def _producer(self) -> None:
        self._add(
            "ProducerPolicy",
            "AWS::IAM::ManagedPolicy",
            {
                "ManagedPolicyName": f"{self._inputs.name}-producer",
                "Description": "Send Celery tasks to the queues.",
                "PolicyDocument": self._policy(policies.producer(self._inputs)),
            },
            "Attach it to the role of whatever calls delay(): the web application, a cron job.",
        )
        if self._inputs.results:
            functions = self._figures.functions.values()
            self._add(
                "ResultsPolicy",
                "AWS::IAM::ManagedPolicy",
                {
                    "ManagedPolicyName": f"{self._inputs.name}-results",
                    "Description": "Keep and read the results of Celery tasks.",
                    "Roles": [_ref(function_id(each.key, "FunctionRole")) for each in functions],
                    "PolicyDocument": self._policy(policies.results(self._inputs)),
                },
                "Attach it to the role of whatever reads results or starts chords, too.",
            )

    def _caller(self) -> None:
        self._add(
            "CallerPolicy",
            "AWS::IAM::ManagedPolicy",
            {
                "ManagedPolicyName": f"{self._inputs.name}-caller",
                "Description": "Call Celery tasks on the functions directly.",
                "PolicyDocument": self._policy(policies.caller(self._inputs)),
            },
            "Attach it to the role of whatever calls the function directly: lambda_celery.invoke.",
        )

    # ------------------------------------------------------------------ alarms
    def _alarms(self) -> None:
        topic: Any = self._inputs.alarm_topic_arn
        if self._inputs.alarm_email:
            topic = _ref("AlarmTopic")
            self._add(
                "AlarmTopic",
                "AWS::SNS::Topic",
                {
                    "TopicName": f"{self._inputs.name}-alarms",
                    "Subscription": [{"Protocol": "email", "Endpoint": self._inputs.alarm_email}],
                    "Tags": self._tags,
                },
            )
        for alarm in alarms(self._inputs, self._figures):
            dimension, watched = alarm.dimension
            prefix = (
                f"{self._inputs.name}-{resource_name(alarm.of)}"
                if dimension == "QueueName"
                else watched
            )
            self._add(
                function_id(alarm.of, alarm.what)
                if dimension == "FunctionName"
                else queue_id(alarm.of, alarm.what),
                "AWS::CloudWatch::Alarm",
                {
                    "AlarmName": f"{prefix}-{alarm.slug}",
                    "AlarmDescription": alarm.told,
                    "Namespace": alarm.namespace,
                    "MetricName": alarm.metric,
                    "Dimensions": [{"Name": dimension, "Value": watched}],
                    "Statistic": alarm.statistic,
                    "Period": 60,
                    "EvaluationPeriods": alarm.minutes,
                    "Threshold": alarm.threshold,
                    "ComparisonOperator": "GreaterThanThreshold",
                    "TreatMissingData": "notBreaching",
                    "AlarmActions": [topic] if topic else None,
                    "Tags": self._tags,
                },
            )
        self._add(
            "Dashboard",
            "AWS::CloudWatch::Dashboard",
            {
                "DashboardName": self._inputs.name,
                "DashboardBody": _sub(json.dumps(dashboard(self._inputs, self._figures))),
            },
        )

    # ------------------------------------------------------------------ outputs
    def _output(self, logical_id: str, description: str, value: Any) -> None:
        if logical_id in self._made.outputs:
            raise ConfigurationError(
                f"Two outputs would be called {logical_id}: rename a queue. Change [{STANZA}]."
            )
        self._made.outputs[logical_id] = {"Description": description, "Value": value}

    def _output_id(self, of: str, what: str) -> str:
        """Return the name of an output of a queue or a function. An output may be renamed."""
        is_the_only_one = len(self._figures.queues) == 1 or of == ALL
        return what if is_the_only_one else camel_case(of) + what

    def _outputs(self) -> None:
        queues = self._figures.queues.values()
        for queue in queues:
            self._output(
                self._output_id(queue.celery_name, "QueueUrl"),
                "LAMBDA_CELERY_QUEUE_URL of the producer."
                if len(queues) == 1
                else f"The queue for {queue.celery_name}.",
                self._url_value(queue, "Queue"),
            )
            self._output(
                self._output_id(queue.celery_name, "DeadLetterQueueUrl"),
                "Where messages are parked, with the reason as attributes."
                + (
                    " LAMBDA_CELERY_DEAD_LETTER_QUEUE_URL of a producer that schedules."
                    if len(queues) == 1
                    else ""
                ),
                self._url_value(queue, "DeadLetterQueue"),
            )
        if len(queues) > 1:
            self._output("Queues", "LAMBDA_CELERY_QUEUES of the producer.", self._queue_settings())
        self._output(
            "PayloadBucketName",
            "LAMBDA_CELERY_PAYLOAD_BUCKET of the producer.",
            _ref("PayloadBucket"),
        )
        self._output(
            "IdempotencyTableName",
            "LAMBDA_CELERY_IDEMPOTENCY_TABLE of whatever calls revoke().",
            _ref("IdempotencyTable"),
        )
        if self._inputs.schedules:
            self._output(
                "ScheduleGroupName",
                "LAMBDA_CELERY_SCHEDULE_GROUP of the producer.",
                _ref("ScheduleGroup"),
            )
            self._output(
                "SchedulerRoleArn",
                "LAMBDA_CELERY_SCHEDULE_ROLE_ARN of the producer.",
                _att("SchedulerRole"),
            )
        if self._inputs.results:
            self._output(
                "ResultBackend",
                "CELERY_RESULT_BACKEND of the producer.",
                _sub("lambda-dynamodb:///${ResultsTable}"),
            )
            self._output(
                "ResultsPolicyArn",
                "Attach it to the role of whatever reads results or starts chords.",
                _ref("ResultsPolicy"),
            )
        for function in self._figures.functions.values():
            self._output(
                self._output_id(function.key, "FunctionName"),
                "The function that runs the tasks: LAMBDA_CELERY_FUNCTION of whatever calls it "
                "directly.",
                _ref(function_id(function.key, "Function")),
            )
        self._output(
            "ProducerPolicyArn",
            "Attach it to the role of whatever calls delay().",
            _ref("ProducerPolicy"),
        )
        self._output(
            "CallerPolicyArn",
            "Attach it to the role of whatever calls the function directly.",
            _ref("CallerPolicy"),
        )
        if self._inputs.vpc:
            self._output(
                "VpcEndpoints",
                "Services that the subnets must reach, by endpoints or the internet.",
                _sub(
                    ",".join(
                        f"com.amazonaws.${{AWS::Region}}.{each}"
                        for each in vpc_endpoints(self._inputs)
                    )
                ),
            )
