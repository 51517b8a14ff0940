"""What a schedule says of its queue, and what AWS's refusals mean."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from lambda_celery.conf import QueueSettings, Settings
from lambda_celery.message import OutgoingMessage
from lambda_celery.schedules.one_time import can_carry
from lambda_celery.schedules.scheduler import definition, explain

ROLE = "arn:aws:iam::123456789012:role/scheduler"


def target(settings, queue_url):
    defined = definition(
        settings, queue_url, expression="rate(1 day)", time_zone="UTC", body="body"
    )
    return defined["Target"]


@pytest.mark.parametrize(
    ("url", "arn"),
    [
        (
            "https://sqs.eu-west-1.amazonaws.com/123456789012/mail",
            "arn:aws:sqs:eu-west-1:123456789012:mail",
        ),
        (
            "https://sqs.cn-north-1.amazonaws.com.cn/123456789012/mail",
            "arn:aws-cn:sqs:cn-north-1:123456789012:mail",
        ),
        (
            "https://sqs-fips.us-gov-west-1.amazonaws.com/123456789012/mail",
            "arn:aws-us-gov:sqs:us-gov-west-1:123456789012:mail",
        ),
        (
            "http://127.0.0.1:4566/000000000000/mail",
            "arn:aws:sqs:eu-central-1:000000000000:mail",
        ),
    ],
)
def test_the_target_is_the_queues_arn(url, arn):
    settings = Settings(queue_url=url, region="eu-central-1", schedule_role_arn=ROLE)

    assert target(settings, url)["Arn"] == arn


def test_the_dead_letter_queue_is_the_queues_own():
    queues = "https://sqs.eu-west-1.amazonaws.com/123456789012"
    settings = Settings(
        queue_url=f"{queues}/mail",
        dead_letter_queue_url=f"{queues}/dead",
        queues={"bulk": QueueSettings(f"{queues}/bulk", f"{queues}/dead-bulk")},
        schedule_role_arn=ROLE,
    )

    arn = "arn:aws:sqs:eu-west-1:123456789012"
    assert target(settings, f"{queues}/mail")["DeadLetterConfig"] == {"Arn": f"{arn}:dead"}
    assert target(settings, f"{queues}/bulk")["DeadLetterConfig"] == {"Arn": f"{arn}:dead-bulk"}
    assert "DeadLetterConfig" not in target(Settings(), f"{queues}/mail")


def test_a_body_that_scheduler_would_change_is_not_carried():
    message = OutgoingMessage('{"text": "<aws.scheduler.execution-id>"}', task_id="id")

    assert not can_carry("https://sqs.eu-west-1.amazonaws.com/123456789012/mail", message)


def test_a_role_that_may_not_be_passed_is_named():
    settings = Settings(schedule_group="proj", schedule_role_arn=ROLE)
    refusal = ClientError(
        {
            "Error": {
                "Code": "AccessDeniedException",
                "Message": "User is not authorized to perform: iam:PassRole on resource: …",
            }
        },
        "CreateSchedule",
    )

    assert explain(refusal, settings).startswith(f"AWS refused iam:PassRole on {ROLE}: allow")
