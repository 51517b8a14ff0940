"""One record: from a delivery to what becomes of it.

The ways out, in the order in which they are decided:

====================================  ==============================================
this very message                     parked before: deleted
the body, or its S3 object            unreadable: returned, parked at the last attempt
the task                              not registered: the same
``eta``                               ahead: forwarded
the time left                         too short: returned at once
``expires``                           passed: deleted, REVOKED; but see the record first
the idempotency record                completed: deleted; in progress: returned;
                                      lost, and not to be run again: parked
the run                               see :mod:`lambda_runtime.running.execution`
====================================  ==============================================
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone

from celery import Celery, signals
from celery.app.trace import LOG_RECEIVED
from celery.utils.log import get_logger
from celery.utils.time import rate
from celery.worker import state as worker_state
from celery.worker.request import Request

from lambda_celery import aws
from lambda_celery.conf import Settings
from lambda_celery.exceptions import PayloadMissingError, UnreadableMessageError
from lambda_celery.payloads import PayloadStore, is_pointer
from lambda_celery.table.own_keys import KEY_OPTION, options_of
from lambda_celery.table.revocations import Revocations, stamp_keys
from lambda_celery.table.schema import parked_key, payload_key, revoked_key
from lambda_runtime.deadline import Deadline
from lambda_runtime.messages.delivery import Delivery
from lambda_runtime.messages.outcome import (
    Deleted,
    Forwarded,
    Outcome,
    Parked,
    Returned,
    backoff_seconds,
    spent,
)
from lambda_runtime.messages.request import UnregisteredTaskError, read_request
from lambda_runtime.messages.source_queues import SourceQueue, SourceQueues
from lambda_runtime.running.execution import Attempt, TaskRunner
from lambda_runtime.table.claims import (
    Claim,
    Claimed,
    IdempotencyTable,
    Publication,
    publication_of,
)
from lambda_runtime.table.rate_limits import PATIENCE_SECONDS, RateLimiter

logger = logging.getLogger(__name__)
_TABLE_OPERATIONS = {"DeleteItem", "GetItem", "PutItem", "UpdateItem"}
#: Where a worker says "Task … received".
received_logger = get_logger("celery.worker.strategy")


class RecordProcessor:
    """Decides what becomes of a record, running its task if that is due."""

    def __init__(
        self,
        app: Celery,
        settings: Settings,
        queues: SourceQueues,
        payloads: PayloadStore,
        hostname: str,
    ) -> None:
        self._app = app
        self._settings = settings
        self._queues = queues
        self._payloads = payloads
        self._hostname = hostname
        self._table = IdempotencyTable(settings)
        self._revocations = Revocations(settings)
        self._rate_limiter = RateLimiter(settings)
        self._runner = TaskRunner(app, hostname)

    def process(self, delivery: Delivery, deadline: Deadline) -> Outcome:
        """Return what becomes of *delivery*; its idempotency record is written by then.

        Raises nothing.
        """
        queue = self._queues.get(delivery.source_arn)
        backoff = backoff_seconds(queue.settings, delivery.receive_count)
        try:
            if deadline.seconds_for_tasks() <= 0:
                return _too_late(delivery, queue)
            return self._process(delivery, queue, deadline, backoff)
        except aws.AWS_ERRORS as exc:
            logger.error("Message %s comes back: %s", delivery.message_id, _sentence(exc))
            reason = "AWS could not be asked before the run"
            with suppress(*aws.AWS_ERRORS):
                return _not_run(reason, delivery, queue, backoff)
            return Returned(reason, backoff)
        except BaseException:
            logger.exception("Message %s comes back after an error", delivery.message_id)
            return Returned("an internal error", backoff)

    def _process(
        self, delivery: Delivery, queue: SourceQueue, deadline: Deadline, backoff: int
    ) -> Outcome:
        if self._was_parked(delivery):
            return Deleted("parked before", keep_payload=True)  # for the dead letter
        try:
            body = self._body(delivery)
            if body is None:
                return Deleted("completed before, with its S3 object")
            request = read_request(self._app, self._settings, delivery, body, self._hostname)
            publication = publication_of(request)
        except (UnreadableMessageError, UnregisteredTaskError) as exc:
            last = queue.last_attempt(delivery.receive_count)
            logger.error(
                "Message %s cannot be run: %s It is %s (receive %d of %s).",
                delivery.message_id, exc,
                "parked" if last else f"tried again in {backoff} s",
                delivery.receive_count, queue.max_receive_count,
            )  # fmt: skip
            return spent(str(exc), backoff, last)
        revoked = self._revocations.include(_revocation_keys(request))
        if _is_ahead(request) and not revoked:
            return Forwarded(request.eta, request.id)
        needed_seconds = self._needed_seconds(request)
        if not deadline.allows(needed_seconds):
            return _too_late(delivery, queue)
        if _is_expired(request) or revoked:
            # A copy of what has run, or is running, is not to be announced as revoked.
            found = self._table.look_up(publication.key)
            if (outcome := _of_another_run(request, found, delivery, queue)) is not None:
                return outcome
        elif (turn := self._turn(request, delivery, deadline, needed_seconds)) is not None:
            return turn
        about = {
            "id": request.id, "name": request.name, "eta": request.eta,
            "args": request.argsrepr, "kwargs": request.kwargsrepr,
        }  # fmt: skip
        received_logger.info(LOG_RECEIVED, about, extra={"data": about})
        if revoked:
            worker_state.revoked.add(request.id)
        if request.revoked():
            return Deleted("revoked" if revoked else "expired")
        signals.task_received.send(sender=self, request=request)
        return self._run_once(request, publication, delivery, queue, deadline, backoff)

    def _run_once(
        self,
        request: Request,
        publication: Publication,
        delivery: Delivery,
        queue: SourceQueue,
        deadline: Deadline,
        backoff: int,
    ) -> Outcome:
        life_seconds = publication.own_life_seconds or queue.record_life_seconds
        last = queue.last_attempt(delivery.receive_count)  # before the claim: it may ask AWS
        claimed = self._table.claim(
            publication.key,
            life_seconds=life_seconds,
            run_ends=deadline.epoch,
            # False only where somebody has set it: left alone, it is None.
            spare_lost=request.task.reject_on_worker_lost is False
            or request.task.retry_on_worker_lost,
        )
        if (outcome := _of_another_run(request, claimed, delivery, queue)) is not None:
            return outcome
        attempt = _attempt(request, deadline, last, backoff)
        if claimed.claim is Claim.LOST:
            logger.error("Task %s was lost with its process", request.humaninfo())
            return self._runner.worker_lost(request, attempt)
        if deadline.allows(self._needed_seconds(request)):
            outcome = self._runner.run(request, attempt)
        else:  # DynamoDB took its time
            outcome = _too_late(delivery, queue)
        try:
            if isinstance(outcome, Deleted):
                self._table.complete(publication.key, life_seconds=life_seconds)
            else:
                self._table.release(publication.key, claimed)
                if isinstance(outcome, Parked) and publication.has_own_key:
                    # The call has failed, so the next with its key is to run, from the start.
                    for retries in range(request.request_dict.get("retries") or 0):
                        self._table.forget(publication_of(request, retries).key)
        except Exception as exc:
            # The outcome stands: what is done is not done again, and what has failed comes
            # back, to wait for the end of the lock.
            logger.error(
                "The idempotency record %s is out of date: %s", publication.key, _sentence(exc)
            )
        return outcome

    def _needed_seconds(self, request: Request) -> float:
        """Return the time that should be left for the task to start.

        Its limit; or what its longest run in this process took, for a task that the
        invocation's end interrupts may have sent its mail already.
        """
        limits = filter(None, _time_limits(request))
        return float(max(limits, default=self._runner.longest_run_seconds(request.type)))

    def _turn(
        self, request: Request, delivery: Delivery, deadline: Deadline, needed_seconds: float
    ) -> Outcome | None:
        """Wait for the task's turn by its ``rate_limit``; return what becomes of it if that is far.

        It is sent on as a new message, for to come back is no failed receive. A FIFO queue's
        message cannot be sent on: it waits here for as long as there is time.
        """
        per_second = rate(request.task.rate_limit)
        if not per_second:
            return None
        spare = max(0.0, deadline.seconds_for_tasks() - needed_seconds)
        fifo = delivery.fifo_group is not None
        turn = self._rate_limiter.turn(
            request.type, per_second, spare if fifo else min(spare, PATIENCE_SECONDS)
        )
        if turn.granted:
            time.sleep(turn.seconds)
            return None
        logger.info(
            "Task %s comes back in %.1f s, by its rate limit of %s",
            request.humaninfo(), turn.seconds, request.task.rate_limit,
        )  # fmt: skip
        return Forwarded(datetime.now(timezone.utc) + timedelta(seconds=turn.seconds))

    def _body(self, delivery: Delivery) -> str | None:
        """Return the message's body, from S3 if it is there; ``None`` if it was settled before."""
        if not is_pointer(delivery.body):
            return delivery.body
        try:
            return self._payloads.fetch(delivery.body)
        except (PayloadMissingError, *aws.AWS_ERRORS):
            # Without s3:ListBucket, S3 says of a missing object that access is denied.
            if self._table.is_completed(payload_key(delivery.body)):
                return None
            raise

    def remember_payload(self, delivery: Delivery) -> bool:
        """Note that the S3 body of *delivery* is settled; return whether it may be deleted.

        Without the body the publication's key cannot be computed, so another copy of
        the message could not be told from one whose body was lost.
        """
        return self._remember(delivery, payload_key(delivery.body))

    def remember_parked(self, delivery: Delivery) -> None:
        """Note that *delivery* is in the dead-letter queue.

        Its original stays on its own queue until the invocation has answered. If the
        process dies before that, the original comes again, and must not fail again. A
        redrive has a new message id, and is run.
        """
        self._remember(delivery, parked_key(delivery.message_id))

    def _was_parked(self, delivery: Delivery) -> bool:
        return delivery.receive_count > 1 and self._table.is_completed(
            parked_key(delivery.message_id)
        )

    def _remember(self, delivery: Delivery, key: str) -> bool:
        try:
            queue = self._queues.get(delivery.source_arn)
            self._table.complete(key, life_seconds=queue.record_life_seconds)
        except Exception as exc:
            logger.warning("%s could not be remembered: %s", key, _sentence(exc))
            return False
        return True


def _is_expired(request: Request) -> bool:
    return request.expires is not None and request.expires <= datetime.now(timezone.utc)


def _is_ahead(request: Request) -> bool:
    ahead = request.eta is not None and request.eta > datetime.now(timezone.utc)
    return ahead and not _is_expired(request)


def _too_late(delivery: Delivery, queue: SourceQueue) -> Outcome:
    return _not_run("the invocation's time runs short", delivery, queue)


def _not_run(
    reason: str, delivery: Delivery, queue: SourceQueue, delay_seconds: int = 0
) -> Outcome:
    """Return what becomes of a message that nothing is wrong with, but that was not run.

    It comes back. At its last receive SQS would take it for spent and move it to the
    dead-letter queue, so then it is sent on as a new message.
    """
    if queue.last_attempt(delivery.receive_count):
        return Forwarded(datetime.now(timezone.utc) + timedelta(seconds=delay_seconds))
    return Returned(reason, delay_seconds)


def _of_another_run(
    request: Request, found: Claimed | None, delivery: Delivery, queue: SourceQueue
) -> Outcome | None:
    """Return what becomes of a copy whose publication has run, or is running, elsewhere."""
    if found is not None and found.claim is Claim.COMPLETED:
        embed = request.body[2]
        awaited = any(embed.get(each) for each in ("chord", "chain", "callbacks"))
        if awaited and KEY_OPTION in options_of(request.task):
            logger.warning(
                "Task %s is dropped, because its idempotency_key has run before. What waits for "
                "it, a chord or what follows it, is not run.",
                request.humaninfo(),
            )
        else:
            logger.info("Task %s was run before: this copy is dropped", request.humaninfo())
        return Deleted("completed before")
    if found is not None and found.claim is Claim.IN_PROGRESS:
        hidden = max(0, math.ceil(found.seconds_left())) + 1
        logger.info("Task %s is being run: this copy waits %d s", request.humaninfo(), hidden)
        return _not_run("in progress elsewhere", delivery, queue, hidden)
    return None


def _revocation_keys(request: Request) -> Iterator[str]:
    yield revoked_key(request.id)
    yield from stamp_keys(request.stamps)


def _time_limits(request: Request) -> tuple[float | None, float | None]:
    """Return the hard and the soft limit: the call's, else the task's."""
    hard, soft = request.time_limits
    return hard or request.task.time_limit, soft or request.task.soft_time_limit


def _attempt(request: Request, deadline: Deadline, last: bool, backoff: int) -> Attempt:
    hard, soft = _time_limits(request)
    # The invocation's end is a limit too: an exception in one task is better than a kill,
    # which takes the rest of the batch along and leaves it hidden for minutes.
    left = max(deadline.seconds_for_tasks(), 0.001)
    ends_with_invocation = not soft or left < soft
    return Attempt(
        task_id=request.id,
        last=last,
        backoff_seconds=backoff,
        soft_time_limit=left if ends_with_invocation else soft,
        hard_time_limit=hard,
        ends_with_invocation=ends_with_invocation,
    )


def _sentence(exc: BaseException) -> str:
    operation = getattr(exc, "operation_name", None)
    if operation in _TABLE_OPERATIONS:
        return aws.explain(
            exc,
            action=f"dynamodb:{operation}",
            resource="the idempotency table",
            setting="idempotency_table",
        )
    if operation in {"GetObject", "DeleteObject"}:
        return aws.explain(
            exc,
            action=f"s3:{operation}",
            resource="the payload bucket",
            setting="payload_bucket",
        )
    if operation:
        return aws.explain(exc, action=f"sqs:{operation}", resource="the queue")
    return str(exc)
