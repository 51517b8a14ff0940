"""The CDK construct: everything that a deployment needs, in a stack of the user's own.

Nothing in this package imports it: it starts Node.js.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

try:
    from aws_cdk import (
        CfnDeletionPolicy,
        Fn,
        Stack,
        aws_dynamodb,
        aws_iam,
        aws_kms,
        aws_lambda,
        aws_s3,
        aws_sqs,
    )
    from aws_cdk.cloudformation_include import CfnInclude
    from constructs import Construct
except ModuleNotFoundError as exc:
    raise ModuleNotFoundError(
        f"The construct needs {exc.name}: pip install 'lambda-celery[cdk]'.", name=exc.name
    ) from None

from lambda_celery.exceptions import ConfigurationError
from lambda_celery.infrastructure.computed import QueueFigures, compute
from lambda_celery.infrastructure.forms.cloudformation import as_document
from lambda_celery.infrastructure.forms.versions import with_versions_if_needed
from lambda_celery.infrastructure.inputs import OWN_VARIABLES, Deployment
from lambda_celery.infrastructure.resources import Template, function_id, queue_id, resources


class LambdaCelery(Construct):
    """Queues, tables, bucket, functions, roles, alarms: what *deployment* says.

    :ivar queues: the queues by their Celery names.
    :ivar dead_letter_queues: where their messages are parked, by the same names.
    :ivar functions: the functions that run their tasks, by the same names. Permissions that tasks
        need are granted to these.
    :ivar table: the idempotency table.
    :ivar bucket: the bucket of big bodies.
    :ivar results_table: the table of results, or ``None``.
    :ivar producer_policy: for whatever calls ``delay()``; :meth:`grant_send` gives the same.
    :ivar caller_policy: for whatever calls the functions directly; :meth:`grant_invoke` gives the
        same.
    :ivar producer_environment: the variables of whatever calls ``delay()``.

    Its ``node.default_child`` is CDK's ``CfnInclude`` of the definition:
    ``get_resource("CeleryQueue")`` of it is the resource of that logical id, to change what no
    input says.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,  # noqa: A002 - CDK's name for it
        *,
        deployment: Deployment,
        code: aws_lambda.Code,
        parameters: Mapping[str, str] | None = None,
    ) -> None:
        """Make everything.

        *code* is the function's: a zip for ``package_type = "zip"``, an image for ``"image"``.
        *parameters* are values for ``deployment.parameters``.

        Raises :exc:`ConfigurationError` for code of the other kind, for a parameter that has no
        value, or is none of the deployment's, and, with SnapStart, for a value that AWS alone
        knows.
        """
        super().__init__(scope, id)
        values = _values(deployment, parameters or {})
        self._deployment = deployment
        self._definition = with_versions_if_needed(resources(deployment), deployment)
        self._use(_code(code.bind(self), deployment))
        self._included = self._include(values)
        if deployment.snap_start:
            self._publish(values)
        self._handles()

    def grant_send(self, grantee: aws_iam.IGrantable) -> aws_iam.Grant:
        """Allow *grantee* to call ``delay()`` and ``revoke()``, and nothing more."""
        return self._grant("ProducerPolicy", grantee)

    def grant_invoke(self, grantee: aws_iam.IGrantable) -> aws_iam.Grant:
        """Allow *grantee* to call the functions directly, and nothing more.

        It may be one of :attr:`functions`, whose tasks call others.
        """
        return self._grant("CallerPolicy", grantee)

    def grant_results(self, grantee: aws_iam.IGrantable) -> aws_iam.Grant:
        """Allow *grantee* to read results and to start chords.

        Raises :exc:`ConfigurationError` if the deployment has no results.
        """
        if not self._deployment.results:
            raise ConfigurationError("There is no table of results: set results = True.")
        return self._grant("ResultsPolicy", grantee)

    # ------------------------------------------------------------------ making
    def _of_type(self, kind: str) -> dict[str, Any]:
        made = self._definition.resources.items()
        return {name: each["Properties"] for name, each in made if each["Type"] == kind}

    def _use(self, code: dict[str, str]) -> None:
        for properties in self._of_type("AWS::Lambda::Function").values():
            properties["Code"] = code

    def _include(self, values: Mapping[str, str]) -> CfnInclude:
        """Return the definition as CDK's own resources."""
        parameters = {name: self._definition.parameters[name] for name in values}
        made = Template("", parameters, self._definition.resources, self._definition.outputs)
        # CDK reads the file at once.
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "template.json")
            file.write_text(json.dumps(as_document(made)), encoding="utf-8")
            return CfnInclude(
                self,
                # This name is no part of logical ids.
                "Default",
                template_file=str(file),
                # Several of these may be in a stack.
                preserve_logical_ids=False,
                parameters=dict(values),
            )

    def _publish(self, values: Mapping[str, str]) -> None:
        """Let each change of a function publish a version: CloudFormation does it once for an id.

        The older ones are kept, for the alias to go back to.
        """
        stack = Stack.of(self)
        for name, value in values.items():
            # Of CfnParameter, say. A reference to a secret is a text.
            if not isinstance(stack.resolve(value), str):
                raise ConfigurationError(
                    f"The value of the parameter {name} is known on AWS alone, and with snap_start "
                    "a new one would publish no version: give a value that is known here, or leave "
                    "snap_start out."
                )
        for name, properties in self._of_type("AWS::Lambda::Function").items():
            # A version has no tags. Without another change, Lambda would refuse to publish one.
            published = {key: each for key, each in properties.items() if key != "Tags"}
            # What CDK has in the place of a value has another number in each run.
            text = json.dumps(stack.resolve([published, dict(values)]), sort_keys=True)
            digest = hashlib.sha256(text.encode()).hexdigest()[:8]
            version = self._included.get_resource(f"{name}Version")
            version.override_logical_id(stack.get_logical_id(version) + digest)
            version.cfn_options.deletion_policy = CfnDeletionPolicy.RETAIN
            version.cfn_options.update_replace_policy = CfnDeletionPolicy.RETAIN

    # ------------------------------------------------------------------ handles
    def _handles(self) -> None:
        figures = compute(self._deployment)
        key_arn = self._deployment.kms_key_arn
        key = aws_kms.Key.from_key_arn(self, "KeyHandle", key_arn) if key_arn else None

        self.queues: dict[str, aws_sqs.IQueue] = {}
        self.dead_letter_queues: dict[str, aws_sqs.IQueue] = {}
        for name, queue in figures.queues.items():
            for handles, what, arn in (
                (self.queues, "Queue", queue.queue_arn),
                (self.dead_letter_queues, "DeadLetterQueue", queue.dead_letter_queue_arn),
            ):
                handles[name] = self._queue(queue_id(name, what), arn, queue)

        self.functions: dict[str, aws_lambda.IFunction] = {}
        for key_of_function, function in figures.functions.items():
            handle = self._function(
                function_id(key_of_function, "Function"),
                function_id(key_of_function, "FunctionRole"),
            )
            self.functions |= dict.fromkeys(function.queues, handle)

        self.table: aws_dynamodb.ITable = self._table("IdempotencyTable", key)
        self.results_table: aws_dynamodb.ITable | None = (
            self._table("ResultsTable", key) if self._deployment.results else None
        )
        bucket = self._included.get_resource("PayloadBucket")
        self.bucket: aws_s3.IBucket = aws_s3.Bucket.from_bucket_attributes(
            self,
            "PayloadBucketHandle",
            bucket_name=bucket.ref,
            bucket_arn=bucket.attr_arn,
            encryption_key=key,
        )
        self.producer_policy: aws_iam.IManagedPolicy = self._policy("ProducerPolicy")
        self.caller_policy: aws_iam.IManagedPolicy = self._policy("CallerPolicy")
        variables = next(iter(self._of_type("AWS::Lambda::Function").values()))["Environment"]
        self.producer_environment: dict[str, str] = {
            name: self._referring(each)
            for name, each in variables["Variables"].items()
            if name in OWN_VARIABLES
        }

    def _queue(self, name: str, arn: str | None, queue: QueueFigures) -> aws_sqs.IQueue:
        if arn:
            return aws_sqs.Queue.from_queue_attributes(
                self, f"{name}Handle", queue_arn=arn, fifo=queue.fifo
            )
        made = self._included.get_resource(name)
        return aws_sqs.Queue.from_queue_attributes(
            self,
            f"{name}Handle",
            queue_arn=made.attr_arn,
            queue_url=made.ref,
            fifo=queue.fifo,
            key_arn=self._deployment.kms_key_arn,
        )

    def _function(self, name: str, role: str) -> aws_lambda.IFunction:
        return aws_lambda.Function.from_function_attributes(
            self,
            f"{name}Handle",
            function_arn=self._included.get_resource(name).attr_arn,
            role=aws_iam.Role.from_role_name(
                self, f"{role}Handle", self._included.get_resource(role).ref
            ),
            same_environment=True,
        )

    def _policy(self, name: str) -> aws_iam.IManagedPolicy:
        return aws_iam.ManagedPolicy.from_managed_policy_arn(
            self, f"{name}Handle", self._included.get_resource(name).ref
        )

    def _table(self, name: str, key: aws_kms.IKey | None) -> aws_dynamodb.ITable:
        arn = self._included.get_resource(name).attr_arn
        return aws_dynamodb.Table.from_table_attributes(
            self, f"{name}Handle", table_arn=arn, encryption_key=key
        )

    def _grant(self, policy: str, grantee: aws_iam.IGrantable) -> aws_iam.Grant:
        document = self._definition.resources[policy]["Properties"]["PolicyDocument"]
        granted = None
        for statement in document["Statement"]:
            each = aws_iam.Grant.add_to_principal(
                grantee=grantee,
                actions=_as_list(statement["Action"]),
                resource_arns=_as_list(self._referring(statement["Resource"])),
                conditions=statement.get("Condition"),
            )
            granted = granted.combine(each) if granted else each
        return granted

    def _referring(self, value: Any) -> Any:
        """Return *value* of the definition with CDK's references, which reach other stacks too."""
        match value:
            case list():
                return [self._referring(each) for each in value]
            case {"Ref": name}:
                return self._reference(name)
            case {"Fn::GetAtt": [name, attribute]}:
                return self._reference(f"{name}.{attribute}")
            case {"Fn::Sub": text}:
                return re.sub(r"\$\{([\w:.]+)\}", lambda each: self._reference(each[1]), text)
        return value

    def _reference(self, name: str) -> str:
        if name.startswith("AWS::"):
            return str(Fn.ref(name))
        name, _, attribute = name.partition(".")
        made = self._included.get_resource(name)
        return str(made.get_att(attribute).to_string() if attribute else made.ref)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _values(deployment: Deployment, given: Mapping[str, str]) -> dict[str, str]:
    """Return the value of each parameter of *deployment*."""
    for name in given:
        if name not in deployment.parameters:
            raise ConfigurationError(
                f"{name} is no parameter of the deployment: add it to its parameters, or leave it "
                "out here."
            )
    values = {}
    for name, parameter in deployment.parameters.items():
        value = given.get(name, parameter.default)
        if value is None:
            raise ConfigurationError(
                f'The parameter {name} has no value: add parameters={{"{name}": …}}.'
            )
        values[name] = value
    return values


def _code(code: aws_lambda.CodeConfig, deployment: Deployment) -> dict[str, str]:
    if deployment.package_type == "image":
        if not code.image:
            raise ConfigurationError(
                'The code is no image, but package_type is "image": use '
                "aws_lambda.Code.from_asset_image or from_ecr_image."
            )
        return {"ImageUri": code.image.image_uri}
    if not code.s3_location:
        raise ConfigurationError(
            'The code is no zip, but package_type is "zip": use '
            'aws_lambda.Code.from_asset("dist/lambda.zip") or from_bucket.'
        )
    location = code.s3_location
    version = {"S3ObjectVersion": location.object_version} if location.object_version else {}
    return {"S3Bucket": location.bucket_name, "S3Key": location.object_key, **version}
