"""The Terraform module and the definition in Python say the same."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from lambda_celery.exceptions import ConfigurationError
from lambda_celery.infrastructure.computed import compute
from lambda_celery.infrastructure.inputs import OWN_VARIABLES, RESERVED_VARIABLES, Deployment
from lambda_celery.infrastructure.resources import resources
from tests.unit.infrastructure import terraform
from tests.unit.infrastructure.test_terraform import FULL, REFUSED, pytestmark  # noqa: F401

#: What Terraform alone has to be told.
TERRAFORM_ONLY = {
    "create",
    "region",
    "local_existing_package",
    "s3_existing_package",
    "image_uri",
}
#: Terraform has variables of its own for what is asked for at each deployment: `environment`
#: takes them.
PYTHON_ONLY = {"parameters"}
BROUGHT = "arn:aws:sqs:eu-west-1:210987654321:theirs"
DEPLOYMENTS: dict[str, dict[str, Any]] = {
    "default": {},
    "full": FULL,
    "full, one function": {**FULL, "functions": "one"},
    "list": {"queues": ["mail", "reports:daily.all"]},
    # One more is refused.
    "4 KB of variables": {"queues": [f"queue-{n}" for n in range(13)]},
    "large batches": {"batch_size": 1000, "timeout": 900, "queues": {"a": {}, "b": {"fifo": True}}},
    "window": {"maximum_batching_window_in_seconds": 300, "batch_size": 11},
    "concurrency": {
        "maximum_concurrency": 50,
        "queues": {"a": {"maximum_concurrency": 2}, "b": {}},
    },
    "retention": {
        "message_retention_seconds": 60,
        "dlq_message_retention_seconds": 86_401,
        "queues": {"a": {"message_retention_seconds": 80_000}, "b": {}},
    },
    "receives": {"max_receive_count": 8, "queues": {"a": {"max_receive_count": 1000}, "b": {}}},
    "timeouts": {"queues": {"a": {"timeout": 1}, "b": {"timeout": 900}}, "functions": "each"},
    "brought": {
        "queues": {"a": {"queue_arn": BROUGHT, "dead_letter_queue_arn": f"{BROUGHT}-dead"}}
    },
    "own dead-letter queue": {
        "queues": {"a": {"fifo": True, "dead_letter_queue_arn": f"{BROUGHT}.fifo"}},
        "schedules": False,
    },
    "rate of SES": {"ses_rate": True},
}


def deployment(inputs: dict[str, Any]) -> Deployment:
    least = {name: terraform.LEAST[name] for name in ("app", "name")}
    return Deployment.parse({**least, **inputs})


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return terraform.figures_root(tmp_path_factory.mktemp("figures"))


class TestInputs:
    def test_have_the_same_names(self) -> None:
        names = {each.name for each in fields(Deployment)}

        assert terraform.variables().keys() - TERRAFORM_ONLY == names - PYTHON_ONLY

    def test_have_the_same_defaults(self) -> None:
        expected = {}
        for each in fields(Deployment):
            if each.name not in PYTHON_ONLY:
                default = each.default
                if each.default_factory is not MISSING:
                    default = each.default_factory()
                expected[each.name] = list(default) if isinstance(default, tuple) else default
        found = {
            name: terraform.default_of(body) if "default" in body else MISSING
            for name, body in terraform.variables().items()
            if name not in TERRAFORM_ONLY
        }

        assert found == expected

    @pytest.mark.parametrize(
        ("annotation", "type_"),
        [
            ("str", "string"),
            ("int", "number"),
            ("bool", "bool"),
            ("tuple[str, ...]", "list(string)"),
            ("Mapping[str, str]", "map(string)"),
            ("Pollers", "object({minimum = number, maximum = number})"),
            ("WarmThroughput", "object({read = number, write = number})"),
            ("Vpc", "object({subnet_ids = list(string), security_group_ids = list(string)})"),
            ("Mapping[str, QueueInput]", "any"),
        ],
    )
    def test_have_the_same_types(self, annotation: str, type_: str) -> None:
        names = {
            each.name
            for each in fields(Deployment)
            if str(each.type).removesuffix(" | None") == annotation
        }
        found = {
            name
            for name, body in terraform.variables().items()
            if terraform.text_of(body["type"]) == type_
        }

        assert found - TERRAFORM_ONLY == names

    def test_compute_the_same_variables(self) -> None:
        text = (terraform.MODULE / "modules/figures/main.tf").read_text()
        bodies = [body for (body,) in terraform.blocks(text, "locals")]
        for name, ours in (
            ("own_variables", OWN_VARIABLES),
            ("reserved_variables", RESERVED_VARIABLES),
        ):
            (found,) = [body[name] for body in bodies if name in body]
            assert [each.strip('"') for each in found] == list(ours)

    @pytest.mark.parametrize(
        "inputs",
        [
            {name: each for name, each in inputs.items() if name not in TERRAFORM_ONLY}
            for inputs, sentence in REFUSED
            # Whether there is a zip or an image, only Terraform is told.
            if not sentence.startswith(("package_type =", "image_uri"))
        ],
    )
    def test_are_refused_by_both(self, inputs: dict[str, Any]) -> None:
        with pytest.raises(ConfigurationError):
            resources(deployment(inputs))


class TestFigures:
    @pytest.mark.parametrize("inputs", DEPLOYMENTS.values(), ids=DEPLOYMENTS)
    def test_are_the_same(self, figures: Path, inputs: dict[str, Any]) -> None:
        ours = compute(deployment(inputs))

        theirs = terraform.figures_of(figures, inputs)

        assert theirs["idempotency_ttl_seconds"] == ours.record_life_seconds
        assert theirs["payload_days"] == ours.payload_days
        assert {key: dict(each) for key, each in theirs["functions"].items()} == {
            key: {
                "name": each.name,
                "timeout": each.timeout_seconds,
                "queues": sorted(each.queues),
                "log_group": each.log_group,
            }
            for key, each in ours.functions.items()
        }
        assert {
            name: {key: value for key, value in each.items() if key != "timeout"}
            for name, each in theirs["queues"].items()
        } == {
            name: {
                "name": each.name,
                "dead_letter_queue_name": each.dead_letter_queue_name,
                "function": each.function,
                "fifo": each.fifo,
                "batch_size": each.batch_size,
                "maximum_batching_window_in_seconds": each.window_seconds,
                "maximum_concurrency": each.maximum_concurrency,
                "visibility_timeout_seconds": each.visibility_timeout_seconds,
                "message_retention_seconds": each.message_retention_seconds,
                "max_receive_count": each.max_receive_count,
                "idempotency_ttl_seconds": each.record_life_seconds,
                "queue_arn": each.queue_arn,
                "dead_letter_queue_arn": each.dead_letter_queue_arn,
            }
            for name, each in ours.queues.items()
        }
        durations = {
            each["dimensions"]["FunctionName"]: each["threshold"]
            for each in theirs["alarms"].values()
            if each["metric_name"] == "Duration"
        }
        assert durations == {
            each.name: each.duration_alarm_milliseconds for each in ours.functions.values()
        }
