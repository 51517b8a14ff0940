"""What is on a queue, by SQS's own count."""

from typing import Any

_COUNTS = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)


def depth(sqs: Any, queue_url: str) -> int:
    """Return how many messages are on a queue: visible, in flight and delayed."""
    answer = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=list(_COUNTS))
    return sum(int(answer["Attributes"][name]) for name in _COUNTS)
