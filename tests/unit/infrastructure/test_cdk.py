"""The CDK construct makes what the definition says, and hands out what a stack goes on with."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import (
    App,
    CfnParameter,
    Fn,
    Stack,
    Tags,
    aws_ecr,
    aws_iam,
    aws_kms,
    aws_lambda,
    aws_s3,
    aws_sns,
)
from aws_cdk import assertions as cdk_assertions
from cfnlint.api import ManualArgs, lint

from lambda_celery.exceptions import ConfigurationError
from lambda_celery.infrastructure.cdk import LambdaCelery
from lambda_celery.infrastructure.forms.versions import with_versions_if_needed
from lambda_celery.infrastructure.inputs import Deployment
from lambda_celery.infrastructure.resources import Template, resources
from tests.unit.test_infrastructure_resources import KEY, MATRIX, deployment, of_type

ROOT = Path(__file__).parents[3]
IMAGE = "repository/shop:1"
ZIP = {"S3Bucket": "builds", "S3Key": "shop.zip", "S3ObjectVersion": "v1"}

MakeStack = Callable[..., Stack]


@pytest.fixture
def new_stack(tmp_path: Path) -> MakeStack:
    """Return what makes stacks of one app, in which CDK's own findings are errors."""
    app = App(
        outdir=str(tmp_path / "cdk.out"),
        analytics_reporting=False,
        context={"@aws-cdk/core:validateAgainstDefaultRules": True},
    )
    return lambda name="Shop": Stack(app, name)


def code(stack: Stack, package_type: str = "zip", key: str = "shop.zip") -> aws_lambda.Code:
    if package_type == "image":
        shop = aws_ecr.Repository.from_repository_name(stack, "Repository", "shop")
        return aws_lambda.Code.from_ecr_image(shop, tag_or_digest="1")
    builds = stack.node.try_find_child("Builds") or aws_s3.Bucket.from_bucket_name(
        stack, "Builds", "builds"
    )
    return aws_lambda.Code.from_bucket(builds, key, "v1")


def celery(stack: Stack, name_in_stack: str = "Celery", **inputs: Any) -> LambdaCelery:
    parameters = dict.fromkeys(inputs.get("parameters", ()), "hunter2")
    asked = deployment(**inputs)
    return LambdaCelery(
        stack,
        name_in_stack,
        deployment=asked,
        code=code(stack, asked.package_type),
        parameters=parameters,
    )


def synthesised(stack: Stack) -> dict[str, Any]:
    found: dict[str, Any] = cdk_assertions.Template.from_stack(stack).to_json()
    return found


def by_our_ids(made: Any) -> Any:
    """Return *made* with the logical ids of the definition, in the place of CDK's."""
    ids = r"\bCelery(?:Outputs)?([A-Za-z]+?)[0-9A-F]{8}(?:[0-9a-f]{8})?\b"
    return json.loads(re.sub(ids, r"\1", json.dumps(made)))


def made_of(asked: Deployment) -> Template:
    return with_versions_if_needed(resources(asked), asked)


def sorted_tags(made: dict[str, Any]) -> dict[str, Any]:
    for each in made.values():
        if "Tags" in each["Properties"]:
            each["Properties"]["Tags"].sort(key=lambda tag: tag["Key"])
    return made


def statements(template: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """Return the statements of the only policy of that *kind*, without their names."""
    [policy] = of_type(template["Resources"], kind).values()
    return [
        {key: each for key, each in statement.items() if key != "Sid"}
        for statement in policy["PolicyDocument"]["Statement"]
    ]


class TestResources:
    @pytest.mark.parametrize("inputs", MATRIX.values(), ids=MATRIX)
    def test_are_those_of_the_definition(
        self, new_stack: MakeStack, inputs: dict[str, Any]
    ) -> None:
        stack = new_stack()
        celery(stack, **inputs)
        made = synthesised(stack)

        asked = deployment(**inputs)
        expected = made_of(asked)
        text = json.dumps([expected.resources, expected.outputs])
        for name in inputs.get("parameters", ()):
            text = text.replace(json.dumps({"Ref": name}), '"hunter2"')
        definition, outputs = json.loads(text)
        for each in definition.values():
            if each["Type"] == "AWS::Lambda::Function":
                is_image = inputs.get("package_type") == "image"
                each["Properties"]["Code"] = IMAGE if is_image else ZIP
            if each["Type"] == "AWS::Lambda::Version":
                each |= {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}
        found = by_our_ids(made)
        for each in of_type(found["Resources"], "AWS::Lambda::Function").values():
            if "ImageUri" in each["Code"]:
                assert "/shop:1" in json.dumps(each["Code"])
                each["Code"] = IMAGE

        assert sorted_tags(found["Resources"]) == sorted_tags(definition)
        assert found["Outputs"] == outputs
        assert found.get("Parameters", {}).keys() <= {"BootstrapVersion"}
        assert lint(json.dumps(made), config=ManualArgs(regions=["eu-central-1"])) == []

    def test_of_two_constructs_stand_in_one_stack(self, new_stack: MakeStack) -> None:
        stack = new_stack()
        celery(stack, name="shop")
        celery(stack, "Other", name="other")

        one, two = made_of(deployment()), made_of(deployment(name="other"))
        made = synthesised(stack)

        assert len(made["Resources"]) == len(one.resources) + len(two.resources)
        assert len(made["Outputs"]) == len(one.outputs) + len(two.outputs)
        for queue in ("shop-celery", "other-celery-dead-letters"):
            cdk_assertions.Template.from_stack(stack).has_resource_properties(
                "AWS::SQS::Queue", {"QueueName": queue, "SqsManagedSseEnabled": True}
            )

    def test_have_the_tags_of_the_stack(self, new_stack: MakeStack) -> None:
        stack = new_stack()
        celery(stack, tags={"team": "shop"})
        Tags.of(stack).add("stage", "test")

        template = cdk_assertions.Template.from_stack(stack)

        for kind in ("SQS::Queue", "DynamoDB::Table", "S3::Bucket", "Lambda::Function"):
            template.all_resources_properties(
                f"AWS::{kind}",
                {"Tags": [{"Key": "stage", "Value": "test"}, {"Key": "team", "Value": "shop"}]},
            )

    def test_can_be_changed_by_their_logical_ids(self, new_stack: MakeStack) -> None:
        stack = new_stack()
        queue = celery(stack).node.default_child.get_resource("CeleryQueue")
        queue.receive_message_wait_time_seconds = 20

        cdk_assertions.Template.from_stack(stack).has_resource_properties(
            "AWS::SQS::Queue",
            {"QueueName": "shop-celery", "ReceiveMessageWaitTimeSeconds": 20},
        )

    def test_take_what_other_resources_are(self, new_stack: MakeStack) -> None:
        stack = new_stack()
        key, topic = aws_kms.Key(stack, "Key"), aws_sns.Topic(stack, "Topic")
        celery(
            stack,
            kms_key_arn=key.key_arn,
            alarm_topic_arn=topic.topic_arn,
            environment={"PLACE": Fn.import_value("place")},
            vpc={"subnet_ids": [Fn.import_value("net")], "security_group_ids": ["sg-12345678"]},
        )
        key_arn = {"Fn::GetAtt": [stack.get_logical_id(key.node.default_child), "Arn"]}
        topic_arn = {"Ref": stack.get_logical_id(topic.node.default_child)}

        template = cdk_assertions.Template.from_stack(stack)

        template.all_resources_properties("AWS::SQS::Queue", {"KmsMasterKeyId": key_arn})
        template.all_resources_properties("AWS::CloudWatch::Alarm", {"AlarmActions": [topic_arn]})
        variables = {"PLACE": {"Fn::ImportValue": "place"}}
        template.has_resource_properties(
            "AWS::Lambda::Function",
            {
                "Environment": {"Variables": variables},
                "VpcConfig": {"SubnetIds": [{"Fn::ImportValue": "net"}]},
            },
        )


class TestVersions:
    def version(self, stack: Stack, key: str = "1.zip", value: str = "a", **inputs: Any) -> str:
        asked = deployment(snap_start=True, parameters={"Secret": {"variable": "SECRET"}}, **inputs)
        LambdaCelery(
            stack,
            "Celery",
            deployment=asked,
            code=code(stack, key=key),
            parameters={"Secret": value},
        )
        template = cdk_assertions.Template.from_stack(stack)
        [name] = template.find_resources("AWS::Lambda::Version")
        template.has_resource_properties(
            "AWS::Lambda::Alias", {"FunctionVersion": {"Fn::GetAtt": [name, "Version"]}}
        )
        return str(name)

    def test_are_published_when_something_changes(self, tmp_path: Path) -> None:
        def version(**changed: Any) -> str:
            return self.version(Stack(App(outdir=str(tmp_path)), "Shop"), **changed)

        before = version()

        changes: tuple[dict[str, Any], ...] = (
            {"key": "2.zip"},
            {"value": "b"},
            {"memory_size": 2048},
            {"environment": {"PLACE": "B"}},
        )
        assert len({before, *(version(**each) for each in changes)}) == 5
        # Lambda publishes none for these.
        assert {version(), version(tags={"a": "b"}), version(batch_size=5)} == {before}

    def test_are_not_published_for_what_aws_alone_knows(self, new_stack: MakeStack) -> None:
        stack = new_stack()
        value = CfnParameter(stack, "Value").value_as_string

        with pytest.raises(ConfigurationError, match="Secret is known on AWS alone"):
            self.version(stack, value=value)

    def test_there_are_none_without_snap_start_and_a_new_value_arrives(
        self, new_stack: MakeStack
    ) -> None:
        stack = new_stack()
        asked = deployment(parameters={"Secret": {"variable": "SECRET"}})
        value = CfnParameter(stack, "Value").value_as_string
        LambdaCelery(
            stack, "Celery", deployment=asked, code=code(stack), parameters={"Secret": value}
        )

        template = cdk_assertions.Template.from_stack(stack)

        template.resource_count_is("AWS::Lambda::Version", 0)
        template.resource_count_is("AWS::Lambda::Alias", 0)
        [name] = (
            each
            for each, made in template.find_resources("AWS::Lambda::Function").items()
            if "SECRET" in json.dumps(made)
        )
        template.all_resources_properties(
            "AWS::Lambda::EventSourceMapping", {"FunctionName": {"Ref": name}}
        )
        template.has_resource_properties(
            "AWS::Lambda::Function", {"Environment": {"Variables": {"SECRET": {"Ref": "Value"}}}}
        )


class TestHandles:
    def test_are_by_celery_names(self, new_stack: MakeStack) -> None:
        stack = new_stack()
        one = celery(stack, **MATRIX["several"])
        each = celery(stack, "Each", **{**MATRIX["each"], "name": "each"})

        assert [*one.queues] == [*one.dead_letter_queues] == [*one.functions]
        assert [*one.queues] == ["mail", "new-report"]
        assert one.queues["mail"].fifo
        assert one.functions["mail"] is one.functions["new-report"]
        assert each.functions["mail"] is not each.functions["report"]
        assert one.results_table
        assert each.results_table is None

    def test_of_queues_that_are_there_already(self, new_stack: MakeStack) -> None:
        handles = celery(new_stack(), **MATRIX["brought"])

        assert handles.queues["m"].queue_name == "m"
        assert handles.dead_letter_queues["m"].queue_arn.endswith(":dead")

    def test_allow_tasks_what_they_need(self, new_stack: MakeStack) -> None:
        stack = new_stack()
        files = aws_s3.Bucket.from_bucket_name(stack, "Files", "files")
        files.grant_read(celery(stack).functions["celery"])

        [policy] = of_type(by_our_ids(synthesised(stack))["Resources"], "AWS::IAM::Policy").values()

        assert policy["Roles"] == [{"Ref": "FunctionRole"}]
        assert "s3:GetObject*" in policy["PolicyDocument"]["Statement"][0]["Action"]

    def test_are_the_resources_in_other_stacks_too(self, new_stack: MakeStack) -> None:
        """With the key that they are encrypted with."""
        handles = celery(new_stack(), **MATRIX["own"])
        other = new_stack("Other")
        role = aws_iam.Role(other, "Role", assumed_by=aws_iam.AccountRootPrincipal())
        handles.queues["celery"].grant_consume_messages(role)
        handles.dead_letter_queues["celery"].grant_consume_messages(role)
        handles.table.grant_read_data(role)
        handles.bucket.grant_read(role)
        role.add_managed_policy(handles.producer_policy)
        role.add_managed_policy(handles.caller_policy)

        made = synthesised(other)
        [policy] = of_type(made["Resources"], "AWS::IAM::Policy").values()
        text = json.dumps(made)

        named = (
            "CeleryQueue",
            "CeleryDeadLetterQueue",
            "IdempotencyTable",
            "PayloadBucket",
            "ProducerPolicy",
            "CallerPolicy",
        )
        for each in named:
            assert re.search(rf'"Fn::ImportValue": "Shop:\w+Celery{each}[0-9A-F]{{8}}', text), each
        keys = [s for s in policy["PolicyDocument"]["Statement"] if s["Resource"] == KEY]
        assert "kms:Decrypt" in {action for s in keys for action in s["Action"]}


class TestGrants:
    @pytest.mark.parametrize(
        ("grant", "policy"), [("grant_send", "ProducerPolicy"), ("grant_invoke", "CallerPolicy")]
    )
    @pytest.mark.parametrize("inputs", MATRIX.values(), ids=MATRIX)
    def test_allow_what_the_policy_does(
        self, new_stack: MakeStack, inputs: dict[str, Any], grant: str, policy: str
    ) -> None:
        stack = new_stack()
        web = aws_iam.Role.from_role_name(stack, "Web", "web")
        getattr(celery(stack, **inputs), grant)(web).assert_success()

        made = by_our_ids(synthesised(stack))
        ours = {
            name: each
            for name, each in made["Resources"].items()
            if each["Type"] != "AWS::IAM::ManagedPolicy" or name.startswith(policy)
        }

        granted = statements({"Resources": ours}, "AWS::IAM::Policy")
        assert as_fn_sub(granted) == as_fn_sub(
            statements({"Resources": ours}, "AWS::IAM::ManagedPolicy")
        )

    def test_let_the_function_call_itself(self, new_stack: MakeStack) -> None:
        stack = new_stack()
        handles = celery(stack)
        handles.grant_invoke(handles.functions["celery"]).assert_success()

        [policy] = of_type(by_our_ids(synthesised(stack))["Resources"], "AWS::IAM::Policy").values()

        assert policy["Roles"] == [{"Ref": "FunctionRole"}]
        assert "lambda:InvokeFunction" in json.dumps(policy)

    def test_reach_other_stacks(self, new_stack: MakeStack) -> None:
        handles = celery(new_stack(), **MATRIX["several"])
        other = new_stack("Web")
        web = aws_lambda.Function(
            other,
            "Web",
            runtime=aws_lambda.Runtime.PYTHON_3_13,
            handler="web.handler",
            code=aws_lambda.Code.from_inline("handler = print"),
            environment=handles.producer_environment,
        )
        handles.grant_send(web)
        handles.grant_results(web).assert_success()

        made = synthesised(other)
        [function] = of_type(made["Resources"], "AWS::Lambda::Function").values()
        variables = function["Environment"]["Variables"]

        assert "dynamodb:BatchGetItem" in json.dumps(made)
        assert variables["LAMBDA_CELERY_APP"] == "proj.celery:app"
        assert "Fn::ImportValue" in variables["LAMBDA_CELERY_PAYLOAD_BUCKET"]
        parts = variables["LAMBDA_CELERY_QUEUES"]["Fn::Join"][1]
        queues = json.loads("".join(p if isinstance(p, str) else "url" for p in parts))
        assert queues["new-report"]["dead_letter_queue_url"] == "url"
        assert "PLACE" not in variables

    def test_of_results_need_results(self, new_stack: MakeStack) -> None:
        stack = new_stack()
        with pytest.raises(ConfigurationError, match="set results = True"):
            celery(stack).grant_results(aws_iam.Role.from_role_name(stack, "Web", "web"))


def as_fn_sub(value: Any) -> str:
    """Return *value* as JSON in which both of CloudFormation's ways to put texts together agree."""

    def text_of(part: Any) -> str:
        match part:
            case {"Ref": name}:
                return f"${{{name}}}"
            case {"Fn::GetAtt": [name, attribute]}:
                return f"${{{name}.{attribute}}}"
            case {"Fn::Join": ["", parts]}:
                return "".join(map(text_of, parts))
            case {"Fn::Sub": text}:
                return str(text)
        return str(part)

    def simple(value: Any) -> Any:
        if isinstance(value, list):
            return [simple(each) for each in value]
        if isinstance(value, dict) and len(value) == 1 and next(iter(value)).startswith("Fn::"):
            return text_of(value)
        return (
            {key: simple(each) for key, each in value.items()} if isinstance(value, dict) else value
        )

    return json.dumps(simple(value), indent=1, sort_keys=True)


class TestRefusals:
    @pytest.mark.parametrize(
        ("inputs", "given", "sentence"),
        [
            (
                {"parameters": {"A": {"variable": "SECRET"}}},
                {},
                "The parameter A has no value: add",
            ),
            ({}, {"A": "b"}, "A is no parameter of the deployment"),
        ],
    )
    def test_of_parameters(
        self,
        new_stack: MakeStack,
        inputs: dict[str, Any],
        given: dict[str, str],
        sentence: str,
    ) -> None:
        stack = new_stack()
        with pytest.raises(ConfigurationError, match=sentence):
            LambdaCelery(
                stack,
                "Celery",
                deployment=deployment(**inputs),
                code=code(stack),
                parameters=given,
            )

    @pytest.mark.parametrize(
        ("package_type", "other", "sentence"),
        [("image", "zip", "The code is no image"), ("zip", "image", "The code is no zip")],
    )
    def test_of_code_of_the_other_kind(
        self, new_stack: MakeStack, package_type: str, other: str, sentence: str
    ) -> None:
        stack = new_stack()
        with pytest.raises(ConfigurationError, match=sentence):
            LambdaCelery(
                stack,
                "Celery",
                deployment=deployment(package_type=package_type),
                code=code(stack, other),
            )

    def test_without_cdk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "aws_cdk", None)
        monkeypatch.delitem(sys.modules, "lambda_celery.infrastructure.cdk")

        with pytest.raises(ModuleNotFoundError, match=r"aws_cdk: pip install 'lambda-celery\[cdk]"):
            importlib.import_module("lambda_celery.infrastructure.cdk")


SURROUNDINGS = """
from aws_cdk import aws_ec2, aws_kms, aws_s3, aws_sns

files, key = aws_s3.Bucket(stack, "Files"), aws_kms.Key(stack, "Key")
topic = aws_sns.Topic(stack, "Topic")
vpc, web_stack = aws_ec2.Vpc(stack, "Vpc"), Stack(app, "WebStack")
group = aws_ec2.SecurityGroup(stack, "Group", vpc=vpc)
"""


def test_the_examples_run(tmp_path: Path) -> None:
    page = (ROOT / "docs/cdk.md").read_text()
    example, *more = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    main, end, _ = example.partition("app.synth()")
    (tmp_path / "app.py").write_text("\n".join([main, SURROUNDINGS, *more, end]))
    (tmp_path / "pyproject.toml").write_text(
        '[tool.lambda-celery]\napp = "proj.celery:app"\nname = "shop"\nqueues = ["mail"]\n'
    )
    (tmp_path / "dist").mkdir()
    for name in ("lambda", "web"):
        with zipfile.ZipFile(tmp_path / f"dist/{name}.zip", "w") as archive:
            archive.writestr("proj/celery.py", "")

    subprocess.run(
        [sys.executable, "app.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "CDK_OUTDIR": "cdk.out"},
        check=True,
    )

    made = json.loads((tmp_path / "cdk.out/Shop.template.json").read_text())["Resources"]
    functions = of_type(made, "AWS::Lambda::Function").values()
    assert any(each.get("Code", {}).get("S3Key", "").endswith(".zip") for each in functions)
    granted = of_type(made, "AWS::IAM::Policy").values()
    assert ["web"] in [each["Roles"] for each in granted]
    [queue] = [
        each
        for each in of_type(made, "AWS::SQS::Queue").values()
        if each["QueueName"] == "shop-mail"
    ]
    assert queue["ReceiveMessageWaitTimeSeconds"] == 20
    expected = made_of(Deployment.from_pyproject(tmp_path / "pyproject.toml")).resources
    assert expected.keys() <= by_our_ids(made).keys()
