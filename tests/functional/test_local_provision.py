"""The emulator, and what is made on it."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lambda_celery.aws import client
from lambda_celery.conf import QueueSettings
from lambda_celery.exceptions import ConfigurationError
from lambda_celery.local.emulator import HOST, ministack, port_is_free
from lambda_celery.local.provision import provision, provision_results_table


def attributes_of(stack: Any, queue_url: str) -> dict[str, str]:
    answer = stack.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["All"])
    return dict(answer["Attributes"])


def test_what_the_settings_name_is_made(make_stack: Callable[..., Any]) -> None:
    stack = make_stack(
        function_timeout_seconds=7,
        maximum_batching_window_seconds=3,
        max_receive_count=9,
        visibility_timeout_seconds=None,
    )

    queue = attributes_of(stack, stack.queue_url)
    dead_letters = attributes_of(stack, stack.dead_letter_queue_url)
    assert queue["VisibilityTimeout"] == str(6 * 7 + 3)
    policy = json.loads(queue["RedrivePolicy"])
    assert policy == {"deadLetterTargetArn": dead_letters["QueueArn"], "maxReceiveCount": 9}
    assert int(dead_letters["MessageRetentionPeriod"]) > int(queue["MessageRetentionPeriod"])
    table = stack.dynamodb.describe_table(TableName=stack.settings.idempotency_table)["Table"]
    assert table["KeySchema"] == [{"AttributeName": "id", "KeyType": "HASH"}]
    ttl = stack.dynamodb.describe_time_to_live(TableName=stack.settings.idempotency_table)
    assert ttl["TimeToLiveDescription"] == {
        "TimeToLiveStatus": "ENABLED",
        "AttributeName": "expiration",
    }
    stack.s3.head_bucket(Bucket=stack.settings.payload_bucket)


def test_provisioning_again_keeps_the_messages_and_takes_the_new_values(stack: Any) -> None:
    stack.send("kept")
    stack.s3.put_object(Bucket=stack.settings.payload_bucket, Key="kept", Body=b"x")

    provision(stack.settings, function_timeout_seconds=10, max_receive_count=6)

    attributes = attributes_of(stack, stack.queue_url)
    assert attributes["VisibilityTimeout"] == "60"
    assert json.loads(attributes["RedrivePolicy"])["maxReceiveCount"] == 6
    assert [each["Body"] for each in stack.messages()] == ["kept"]
    stack.s3.head_object(Bucket=stack.settings.payload_bucket, Key="kept")


def test_the_longest_time_out_fits_into_a_visibility_time_out(stack: Any) -> None:
    """That of Lambda Managed Instances, with the longest batching window."""
    provision(stack.settings, function_timeout_seconds=5400, maximum_batching_window_seconds=300)

    assert attributes_of(stack, stack.queue_url)["VisibilityTimeout"] == str(6 * 5400 + 300)


def test_each_queue_has_a_dead_letter_queue_by_default(stack: Any) -> None:
    name = stack.queue_url.rpartition("/")[2]
    prefix = stack.queue_url.rpartition("/")[0]
    settings = replace(
        stack.settings,
        queue_url=None,
        queues={
            "mail": QueueSettings(f"{prefix}/{name}-a", max_receive_count=3),
            "bulk": QueueSettings(f"{prefix}/{name}-b.fifo"),
        },
        dead_letter_queue_url=None,
        idempotency_table=None,
        payload_bucket=None,
    )

    provision(settings, function_timeout_seconds=5)

    assert attributes_of(stack, f"{prefix}/{name}-a-dead-letters")["QueueArn"]
    mail = attributes_of(stack, f"{prefix}/{name}-a")
    assert json.loads(mail["RedrivePolicy"])["maxReceiveCount"] == 3
    fifo = attributes_of(stack, f"{prefix}/{name}-b-dead-letters.fifo")
    assert fifo["FifoQueue"] == "true"


def test_a_results_table_expires_its_items(stack: Any) -> None:
    name = f"{stack.settings.idempotency_table}-results"
    provision_results_table(stack.settings, name)
    provision_results_table(stack.settings, name)

    described = stack.dynamodb.describe_time_to_live(TableName=name)
    assert described["TimeToLiveDescription"]["AttributeName"] == "ttl"


def test_a_fifo_queue_needs_a_fifo_dead_letter_queue(stack: Any) -> None:
    settings = replace(stack.settings, queue_url=f"{stack.queue_url}.fifo")

    with pytest.raises(ConfigurationError, match="both are FIFO queues or neither"):
        provision(settings, function_timeout_seconds=5)


def test_an_endpoint_that_does_not_answer_is_a_sentence(stack: Any) -> None:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        dead = replace(stack.settings, endpoint_url=f"http://{HOST}:{probe.getsockname()[1]}")

        with pytest.raises(ConfigurationError, match="sqs:GetQueueUrl"):
            provision(dead, function_timeout_seconds=5)


def test_the_emulator_is_there_and_then_gone(stack: Any) -> None:
    with ministack(account_id="123456789012") as url:
        settings = replace(stack.settings, endpoint_url=url)
        queue_url = client("sqs", settings).create_queue(QueueName="mail")["QueueUrl"]
        assert queue_url == f"{url}/123456789012/mail"
        port = int(url.rpartition(":")[2])
        assert not port_is_free(port)

    assert port_is_free(port)


def test_a_taken_port_is_a_sentence(aws_endpoint: str) -> None:
    port = int(aws_endpoint.rpartition(":")[2])

    with pytest.raises(ConfigurationError, match=f"Port {port} .* in use"), ministack(port):
        pass


def test_a_missing_emulator_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ministack", None)

    with (
        pytest.raises(ConfigurationError, match=r"install `lambda-celery\[local\]`"),
        ministack(),
    ):
        pass


def test_a_table_of_an_earlier_version_is_given_the_index_of_failed_tasks(
    stack: Any, results_table: str
) -> None:
    settings = replace(stack.settings, idempotency_table=results_table)
    stack.dynamodb.update_time_to_live(
        TableName=results_table, TimeToLiveSpecification={"Enabled": False, "AttributeName": "ttl"}
    )
    provision(settings, function_timeout_seconds=7)
    table = stack.dynamodb.describe_table(TableName=results_table)["Table"]
    assert [each["IndexName"] for each in table["GlobalSecondaryIndexes"]] == ["failures"]
