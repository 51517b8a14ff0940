"""What the runtime needs to know of the queue that a message came from."""

from __future__ import annotations

import json
import logging
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from lambda_celery import aws
from lambda_celery.conf import Settings, region_of_queue, setting_names
from lambda_celery.message import MAXIMUM_RETENTION_SECONDS, is_fifo

logger = logging.getLogger(__name__)

#: For clocks, and for the delay of DynamoDB's TTL.
_MARGIN_SECONDS = 86_400
_DOMAINS = {"aws-cn": "amazonaws.com.cn"}


class SourceQueue:
    """A queue, by its ARN. Nothing is asked of AWS twice, and nothing that tasks have to wait for.

    What SQS does not tell is taken for unknown until the next invocation: tasks that need no SQS
    run without it.
    """

    def __init__(self, arn: str, settings: Settings) -> None:
        self.arn = arn
        self._named_url = next((url for url in settings.queue_urls if self._is_at(url)), None)
        if self._named_url is None and settings.endpoint_url:  # whose accounts are its own
            name = arn.rpartition(":")[2]
            named = (url for url in settings.queue_urls if url.rpartition("/")[2] == name)
            self._named_url = next(named, None)
        #: What is set for this queue.
        self.settings = settings.of_queue(self._named_url) if self._named_url else settings
        self._refusal: Exception | None = None
        self._has_told = False

    def ask_again(self) -> None:
        """Forget that SQS did not tell something: the next invocation has begun."""
        self._refusal, self._has_told = None, False

    @cached_property
    def url(self) -> str:
        """The queue's URL."""
        return self._named_url or self._url_of(self.arn)

    @property
    def max_receive_count(self) -> int | None:
        """How often a message is received before it is spent; ``None``: without end, or unknown.

        That of the settings, or of the queue's redrive policy. Where both say it, the smaller one:
        by the settings' the task would be told that attempts are left while SQS has moved it.
        """
        given, told = self.settings.max_receive_count, self._redrive_limit
        if given is None or told is None:
            return told if given is None else given
        return min(given, told)

    @cached_property
    def dead_letter_queue_url(self) -> str | None:
        """Where spent messages are parked; ``None`` if the queue has no such place.

        :raises botocore.exceptions.ClientError: and its kin, if SQS does not tell.
        """
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
        try:
            retention = self._retention_seconds(self.url)
            parked = self._dead_letter_retention_seconds
        except aws.AWS_ERRORS as exc:
            logger.warning(
                "%s Idempotency records are kept as if it were the longest; or set %s.",
                self._sentence(exc),
                setting_names("idempotency_ttl_seconds"),
            )
            retention = parked = MAXIMUM_RETENTION_SECONDS
        return 2 * retention + parked + _MARGIN_SECONDS

    @property
    def dead_letter_life_seconds(self) -> int:
        """How long what is parked lives; the longest that is possible, where SQS does not tell."""
        try:
            return self._dead_letter_retention_seconds
        except aws.AWS_ERRORS:
            return MAXIMUM_RETENTION_SECONDS

    @cached_property
    def _dead_letter_retention_seconds(self) -> int:
        dead_letter_queue = self.dead_letter_queue_url
        return self._retention_seconds(dead_letter_queue) if dead_letter_queue else 0

    def is_last(self, count: int) -> bool:
        """Whether the attempt, or the receive, of that number is the last one."""
        limit = self.max_receive_count
        return limit is not None and count >= limit

    def may_be_last(self, count: int) -> bool:
        """Whether it is the last receive, or not the first and SQS has not told the limit."""
        return self.is_last(count) or (
            count > 1 and self.max_receive_count is None and self._has_told
        )

    def _is_at(self, url: str) -> bool:
        """Whether *url* is this queue's: by its name, its account and its region."""
        place = self.arn.split(":")[3:]
        account_and_name = urlsplit(url).path.strip("/").split("/")[-2:]
        return place[1:] == account_and_name and region_of_queue(url) in (None, place[0])

    @cached_property
    def _known_limit(self) -> int | None:
        """The redrive policy's limit, once SQS has told it."""
        count = self._redrive_policy.get("maxReceiveCount")
        limit, given = int(count) if count is not None else None, self.settings.max_receive_count
        if limit is not None and given is not None and limit != given:
            logger.warning(
                "%s is %d, but the redrive policy of %s says %d: the smaller one holds.",
                setting_names("max_receive_count"), given, self.arn, limit,
            )  # fmt: skip
        if limit is not None and is_fifo(self.arn):
            logger.info(
                "The FIFO queue %s hands a message out %d times, and each failure of one before "
                "it in its batch takes one of them: give the mapping a BatchSize of 1, or the "
                "queue a maxReceiveCount of your attempts times the BatchSize.",
                self.arn, limit,
            )  # fmt: skip
        return limit

    @property
    def _redrive_limit(self) -> int | None:
        if self._named_url is None and not self.arn.startswith("arn:"):
            return None  # none of SQS's records
        if self._refusal is not None and self._has_told:
            return None  # as it has been said
        try:
            return self._known_limit
        except aws.AWS_ERRORS as exc:
            if not self._has_told:
                self._has_told = True
                given = self.settings.max_receive_count
                logger.log(
                    logging.WARNING if given is None else logging.INFO,
                    "%s How often a message is received before it is spent is taken for %s.",
                    self._sentence(exc),
                    given or f"unlimited; or set {setting_names('max_receive_count')}",
                )
            return None

    @cached_property
    def _redrive_policy(self) -> dict[str, Any]:
        policy = self._attributes(self.url, "RedrivePolicy").get("RedrivePolicy")
        return dict(json.loads(policy)) if policy else {}

    def _retention_seconds(self, url: str) -> int:
        told = self._attributes(url, "MessageRetentionPeriod").get("MessageRetentionPeriod")
        return int(told) if told else MAXIMUM_RETENTION_SECONDS

    def _attributes(self, url: str, name: str) -> dict[str, str]:
        if self._refusal is not None:  # each further one would wait as long
            raise self._refusal.with_traceback(None)  # which would grow
        sqs = aws.client("sqs", self.settings, patient=False)
        try:
            answer = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])
        except aws.AWS_ERRORS as exc:
            self._refusal = exc
            raise
        return dict(answer.get("Attributes", {}))

    def _sentence(self, exc: Exception) -> str:
        return aws.explain(exc, action="sqs:GetQueueAttributes", resource=self.arn)

    def _url_of(self, arn: str) -> str:
        _, partition, _, region, account, name = arn.split(":")
        domain = _DOMAINS.get(partition, "amazonaws.com")
        host = self.settings.endpoint_url or f"https://sqs.{region}.{domain}"
        return f"{host.rstrip('/')}/{account}/{name}"


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

    def ask_again(self) -> None:
        """Forget what SQS did not tell: the next invocation has begun."""
        for queue in self._met.values():
            queue.ask_again()
