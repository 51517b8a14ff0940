"""One invocation's batch: its lanes are run, and each message is settled."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime

from lambda_celery.message import MAXIMUM_ENTRIES
from lambda_celery.payloads import PayloadStore, is_pointer
from lambda_runtime.deadline import Deadline
from lambda_runtime.decision import Decision
from lambda_runtime.log import TaskFields
from lambda_runtime.messages.delivery import Delivery
from lambda_runtime.messages.outcome import (
    Deleted,
    Forwarded,
    Outcome,
    Parked,
    Postponed,
    Returned,
)
from lambda_runtime.messages.settlement import Settlement, misconfiguration
from lambda_runtime.messages.source_queues import SourceQueues
from lambda_runtime.retry_policy import backoff_seconds
from lambda_runtime.running.threads import Lane, Pool, lanes

logger = logging.getLogger(__name__)


@dataclass
class Batch:
    """What a batch's messages have in common.

    A process may die at any moment, and SQS then counts a receive of every message that was not
    deleted by name. So what is at its last receive is settled before anything runs, and what has
    killed a process before runs when all others are settled.
    """

    decision: Decision
    settlement: Settlement
    queues: SourceQueues
    payloads: PayloadStore
    deadline: Deadline
    fields: TaskFields
    _has_several: bool = False
    _postponed: list[Lane] = field(default_factory=list)
    #: The ids of messages that a lane has come to.
    _begun: set[str] = field(default_factory=set)
    _is_over: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, deliveries: list[Delivery], pool: Pool) -> None:
        """Run the tasks of *deliveries*, and settle them but for the answer to Lambda."""
        self._has_several = len(deliveries) > 1
        # For thousands of messages it must not take the time of their tasks.
        until = self.deadline.seconds_for_tasks() / 2
        left = [
            each
            for each in deliveries
            if self.deadline.seconds_for_tasks() < until or not self._is_settled_before_all(each)
        ]
        if len(left) < len(deliveries):
            self.settlement.send_all()
            self.settlement.delete_settled()
        pool.run(
            lanes(left),
            self._run_lane,
            self.deadline.seconds_for_threads,
            lambda: self.decision.bodies_are_through,
        )
        self._hand_back_hanging(lanes(left))
        while self._postponed:
            lane = self._postponed.pop(0)
            self._postponed = [each for each in self._postponed if not self._is_sent_on(each)]
            self.settlement.send_all()
            self.settlement.delete_settled()
            self.settlement.hide_returned()
            self._run_lane(lane, is_alone=True)
        self.settlement.send_all()
        self.decision.completions.finish(self.deadline)

    def _hand_back_hanging(self, all_lanes: list[Lane]) -> None:
        """Leave what hangs, and what is behind it, on its queue."""
        with self._lock:
            self._is_over = True  # a thread that is left behind settles nothing any more
        for lane in all_lanes:
            unsettled = [each for each in lane if not self._is_known(each)]
            if not unsettled:
                continue
            self.decision.abandon()
            if unsettled[0].message_id in self._begun:
                delay = self._backoff(unsettled[0])
                self._hand_back(unsettled, Returned("has not ended in time", delay))
            elif unsettled[0].fifo_group is None and not self._is_last_receive(unsettled[0]):
                self._hand_back(unsettled, Returned("has not begun in time", 0))
            else:
                self._hand_back(unsettled, Forwarded(datetime.now(UTC)))

    def _is_known(self, delivery: Delivery) -> bool:
        return self.settlement.has(delivery) or any(delivery in lane for lane in self._postponed)

    def _is_settled_before_all(self, delivery: Delivery) -> bool:
        comes_first = delivery.receive_count == 1
        if comes_first or delivery.fifo_group is not None or not self._is_near_its_last(delivery):
            return False
        with self.fields.of(delivery):
            outcome = self.decision.before_all(delivery, self.deadline)
            if outcome is None:
                return False
            self._finish(delivery, self._settle(delivery, outcome))
        return True

    def _is_sent_on(self, lane: Lane) -> bool:
        """Send on the message of *lane* if it would not survive the death of this process."""
        (first, *_) = lane
        if first.fifo_group is not None or not self._is_last_receive(first):
            return False
        if self.settlement.forward(first, Forwarded(datetime.now(UTC))) is not None:
            return False
        self.settlement.let_go(first)
        return True

    def _run_lane(self, lane: Lane, is_alone: bool = False) -> None:
        """Run what comes one after the other: a message, or a message group.

        What follows a failure in its group must not overtake it: it comes back, too.
        """
        back: Returned | Forwarded | None = None
        for position, delivery in enumerate(lane):
            with self.fields.of(delivery):
                self._begun.add(delivery.message_id)
                outcome = self._decide(delivery, is_alone)
                if self._is_over and not is_alone:
                    return
                if isinstance(outcome, Postponed):
                    with self._lock:
                        self._postponed.append(lane[position:])
                    return
                back = self._settle(delivery, outcome)
                if back is None:
                    self._finish(delivery, None)
                    continue
            self._hand_back(lane[position:], back)
            return

    def _hand_back(self, lane: Lane, back: Returned | Forwarded) -> None:
        """Leave the messages of *lane*, of which the first is to come *back*, on their queue.

        Those at their last receive are sent to the end of their group, and what follows them:
        SQS would park them, although they have attempts left.
        """
        if isinstance(back, Forwarded) and lane[0].fifo_group is None:
            self._finish(lane[0], back)
            return
        returned = back if isinstance(back, Returned) else _returned(back)
        is_passing = returned.misconfiguration is None
        is_sent_on = False
        for position, delivery in enumerate(lane):
            with self.fields.of(delivery):
                has_attempts_left = position > 0 or isinstance(back, Forwarded)
                is_at_end = is_passing and has_attempts_left and self._is_last_receive(delivery)
                if (is_sent_on or is_at_end) and self._is_sent_to_the_end(delivery):
                    is_sent_on = True
                    self._finish(delivery, None)
                else:
                    self._finish(delivery, returned)

    def _is_sent_to_the_end(self, delivery: Delivery) -> bool:
        logger.warning(
            "Message %s is sent to the end of its group %s, because its %d receives are spent by "
            "failures of others: give the mapping a BatchSize of 1, or the queue a higher "
            "maxReceiveCount.",
            delivery.message_id, delivery.fifo_group, delivery.receive_count,
        )  # fmt: skip
        return self.settlement.forward(delivery, Forwarded(datetime.now(UTC))) is None

    def _finish(self, delivery: Delivery, returned: Returned | Forwarded | None) -> None:
        if isinstance(returned, Forwarded):
            self.settlement.send_on(delivery, returned)
            return
        if returned is not None:
            self.settlement.hand_back(delivery, returned)
            return
        self.settlement.let_go(delivery)
        # Where some have come again, the process may have died, and may again.
        if self._has_several and self._is_near_its_last(delivery):
            self.settlement.delete_settled()
        elif self._has_several and delivery.receive_count > 1:
            self.settlement.delete_settled(at_least=MAXIMUM_ENTRIES)

    def _decide(self, delivery: Delivery, is_alone: bool) -> Outcome | Postponed:
        try:
            return self.decision.on(delivery, self.deadline, is_alone=is_alone)
        except Exception:  # it raises nothing; but whoever else is in the batch has done no harm
            logger.exception("Message %s could not be decided on", delivery.message_id)
            return Returned("an internal error", 0)

    def _settle(self, delivery: Delivery, outcome: Outcome) -> Returned | Forwarded | None:
        """Carry *outcome* out; return how the message stays on the queue, if it does."""
        try:
            return self._carry_out(delivery, outcome)
        except Exception:
            logger.exception("Message %s could not be settled", delivery.message_id)
            if isinstance(outcome, Deleted):
                return None
            return Returned("could not be settled", self._backoff(delivery))

    def _carry_out(self, delivery: Delivery, outcome: Outcome) -> Returned | Forwarded | None:
        match outcome:
            case Returned():
                return outcome
            case Deleted():
                has_payload = is_pointer(delivery.body) and not outcome.keep_payload
                if has_payload and self.decision.settled.remember_payload(delivery):
                    self.payloads.delete(delivery.body)
                return None
            case Parked():
                if (failure := self.settlement.park(delivery, outcome)) is not None:
                    return Returned(
                        "could not be parked", self._backoff(delivery), misconfiguration(failure)
                    )
                self.decision.parked(delivery, outcome)
                if outcome.exception is not None:  # else it has been said
                    logger.error("Message %s is parked: %s", delivery.message_id, outcome.reason)
                return None
            case Forwarded():
                return outcome
        raise AssertionError(outcome)  # postponed, although all others are settled

    def _is_near_its_last(self, delivery: Delivery) -> bool:
        """Whether it is the last receive but one, or the last: what dies early is not counted."""
        return self.queues.get(delivery.source_arn).is_last(delivery.receive_count + 1)

    def _is_last_receive(self, delivery: Delivery) -> bool:
        return self.queues.get(delivery.source_arn).is_last(delivery.receive_count)

    def _backoff(self, delivery: Delivery) -> int:
        settings = self.queues.get(delivery.source_arn).settings
        return backoff_seconds(settings, delivery.receive_count)


def _returned(forwarded: Forwarded) -> Returned:
    """Return how a FIFO queue's message stays that cannot be sent on without losing its place."""
    return Returned("cannot be sent on", forwarded.seconds_ahead())
