"""What the runtime needs to know of the queue that a message came from."""

from __future__ import annotations

import json
import logging
from functools import cached_property
from typing import Any

from lambda_celery import aws
from lambda_celery.conf import Settings, setting_names
from lambda_celery.message import MAXIMUM_RETENTION_SECONDS

logger = logging.getLogger(__name__)

#: For clocks, and for the delay of DynamoDB's TTL.
_MARGIN_SECONDS = 86_400


class SourceQueue:
    """A queue, by its ARN. Nothing is asked of AWS that the settings say, and nothing twice."""

    def __init__(self, arn: str, settings: Settings) -> None:
        self.arn = arn
        name = arn.rpartition(":")[2]
        named = (url for url in settings.queue_urls if url.rpartition("/")[2] == name)
        self._named_url = next(named, None)
        #: What is set for this queue.
        self.settings = settings.of_queue(self._named_url) if self._named_url else settings

    @cached_property
    def url(self) -> str:
        """The queue's URL."""
        return self._named_url or self._url_of(self.arn)

    @cached_property
    def max_receive_count(self) -> int | None:
        """How often a message is received before it is spent; ``None``: without end."""
        if self.settings.max_receive_count is not None:
            return self.settings.max_receive_count
        count = self._redrive_policy.get("maxReceiveCount")
        return int(count) if count is not None else None

    @cached_property
    def dead_letter_queue_url(self) -> str | None:
        """Where spent messages are parked; ``None`` if the queue has no such place."""
        if self.settings.dead_letter_queue_url is not None:
            return self.settings.dead_letter_queue_url
        arn = self._redrive_policy.get("deadLetterTargetArn")
        if arn is None:
            logger.error(
                "The queue %s has no dead-letter queue, so a failed message comes back until "
                "its retention ends and is then lost: give the queue a redrive policy, or set %s.",
                self.arn,
                setting_names("dead_letter_queue_url"),
            )
            return None
        return self._url_of(arn)

    @cached_property
    def record_life_seconds(self) -> int:
        """How long a completed task is remembered: as long as a copy of its message can live.

        That is the queue's retention, and after it, since a redrive starts the
        clock anew, the dead-letter queue's and the queue's again.
        """
        if self.settings.idempotency_ttl_seconds is not None:
            return self.settings.idempotency_ttl_seconds
        retention = self._retention_seconds(self.url)
        dead_letter_queue = self.dead_letter_queue_url
        parked = self._retention_seconds(dead_letter_queue) if dead_letter_queue else 0
        return 2 * retention + parked + _MARGIN_SECONDS

    def last_attempt(self, receive_count: int) -> bool:
        """Whether the message is spent if this attempt fails."""
        limit = self.max_receive_count
        return limit is not None and receive_count >= limit

    @cached_property
    def _redrive_policy(self) -> dict[str, Any]:
        policy = self._attributes(self.url, "RedrivePolicy").get("RedrivePolicy")
        return dict(json.loads(policy)) if policy else {}

    def _retention_seconds(self, url: str) -> int:
        try:
            return int(
                self._attributes(url, "MessageRetentionPeriod").get(
                    "MessageRetentionPeriod", MAXIMUM_RETENTION_SECONDS
                )
            )
        except aws.ClientError as exc:
            logger.warning(
                "%s Idempotency records are kept as if it were the longest; or set %s.",
                aws.explain(exc, action="sqs:GetQueueAttributes", resource=url),
                setting_names("idempotency_ttl_seconds"),
            )
            return MAXIMUM_RETENTION_SECONDS

    def _attributes(self, url: str, name: str) -> dict[str, str]:
        answer = aws.client("sqs", self.settings).get_queue_attributes(
            QueueUrl=url, AttributeNames=[name]
        )
        return dict(answer.get("Attributes", {}))

    def _url_of(self, arn: str) -> str:
        _, _, _, _, account, name = arn.split(":")
        answer = aws.client("sqs", self.settings).get_queue_url(
            QueueName=name, QueueOwnerAWSAccountId=account
        )
        return str(answer["QueueUrl"])


class SourceQueues:
    """The queues that this process has met."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._met: dict[str, SourceQueue] = {}

    def get(self, arn: str) -> SourceQueue:
        """Return the queue *arn*."""
        if (met := self._met.get(arn)) is not None:
            return met
        return self._met.setdefault(arn, SourceQueue(arn, self._settings))
