"""Who may do what: statements as data, each with the kind of what it is for.

:mod:`~lambda_celery.infrastructure.resources` puts in the ARNs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lambda_celery.infrastructure.inputs import Deployment


@dataclass(frozen=True)
class Statement:
    """What is allowed, on resources of which kind, on which condition."""

    sid: str
    actions: tuple[str, ...]
    on: str
    condition: Mapping[str, str] = field(default_factory=dict)


def function(deployment: Deployment) -> tuple[Statement, ...]:
    """Return what a function may do."""
    return (
        Statement(
            "TakeMessagesAndPublishRetries",
            (
                "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility",
                "sqs:GetQueueAttributes", "sqs:SendMessage",
            ),
            "own_queues",
        ),
        Statement(
            "ParkSpentMessages",
            ("sqs:SendMessage", "sqs:GetQueueAttributes"),
            "own_dead_letter_queues",
        ),
        # Bulk actions on failed tasks: they need none of an operator's rights.
        Statement(
            "WorkOffFailedTasks",
            ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"),
            "own_dead_letter_queues",
        ),
        Statement("FindFailedTasks", ("dynamodb:Query",), "failures_index"),
        # A task may call one of another queue.
        Statement(
            "SendToOtherQueues", ("sqs:SendMessage", "sqs:GetQueueAttributes"), "other_queues"
        ),
        Statement(
            "RunOnce",
            (
                "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem",
                "dynamodb:DeleteItem", "dynamodb:BatchWriteItem", "dynamodb:PartiQLInsert",
                "dynamodb:PartiQLUpdate",
            ),
            "idempotency_table",
        ),
        Statement("BigBodies", ("s3:GetObject", "s3:PutObject", "s3:DeleteObject"), "payloads"),
        # Who may not list gets the same 403 for an object that is gone as for one that is
        # forbidden.
        Statement("TellMissingFromForbidden", ("s3:ListBucket",), "payload_bucket"),
        *_schedules(deployment),
        *_ses_rate(deployment),
        Statement("Log", ("logs:CreateLogStream", "logs:PutLogEvents"), "log_group"),
        *_key(deployment),
        *_network(deployment),
    )  # fmt: skip


def producer(deployment: Deployment) -> tuple[Statement, ...]:
    """Return what whatever calls ``delay()`` and ``revoke()`` may do."""
    return (
        Statement("SendTasks", ("sqs:SendMessage", "sqs:GetQueueAttributes"), "queues"),
        Statement("SendBigBodies", ("s3:PutObject",), "payloads"),
        Statement("Revoke", ("dynamodb:BatchWriteItem",), "idempotency_table"),
        # With the schedule of a revoked task goes its body.
        Statement("DeleteRevokedBodies", ("s3:DeleteObject",), "payloads"),
        *_schedules(deployment),
        *_key(deployment),
    )


def caller(deployment: Deployment) -> tuple[Statement, ...]:
    """Return what whatever calls the functions directly may do."""
    return (
        Statement("CallDirectly", ("lambda:InvokeFunction",), "functions"),
        # What is big goes there and comes from there, and is deleted when it has been read.
        Statement(
            "BigCallsAndAnswers", ("s3:PutObject", "s3:GetObject", "s3:DeleteObject"), "payloads"
        ),
        *_key(deployment),
    )


def scheduler(deployment: Deployment) -> tuple[Statement, ...]:
    """Return what EventBridge Scheduler may do."""
    return (
        Statement("SendToTheQueue", ("sqs:SendMessage",), "queues"),
        # It takes no FIFO queue for what it cannot send.
        Statement("ParkWhatCannotBeSent", ("sqs:SendMessage",), "standard_dead_letter_queues"),
        *_key(deployment),
    )


def results(deployment: Deployment) -> tuple[Statement, ...]:
    """Return what whatever keeps and reads results may do."""
    return (
        Statement(
            "KeepResults",
            (
                "dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:PutItem",
                "dynamodb:UpdateItem", "dynamodb:DeleteItem",
            ),
            "results_table",
        ),
        # DynamoDB decrypts the table's own key for whoever reads or writes, and nothing else.
        *_key(deployment, ("kms:Decrypt",)),
    )  # fmt: skip


def _schedules(deployment: Deployment) -> tuple[Statement, ...]:
    if not deployment.schedules:
        return ()
    return (
        Statement(
            "ScheduleFarOffTasks",
            ("scheduler:CreateSchedule", "scheduler:GetSchedule", "scheduler:DeleteSchedule"),
            "schedules",
        ),
        # It is authorised for the schedules of every group, whichever the call names.
        Statement("FindSchedulesToCancel", ("scheduler:ListSchedules",), "everything"),
        Statement(
            "LetSchedulerSend",
            ("iam:PassRole",),
            "scheduler_role",
            {"iam:PassedToService": "scheduler.amazonaws.com"},
        ),
    )


def _ses_rate(deployment: Deployment) -> tuple[Statement, ...]:
    if not deployment.ses_rate:
        return ()
    # The account is no resource that could be named.
    return (Statement("LearnTheRateOfSes", ("ses:GetAccount",), "everything"),)


def _key(
    deployment: Deployment, actions: tuple[str, ...] = ("kms:Decrypt", "kms:GenerateDataKey")
) -> tuple[Statement, ...]:
    if not deployment.kms_key_arn:
        return ()
    return (Statement("UseTheKey", actions, "kms_key"),)


def _network(deployment: Deployment) -> tuple[Statement, ...]:
    if not deployment.vpc:
        return ()
    # Lambda makes the network interfaces with the function's role. They cannot be named before.
    return (
        Statement(
            "JoinTheVpc",
            (
                "ec2:CreateNetworkInterface", "ec2:DescribeNetworkInterfaces",
                "ec2:DeleteNetworkInterface", "ec2:DescribeSubnets",
                "ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses",
            ),
            "everything",
        ),
    )  # fmt: skip
