"""What is settled, but may come again: parked messages, and bodies in S3.

Lambda deletes a message when the invocation has answered. A process that dies before that leaves
what it has settled on the queue.
"""

from __future__ import annotations

import logging

from lambda_celery.payloads import locate
from lambda_celery.table.schema import parked_key, payload_key
from lambda_runtime.messages.delivery import Delivery
from lambda_runtime.messages.source_queues import SourceQueues
from lambda_runtime.refusals import sentence
from lambda_runtime.table.claims import IdempotencyTable

logger = logging.getLogger(__name__)


class Settled:
    """The messages and bodies that this function has settled."""

    def __init__(self, table: IdempotencyTable, queues: SourceQueues) -> None:
        self._table = table
        self._queues = queues

    def remember_payload(self, delivery: Delivery) -> bool:
        """Note that the S3 body of *delivery* is settled; return whether it may be deleted.

        Without the body the publication's key cannot be computed, so another copy of
        the message could not be told from one whose body was lost.
        """
        return self._remember(delivery, payload_key(*locate(delivery.body)))

    def has_payload(self, pointer: str) -> bool:
        """Whether the body that *pointer* points to is settled."""
        return self._table.is_completed(payload_key(*locate(pointer)))

    def remember_parked(self, delivery: Delivery) -> None:
        """Note that *delivery* is in the dead-letter queue.

        Its original stays on its own queue until the invocation has answered. If the
        process dies before that, the original comes again, and must not fail again. A
        redrive has a new message id, and is run.
        """
        self._remember(delivery, parked_key(delivery.message_id))

    def has_parked(self, delivery: Delivery) -> bool:
        """Whether *delivery* is in the dead-letter queue. One that comes first is not."""
        return delivery.receive_count > 1 and self._table.is_completed(
            parked_key(delivery.message_id)
        )

    def _remember(self, delivery: Delivery, key: str) -> bool:
        try:
            queue = self._queues.get(delivery.source_arn)
            self._table.complete(key, life_seconds=queue.record_life_seconds)
        except Exception as exc:  # noqa: BLE001 - the message is settled all the same
            logger.warning("%s could not be remembered: %s", key, sentence(exc))
            return False
        return True
