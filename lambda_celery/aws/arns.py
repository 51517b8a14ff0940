"""ARNs: of what is known by a URL, and what is in one."""

from __future__ import annotations

from urllib.parse import urlsplit

from lambda_celery.aws.clients import client, region_of
from lambda_celery.conf import Settings, region_of_queue

#: By how the names of their regions begin. https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html
_PARTITIONS = {"cn": "aws-cn", "us-gov": "aws-us-gov"}


def queue_arn(settings: Settings, queue_url: str) -> str:
    """Return the ARN of the queue *queue_url*, of which nothing is asked."""
    region = region_of_queue(queue_url) or region_of(settings)
    region = region or client("sqs", settings).meta.region_name
    partition = next(
        (name for prefix, name in _PARTITIONS.items() if region.startswith(f"{prefix}-")), "aws"
    )
    account, name = urlsplit(queue_url).path.strip("/").split("/")[-2:]
    return f"arn:{partition}:sqs:{region}:{account}:{name}"


def function_parts(function: str) -> tuple[str, str]:
    """Return the name in *function*, and the alias or version, "" if there is none.

    It is a name, an ARN, or the end of one: ``123456789012:function:mail:live``. A name may end in
    "function" itself.
    """
    _, is_arn, after = function.partition(":function:")
    name, _, qualifier = (after if is_arn else function).partition(":")
    return name, qualifier
