"""One invocation's batch: its lanes are run, and each message is settled."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from operator import itemgetter
from typing import Protocol, TypeVar

from lambda_celery.message import MAXIMUM_ENTRIES
from lambda_celery.payloads import PayloadStore, is_pointer
from lambda_runtime.deadline import ANSWER_SECONDS, Deadline
from lambda_runtime.decision import Case, Decision, Killed
from lambda_runtime.log import TaskFields
from lambda_runtime.messages.delivery import Delivery
from lambda_runtime.messages.note import Fate
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
from lambda_runtime.running.pipeline import Way
from lambda_runtime.running.threads import Lane, Pool, lanes
from lambda_runtime.table.completions import Completion
from lambda_runtime.table.failed_tasks import has_been_parked

logger = logging.getLogger(__name__)

_Decided = TypeVar("_Decided")


class Place(Protocol):
    """Where lanes are run."""

    #: Whether a task that kills its process ends the invocation with it.
    dies_with_its_tasks: bool

    def run(self, batch: Batch, lanes: list[Lane]) -> None:
        """Run the *lanes* of *batch*, those first that come first."""

    def run_alone(self, batch: Batch, lane: Lane) -> None:
        """Run *lane*, which may kill its process: all others are settled."""


class InThisProcess:
    """Runs lanes here, in the process that answers for them."""

    dies_with_its_tasks = True

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def run(self, batch: Batch, lanes: list[Lane]) -> None:
        """Run the *lanes* of *batch*."""
        self._pool.run(
            lanes, batch.run_lane, batch.take_up, batch.deadline.seconds_for_threads,
            may_leave=batch.decision.abandon,
        )  # fmt: skip

    def run_alone(self, batch: Batch, lane: Lane) -> None:
        """Run *lane* on the thread of the caller."""
        batch.run_lane(lane, is_alone=True)


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
    #: With how many runs there have been of the first message of each.
    _postponed: list[tuple[int, Lane]] = field(default_factory=list)
    #: By message id, those whose claim was written ahead, until their run begins.
    _ahead: dict[str, Case] = field(default_factory=dict)
    #: The ids of messages whose run is done, and whose completion is still to be written.
    _done: set[str] = field(default_factory=set)
    _cannot_send: bool = False
    _is_over: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, deliveries: list[Delivery], place: Place) -> None:
        """Run the tasks of *deliveries* at *place*; settle them but for the answer to Lambda."""
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
            # Better run in a process that may die than surely parked.
            left += self.settlement.take_unsent()
        # A FIFO queue's are not sent on before the run, for they would lose their place.
        cut = sorted(lanes(left), key=self._may_wait)
        place.run(self, cut)
        self._hand_back_hanging(cut)
        while self._postponed:
            # What kills its process has been tried as often as the process has died; most others
            # of its batch less often.
            self._postponed.sort(key=itemgetter(0))
            attempts, lane = self._postponed.pop(0)
            self._send_on_postponed()
            self.settlement.send_all()
            self.settlement.delete_settled()
            self.settlement.hide_returned()
            if place.dies_with_its_tasks and self._would_harm(attempts):
                self._keep_from_others(lane)
            else:
                place.run_alone(self, lane)
                self._hand_back_hanging([lane])
        self.settlement.send_all()
        self.settlement.send_rest()
        self.decision.completions.finish(self.deadline)

    def _hand_back_hanging(self, all_lanes: list[Lane]) -> None:
        """Leave what hangs, and what is behind it, on its queue."""
        with self._lock:
            self._is_over = True  # a thread that is left behind settles nothing any more
        gives_up = True
        for lane in all_lanes:
            unsettled = [each for each in lane if not self._is_known(each)]
            if not unsettled:
                continue
            first = unsettled[0].message_id
            if first in self._done:
                logger.error("Message %s is done, but its record could not be written", first)
                self.settlement.let_go(unsettled[0])
                continue
            if self.settlement.has_begun(unsettled[0]):
                delay = self._backoff(unsettled[0])
                self._hand_back(unsettled, Returned("has not ended in time", delay))
                continue
            case = self._ahead.get(first)
            if case is not None and gives_up and self.deadline.seconds() > 2 * ANSWER_SECONDS:
                gives_up = self.decision.give_up(case)
            if unsettled[0].fifo_group is None and not self._is_last_receive(unsettled[0]):
                self._hand_back(unsettled, Returned("has not begun in time", 0))
            else:
                self._hand_back(unsettled, Forwarded(datetime.now(UTC)))

    def _is_known(self, delivery: Delivery) -> bool:
        if self.settlement.has(delivery):
            return True
        return any(delivery in lane for _, lane in self._postponed)

    def _is_settled_before_all(self, delivery: Delivery) -> bool:
        comes_first = delivery.receive_count == 1
        if comes_first or delivery.fifo_group is not None or not self._is_near_its_last(delivery):
            return False
        with self.fields.of(delivery):
            outcome = self.decision.before_all(delivery, self.deadline)
            if outcome is None:
                return False
            self.finish(delivery, self._settle(delivery, outcome))
        return True

    def _may_wait(self, lane: Lane) -> bool:
        is_fifo = lane[0].fifo_group is not None
        return not (is_fifo and any(map(self._is_last_receive, lane)))

    def _send_on_postponed(self) -> None:
        """Send on those postponed that would not survive the death of this process.

        Until it fails: SQS may have taken a message although its answer was lost, and each
        further try makes one more of it.
        """
        postponed, self._postponed = self._postponed, []
        for attempts, lane in postponed:
            first = lane[0]
            may_be_sent = first.fifo_group is None and self._is_last_receive(first)
            if may_be_sent and not self._cannot_send:
                failure = self.settlement.forward(first, Forwarded(datetime.now(UTC)))
                if failure is None:
                    self.settlement.let_go(first)
                    continue
                self._cannot_send = True
            self._postponed.append((attempts, lane))

    def run_lane(self, lane: Lane, is_alone: bool = False, killed: Killed | None = None) -> None:
        """Run what comes one after the other: a message, or a message group.

        What follows a failure in its group must not overtake it: it comes back, too.

        :param killed: how the first of them was ended, with the process that ran it.
        """
        for position, delivery in enumerate(lane):
            with self.fields.of(delivery):
                self.settlement.begin(delivery)
                decide = partial(self.decision.on, delivery, self.deadline, is_alone=is_alone)
                if killed is not None and position == 0:
                    decide = partial(self.decision.killed, delivery, self.deadline, killed)
                outcome = self._decide(decide)
                if self._is_over and not is_alone:
                    return
                if not self._conclude(lane, position, outcome):
                    return

    def lost(self, lane: Lane) -> None:
        """Leave the messages of *lane* on their queue: with the first, a process has died."""
        with self.fields.of(lane[0]):
            self._hand_back(lane, self.decision.lost(lane[0], self.deadline))

    def _would_harm(self, attempts: int) -> bool:
        """Whether the next of those postponed, with so many *attempts*, would have others parked.

        That is if it kills its process once more, and SQS cannot be reached, so that others at
        their last receive are still on the queue. One lost run tells nothing against it, for a
        whole batch has one after a kill; nor do as many as all others have that wait with it.
        """
        if attempts <= max(1, min((each for each, _ in self._postponed), default=1)):
            return False
        at_stake = [*self.settlement.undeleted, *(each for _, [each, *_] in self._postponed)]
        return any(
            self.queues.get(each.source_arn).may_be_last(each.receive_count) for each in at_stake
        )

    def _keep_from_others(self, lane: Lane) -> None:
        logger.warning(
            "Message %s, whose task may have killed its process, is not run: SQS cannot be reached "
            "to delete others of its batch, which may be at their last receive.",
            lane[0].message_id,
        )  # fmt: skip
        back: Returned | Forwarded = Returned("may harm others", self._backoff(lane[0]))
        if self._is_last_receive(lane[0]):
            back = Forwarded(datetime.now(UTC))
        self._hand_back(lane, back)

    def postpone(self, lane: Lane, attempts: int) -> None:
        """Have *lane* run when all others are settled; its first has had so many *attempts*."""
        with self._lock:
            self._postponed.append((attempts, lane))

    def take_postponed(self) -> list[tuple[int, Lane]]:
        """Return the lanes that are to run when all others are settled, and forget them."""
        with self._lock:
            postponed, self._postponed = self._postponed, []
        return postponed

    def take_up(self, lane: Lane, way: Way) -> None:
        """Take *lane* up on one of several threads."""
        delivery = lane[0]
        if not self._waits_for_nobody(lane):
            with way.at_a_place():
                self.run_lane(lane)
            way.end()
            return
        with self.fields.of(delivery):
            case = self._decide(lambda: self.decision.take_up(delivery, self.deadline))
            if self._is_over:
                way.end()
            elif not isinstance(case, Case):
                self.settlement.begin(delivery)
                self._conclude(lane, 0, case)
                way.end()
            elif self.decision.may_be_claimed_ahead(case):
                self._ahead[delivery.message_id] = case
                self.decision.claim_ahead(case, partial(self._claimed_ahead, case, way))
            else:
                self._go_on_here(case, way)

    def _waits_for_nobody(self, lane: Lane) -> bool:
        first = lane[0]
        # What is near its last receive is deleted by name as soon as it is settled.
        is_careful = first.receive_count > 1 or self._is_near_its_last(first)
        return first.fifo_group is None and not is_careful and not has_been_parked(first)

    def _claimed_ahead(self, case: Case, way: Way) -> None:
        if case.is_on_loop:
            way.on_loop(partial(self._go_on, case, way))
        else:
            way.later(partial(self._go_on_here, case, way))

    def _go_on_here(self, case: Case, way: Way) -> None:
        with way.at_a_place():
            self._go_on(case, way)

    def _go_on(self, case: Case, way: Way) -> None:
        """Run what was taken up."""
        delivery = case.delivery
        if self._is_over:
            way.end()
            return
        if case.is_on_loop and case.has_waited:
            case.is_on_loop = False  # it is to be asked whether it is still wanted
            way.later(partial(self._go_on_here, case, way))
            return
        with self.fields.of(delivery):
            self.settlement.begin(delivery)
            self._ahead.pop(delivery.message_id, None)
            outcome = self._decide(lambda: self.decision.go_on(case))
            if case.completion is not None:
                self._done.add(delivery.message_id)
                written = partial(self._written, delivery, outcome, case.completion, way)
                self.decision.complete_behind(case, written)
            elif case.is_on_loop and not isinstance(outcome, Postponed):
                # Where nothing may wait for AWS.
                note = partial(self.decision.note, case, outcome)
                way.later(partial(self._settle_later, delivery, outcome, note, way))
            else:
                if not self._is_over:
                    self._conclude([delivery], 0, outcome)
                way.end()

    def _written(
        self,
        delivery: Delivery,
        outcome: Outcome | Postponed,
        completion: Completion,
        way: Way,
        is_written: bool,
    ) -> None:
        """Settle what is done; on the clerk's thread, where nothing may wait."""
        completions = self.decision.completions
        is_through = is_written and not completions.are_left
        if is_through and not is_pointer(delivery.body) and not self._is_over:
            self.settlement.let_go(delivery)
            way.end()
            return
        note = completions.try_again if is_written else partial(completions.write, completion)
        way.later(partial(self._settle_later, delivery, outcome, note, way))

    def _settle_later(
        self,
        delivery: Delivery,
        outcome: Outcome | Postponed,
        note: Callable[[], None],
        way: Way,
    ) -> None:
        """Settle what has run, and *note* it in its record before, where both may wait."""
        with self.fields.of(delivery):
            note()
            if not self._is_over:
                self._conclude([delivery], 0, outcome)
        way.end()

    def _conclude(self, lane: Lane, position: int, outcome: Outcome | Postponed) -> bool:
        """Carry out the *outcome* of what is at *position* of *lane*; return whether it goes on."""
        if isinstance(outcome, Postponed):
            self.postpone(lane[position:], outcome.attempts)
            return False
        delivery = lane[position]
        back = self._settle(delivery, outcome)
        if back is None:
            self.finish(delivery, None)
            return True
        self._hand_back(lane[position:], back)
        return False

    def _hand_back(self, lane: Lane, back: Returned | Forwarded) -> None:
        """Leave the messages of *lane*, of which the first is to come *back*, on their queue.

        Those at their last receive are sent to the end of their group, and what follows them:
        SQS would park them, although they have attempts left.
        """
        if isinstance(back, Forwarded) and lane[0].fifo_group is None:
            self.finish(lane[0], back)
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
                    self.finish(delivery, None)
                else:
                    self.finish(delivery, returned)

    def _is_sent_to_the_end(self, delivery: Delivery) -> bool:
        logger.warning(
            "Message %s is sent to the end of its group %s, because its %d receives are spent by "
            "failures of others: give the mapping a BatchSize of 1, or the queue a higher "
            "maxReceiveCount.",
            delivery.message_id, delivery.fifo_group, delivery.receive_count,
        )  # fmt: skip
        return self.settlement.forward(delivery, Forwarded(datetime.now(UTC))) is None

    def finish(self, delivery: Delivery, returned: Returned | Forwarded | None) -> None:
        """Settle *delivery*: it stays on its queue as *returned* says, or is let go."""
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

    def _decide(self, decide: Callable[[], _Decided]) -> _Decided | Returned:
        try:
            return decide()
        except Exception:  # it raises nothing; but whoever else is in the batch has done no harm
            logger.exception("A message could not be decided on")
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
            case Returned() | Forwarded():
                return outcome
            case Deleted():
                has_payload = is_pointer(delivery.body) and not outcome.keep_payload
                if not outcome.keep_payload:  # else it is parked again
                    self.decision.failed_tasks.forget(delivery)
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
                    # No error of its own: the failure has been told as one.
                    end = delivery.note.end or Fate.PARKED
                    logger.warning(
                        "Message %s is parked: %s", delivery.message_id, outcome.reason,
                        extra={"end": end.value},
                    )  # fmt: skip
                return None
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
