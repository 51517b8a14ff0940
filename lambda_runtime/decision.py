"""One message: from a delivery to what becomes of it, by steps.

Each step settles the message, or leaves it to the next one. In their order:

================  ==================================================================
step              settles the message if
================  ==================================================================
``time_left``     the invocation's time is up: returned at once
``parked_before`` this very message was parked, but its process died: deleted
``readable``      the body, or its S3 object, cannot be read, or its task is not
                  registered: returned, parked at the last attempt; its object is gone
                  because it was settled: deleted
``due``           its ``eta`` is ahead, and it is not revoked: forwarded
``in_time``       the time left is too short for its task: returned at once
``repetition``    it has expired, is revoked or has a ``rate_limit``, but another run of it
                  has completed, or is going on: as for ``claimed``
``its_turn``      its ``rate_limit`` lets it run much later: forwarded
``still_wanted``  it has expired, or is revoked: deleted, REVOKED
``claimed``       its publication has completed: deleted; has run, but is still to be
                  parked: parked; is being run: returned, hidden until that run's lock
                  ends; was lost with its process: postponed until all others are settled,
                  or parked, if it is not to be run again
================  ==================================================================

What no step settles is run (:mod:`lambda_runtime.running.execution`), and what has become of it
is noted in the claim. A returned message that was not run, or has attempts left, is forwarded at
its last receive. AWS out of reach: returned.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial

from celery import Celery, signals
from celery.app.trace import LOG_RECEIVED
from celery.utils.log import get_logger
from celery.utils.time import rate
from celery.worker import state as worker_state
from celery.worker.request import Request

from lambda_celery import aws
from lambda_celery.conf import Settings
from lambda_celery.exceptions import PayloadMissingError, UnreadableMessageError
from lambda_celery.message import OutgoingMessage
from lambda_celery.payloads import PayloadStore, is_pointer
from lambda_celery.publishing.marks import RunningCall, is_of_a_run
from lambda_celery.table.rate_limits import PATIENCE_SECONDS, RateLimiter
from lambda_celery.table.revocations import Revocations, stamp_keys
from lambda_celery.table.schema import revoked_key
from lambda_celery.trace_context import XRAY_HEADER, xray_header
from lambda_runtime.answers import Answers, unrunnable, unwanted, wait
from lambda_runtime.deadline import Deadline
from lambda_runtime.messages.delivery import Delivery
from lambda_runtime.messages.note import Fate
from lambda_runtime.messages.outcome import (
    IN_PROGRESS,
    Deleted,
    End,
    Forwarded,
    Outcome,
    Parked,
    Postponed,
    Returned,
)
from lambda_runtime.messages.publication import Publication, publication_of
from lambda_runtime.messages.request import UnregisteredTaskError, read_request
from lambda_runtime.messages.source_queues import SourceQueue, SourceQueues
from lambda_runtime.refusals import sentence
from lambda_runtime.retry_policy import backoff_seconds, not_run, spent
from lambda_runtime.running.attempt import Attempt
from lambda_runtime.running.execution import TaskRunner
from lambda_runtime.running.failure_policy import UNFINISHED
from lambda_runtime.running.limits.limit import InvocationEnds
from lambda_runtime.running.limits.time_limits import call_until
from lambda_runtime.table.claims import (
    AheadClaim,
    Claim,
    Claimed,
    Ending,
    IdempotencyTable,
    lock_end,
)
from lambda_runtime.table.completions import Completion, Completions
from lambda_runtime.table.failed_tasks import FailedTasks
from lambda_runtime.table.group_commit import Written
from lambda_runtime.table.settled import Settled

logger = logging.getLogger(__name__)
#: How late it may be noticed that a task is revoked: so often the table is asked.
_MOMENT_SECONDS = 1.0
#: How long it is remembered that a direct call has run: longer than its caller asks.
_AWAITED_LIFE_SECONDS = 86_400
#: Where a worker says "Task … received".
received_logger = get_logger("celery.worker.strategy")


@dataclass(frozen=True)
class Killed:
    """How a run was ended, with its process: *seconds* were its hard limit."""

    claimed: Claimed
    seconds: float


#: Given a delivery with a hard limit, and how its run would be killed: entered around its body.
Watch = Callable[[Delivery, Killed], AbstractContextManager[None]]


@dataclass
class Case:
    """A delivery, and what the steps have found out about it."""

    delivery: Delivery
    queue: SourceQueue
    deadline: Deadline
    backoff_seconds: int
    is_alone: bool
    #: From ``readable`` on.
    request: Request = field(init=False)
    publication: Publication = field(init=False)
    #: Where its body was in S3.
    payload_stored_at: datetime | None = field(default=None, init=False)
    #: From ``due`` on.
    is_revoked: bool = field(init=False)
    #: What stands in the record of the publication, where it was looked up.
    found: Claimed | None = field(init=False)
    #: When it was taken up (``time.monotonic``).
    began_at: float = field(default_factory=time.monotonic, init=False)
    #: Whether its claim is written together with others, before its run is due.
    ahead: AheadClaim | None = field(default=None, init=False)
    #: From ``claimed`` on.
    claimed: Claimed = field(init=False)
    #: Whether all of its run goes on the event loop's thread.
    is_on_loop: bool = field(default=False, init=False)
    #: Whether it was begun at all, and whether its thread was left to itself then.
    has_run: bool = field(default=False, init=False)
    is_abandoned: bool = field(default=False, init=False)
    #: What is still to be written of its run, behind it.
    completion: Completion | None = field(default=None, init=False)
    #: What a direct call is answered once more, if it asks once more.
    kept_answer: str | None = field(default=None, init=False)

    @property
    def is_last_receive(self) -> bool:
        """Whether SQS moves the message to the dead-letter queue if it comes back once more."""
        return self.delivery.is_awaited or self.queue.is_last(self.delivery.receive_count)

    @property
    def is_last_attempt(self) -> bool:
        """Whether the message is spent if this attempt fails.

        Not all of its receives need have been attempts.
        """
        return self.delivery.is_awaited or self.queue.is_last(self.claimed.number)

    @property
    def attempt_backoff_seconds(self) -> int:
        """How long the message is hidden if this attempt fails."""
        return backoff_seconds(self.queue.settings, self.claimed.number)

    @property
    def found_before(self) -> Claimed | None:
        """What stood in the record, as it was looked up or met by the claim."""
        return getattr(self, "claimed", None) or getattr(self, "found", None)

    @cached_property
    def record_life_seconds(self) -> int:
        """How long it is remembered that its publication has run."""
        if self.publication.own_life_seconds is not None:
            return self.publication.own_life_seconds
        return _AWAITED_LIFE_SECONDS if self.delivery.is_awaited else self.queue.record_life_seconds

    @property
    def call_id(self) -> str | None:
        """Which call it is, where several share the key, and one that fails speaks for itself.

        A task that runs again makes the direct calls of its run before under other ids.
        """
        own = self.publication.call_id
        return own or (self.delivery.message_id if self.delivery.is_awaited else None)

    @property
    def has_waited(self) -> bool:
        """Whether it may have expired, or been revoked, since it was taken up."""
        return self.is_expired or time.monotonic() - self.began_at > _MOMENT_SECONDS

    @property
    def is_expired(self) -> bool:
        """Whether its ``expires`` has passed."""
        expires = self.request.expires
        return expires is not None and expires <= datetime.now(UTC)

    @property
    def time_limits(self) -> tuple[float | None, float | None]:
        """The hard and the soft limit: the call's, else the task's."""
        hard, soft = self.request.time_limits
        return hard or self.request.task.time_limit, soft or self.request.task.soft_time_limit

    def not_run(self, reason: str, delay_seconds: int = 0) -> Returned | Forwarded:
        """Return what becomes of the message, with which nothing is wrong."""
        # The caller of a direct call asks again.
        is_spent = self.is_last_receive and not self.delivery.is_awaited
        return not_run(reason, is_spent, delay_seconds)

    def too_late(self) -> Returned | Forwarded:
        """Return what becomes of the message that this invocation has no time for."""
        return self.not_run("the invocation's time runs short")


Step = Callable[[Case], Outcome | Postponed | None]


class Decision:
    """Decides what becomes of a message, running its task if that is due."""

    def __init__(
        self,
        app: Celery,
        settings: Settings,
        queues: SourceQueues,
        payloads: PayloadStore,
        hostname: str,
        watch: Watch | None = None,
    ) -> None:
        """*watch*, if any, sees to it that no hard limit is outlived."""
        self._app = app
        self._settings = settings
        self._queues = queues
        self._payloads = payloads
        self._hostname = hostname
        self._watch = watch
        self._table = IdempotencyTable(settings)
        #: To be finished at the batch's end.
        self.completions = Completions(self._table)
        self.settled = Settled(self._table, queues)
        self.failed_tasks = FailedTasks(settings, queues)
        self._revocations = Revocations(settings)
        self._rate_limiter = RateLimiter(settings)
        self._runner = TaskRunner(app, hostname)
        self._answers = Answers(app, payloads)
        self._steps: tuple[Step, ...] = (
            self._time_left,
            self._parked_before,
            self._readable,
            self._due,
            self._in_time,
            self._repetition,
            self._its_turn,
            self._still_wanted,
            self._answers_known,
        )
        self._steps_before_all: tuple[Step, ...] = (
            self._time_left,
            self._parked_before,
            self._readable,
            self._ran_before,
            self._attempts_left,
        )

    def begin_anew(self) -> None:
        """Keep nothing of what only one environment may have. No message may be under way."""
        self._table.begin_anew()

    def on(
        self, delivery: Delivery, deadline: Deadline, *, is_alone: bool = False
    ) -> Outcome | Postponed:
        """Return what becomes of *delivery*; its idempotency record is written by then.

        Raises nothing.

        :param is_alone: whether all others are settled, so that a task that has killed its
            process may kill another.
        """
        case = self._case(delivery, deadline, is_alone)
        outcome = self._through(case, (*self._steps, self._claimed, self._run))
        assert outcome is not None  # _run has one
        return outcome

    def take_up(self, delivery: Delivery, deadline: Deadline) -> Case | Outcome | Postponed:
        """Return what becomes of *delivery*; or its case, for :meth:`go_on`, if it is to be run.

        Raises nothing.
        """
        case = self._case(delivery, deadline, False)
        outcome = self._through(case, self._steps)
        return case if outcome is None else outcome

    def may_be_claimed_ahead(self, case: Case) -> bool:
        """Whether the claim of *case* may be written before its run is due."""
        # Of one that must not run a second time, nobody could tell whether it had begun.
        task = case.request.task
        must_tell = task.reject_on_worker_lost is False or task.retry_on_worker_lost
        # Nor of one whose record has its answer, which nothing writes together with others.
        must_tell = must_tell or case.delivery.is_awaited
        return self._table.writes_together and not must_tell

    def claim_ahead(self, case: Case, then: Callable[[], None]) -> None:
        """Write the claim of *case* together with others.

        *then* is called, on another thread, when :meth:`go_on` may be; it must not wait.
        """
        case.is_on_loop = self._runner.runs_on_loop(case.request)
        asked_at = time.perf_counter()

        def told(ahead: AheadClaim) -> None:
            case.delivery.note.table_took(time.perf_counter() - asked_at)
            case.ahead = ahead
            if ahead.written is not Written.YES:
                case.is_on_loop = False  # for the claim is still to be waited for
            then()

        self._table.claim_ahead(
            case.publication.key,
            life_seconds=case.record_life_seconds,
            run_ends=case.deadline.epoch,
            message_id=case.delivery.lineage[0],
            call_id=case.publication.call_id,
            then=told,
        )

    def go_on(self, case: Case) -> Outcome | Postponed:
        """Return what becomes of the message of *case*, which was taken up.

        If the case has a completion then, that is still to be written. Raises nothing.
        """
        outcome = self._through(case, (self._wanted_by_now, self._claimed, self._run))
        assert outcome is not None  # _run has one
        return outcome

    def complete_behind(self, case: Case, then: Callable[[bool], None]) -> None:
        """Write the completion of *case* together with others: see :class:`Completions`."""
        assert case.completion is not None
        # Not the case: it has the arguments, and many may wait.
        note, asked_at = case.delivery.note, time.perf_counter()

        def told(is_written: bool) -> None:
            note.table_took(time.perf_counter() - asked_at)
            then(is_written)

        self.completions.write_behind(case.completion, told)

    def give_up(self, case: Case) -> bool:
        """Release the claim of *case*, which was written ahead, and is not to be run.

        Return whether AWS could be asked.
        """
        if case.ahead is None or case.ahead.written is not Written.YES:
            return True  # if it is written, it is held until its lock ends
        try:
            self._table.release(case.publication.key, case.ahead.won, has_run=False)
        except aws.AWS_ERRORS:
            return False
        return True

    def killed(self, delivery: Delivery, deadline: Deadline, killed: Killed) -> Outcome | Postponed:
        """Return what becomes of *delivery*, whose run has outlived its hard limit. Raises nothing.

        Its process was killed, and this is another one.
        """
        case = self._case(delivery, deadline, False)
        outcome = self._through(case, (self._readable, partial(self._end_killed, killed)))
        assert outcome is not None  # _end_killed has one
        return outcome

    def lost(self, delivery: Delivery, deadline: Deadline) -> Returned | Forwarded:
        """Return what becomes of *delivery*, whose process has died: it waits for its lock's end.

        Raises nothing.
        """
        if delivery.is_awaited:
            delivery.note.answer = self._answers.lost()
        hidden = max(0, math.ceil(lock_end(deadline.epoch) - time.time())) + 1
        reason = "its process has died"
        with suppress(*aws.AWS_ERRORS):
            return self._case(delivery, deadline, False).not_run(reason, hidden)
        return Returned(reason, hidden)

    def before_all(self, delivery: Delivery, deadline: Deadline) -> Outcome | None:
        """Return what becomes of *delivery* if none of the batch is run; ``None``: it is run.

        This is for the last receive, and the one before it: should the process die now, SQS would
        move the message to the dead-letter queue, although it has run, or has attempts left.
        """
        outcome = self._through(self._case(delivery, deadline, False), self._steps_before_all)
        assert not isinstance(outcome, Postponed)  # no step of those postpones
        return outcome

    def _case(self, delivery: Delivery, deadline: Deadline, is_alone: bool) -> Case:
        queue = self._queues.get(delivery.source_arn)
        backoff = backoff_seconds(queue.settings, delivery.receive_count)
        return Case(delivery, queue, deadline, backoff, is_alone)

    def _through(self, case: Case, steps: Iterable[Step]) -> Outcome | Postponed | None:
        outcome = self._decided(case, steps)
        if isinstance(outcome, Parked):
            outcome = _described(case, outcome)
        if outcome is not None and not isinstance(outcome, Postponed):
            if case.delivery.is_awaited:
                outcome = self._told(case, outcome)
            case.delivery.note.decided(outcome)
        return outcome

    def _decided(self, case: Case, steps: Iterable[Step]) -> Outcome | Postponed | None:
        try:
            for step in steps:
                if (outcome := step(case)) is not None:
                    break
            else:
                return None
            if isinstance(outcome, Forwarded) and case.payload_stored_at is not None:
                self._payloads.renew(case.delivery.body, case.payload_stored_at)
            return outcome
        except aws.AWS_ERRORS as exc:
            return _not_asked(case, exc)
        except BaseException as exc:
            logger.exception(
                "Message %s was not run, for an internal error", case.delivery.message_id
            )
            return _after_error(case, exc)

    def _told(self, case: Case, outcome: Outcome) -> Outcome:
        """Have the caller of a direct call told of *outcome*; return what is to be done still."""
        note, found = case.delivery.note, case.found_before
        if isinstance(outcome, Returned | Forwarded):
            note.answer = wait(outcome)
            return outcome
        if note.answer is None and found is not None and found.claim is Claim.COMPLETED:
            note.answer = self._answers.kept(found.answer)
        if isinstance(outcome, Deleted):
            note.answer = note.answer or unwanted(outcome)
            return replace(outcome, keep_payload=True)  # the caller deletes it, when it has heard
        if note.answer is None and outcome.exception is not None:
            note.answer = self._answers.failure(outcome.exception, outcome.reason)
        note.answer = note.answer or unrunnable(outcome)
        return _to_caller(outcome)

    def abandon(self) -> bool:
        """Leave the tasks that are under way to themselves, if no body runs; return whether."""
        return self._runner.abandon()

    def parked(self, delivery: Delivery, outcome: Parked) -> None:
        """Note that *delivery* is in the dead-letter queue, where *outcome* wanted it.

        What has run to its end is marked so until now. From now on a redrive can run it.
        """
        self.settled.remember_parked(delivery)
        self.failed_tasks.remember(delivery, outcome)
        if outcome.record_key is not None:
            self.completions.forget(outcome.record_key)
            try:
                self._table.forget(outcome.record_key)
            except aws.AWS_ERRORS as exc:
                logger.warning(
                    "A redrive of message %s will not run it: %s",
                    delivery.message_id,
                    sentence(exc),
                )

    def _time_left(self, case: Case) -> Outcome | None:
        return case.too_late() if case.deadline.seconds_for_tasks() <= 0 else None

    def _parked_before(self, case: Case) -> Outcome | None:
        if self.settled.has_parked(case.delivery):
            self.failed_tasks.remember_parked_before(case.delivery)
            # The body in S3 is the dead letter's.
            return Deleted("parked before", End.DUPLICATE, keep_payload=True)
        return None

    def _readable(self, case: Case) -> Outcome | None:
        delivery = case.delivery
        try:
            body = self._body(case)
            if body is None:
                return Deleted("completed before, with its S3 object", End.DUPLICATE)
            case.request = read_request(self._app, self._settings, delivery, body, self._hostname)
            case.publication = publication_of(case.request)
            self._note_request(case)
        except (UnreadableMessageError, UnregisteredTaskError) as exc:
            if delivery.is_awaited:
                logger.error("Call %s cannot be run: %s", delivery.message_id, exc)
                return Parked(str(exc))
            logger.error(
                "Message %s cannot be run: %s It is %s (receive %d of %s).",
                delivery.message_id, exc,
                "parked" if case.is_last_receive else f"tried again in {case.backoff_seconds} s",
                delivery.receive_count, case.queue.max_receive_count,
            )  # fmt: skip
            return spent(str(exc), case.backoff_seconds, case.is_last_receive)
        return None

    def _note_request(self, case: Case) -> None:
        note, request = case.delivery.note, case.request
        headers = request.request_dict
        note.task, note.task_id = request.type, request.id
        note.root_id, note.parent_id = headers.get("root_id"), headers.get("parent_id")
        note.retries = headers.get("retries")
        if request.eta is not None:
            note.since = request.eta.timestamp()

    def _body(self, case: Case) -> str | None:
        """Return the message's body, from S3 if it is there; ``None`` if it was settled before."""
        delivery = case.delivery
        if not is_pointer(delivery.body):
            return delivery.body
        try:
            payload = self._payloads.fetch(delivery.body)
        except (PayloadMissingError, *aws.AWS_ERRORS):
            # Without s3:ListBucket, S3 says of a missing object that access is denied.
            if self.settled.has_payload(delivery.body):
                return None
            raise
        case.payload_stored_at = payload.stored_at
        return payload.text

    def _due(self, case: Case) -> Outcome | None:
        request = case.request
        case.is_revoked = self._revocations.include(_revocation_keys(request))
        # A direct call is due when it comes: its caller has waited, by another clock.
        is_due = request.eta is None or request.eta <= datetime.now(UTC)
        if is_due or case.delivery.is_awaited:
            return None
        if case.is_expired or case.is_revoked:
            return None
        trace_header = xray_header(request.request_dict.get(XRAY_HEADER))
        return Forwarded(request.eta, request.id, trace_header)

    def _in_time(self, case: Case) -> Outcome | None:
        return None if case.deadline.allows(self._needed_seconds(case)) else case.too_late()

    def _needed_seconds(self, case: Case) -> float:
        """Return the time that should be left for the task to start.

        Its limit; or what its runs in this process take, for a task that the invocation's end
        interrupts may have sent its mail already.
        """
        expected = self._runner.run_times.expected_seconds(case.request.type)
        return float(max(filter(None, case.time_limits), default=expected))

    def _repetition(self, case: Case) -> Outcome | None:
        # A copy of what has run, or is running, is neither to be announced as revoked, nor to
        # take a turn from another task. For what is left, the claim asks early enough.
        if not (case.is_expired or case.is_revoked or case.request.task.rate_limit):
            return None
        return self._ran_before(case)

    def _answers_known(self, case: Case) -> None:
        """Ask AWS before the claim what is needed with it, and after the run."""
        _ = case.is_last_receive, case.record_life_seconds

    def _ran_before(self, case: Case) -> Outcome | None:
        case.found = self._table.look_up(case.publication.key, case.delivery.lineage)
        return _of_another_run(case, case.found)

    def _attempts_left(self, case: Case) -> Outcome | None:
        """Send the message on if it has more attempts left than receives."""
        if case.found is not None and case.found.is_foreign:
            return None  # its receives are what counts
        attempts = case.found.number if case.found is not None else 0
        if attempts + 1 >= case.delivery.receive_count:
            return None
        logger.warning(
            "Message %s has been received %d times, of which %d were attempts to run it: it is "
            "sent on as a new message, with the attempts that it has left.",
            case.delivery.message_id, case.delivery.receive_count, attempts,
            extra={"end": Fate.FORWARDED.value},
        )  # fmt: skip
        return Forwarded(datetime.now(UTC))

    def _its_turn(self, case: Case) -> Outcome | None:
        """Wait for the task's turn by its ``rate_limit``, or settle the message if that is far.

        It is sent on as a new message, for to come back is no failed receive. A FIFO queue's
        message cannot be sent on: it waits here for as long as there is time.
        """
        request = case.request
        per_second = rate(request.task.rate_limit)
        if not per_second or case.is_expired or case.is_revoked:
            return None
        spare = max(0.0, case.deadline.seconds_for_tasks() - self._needed_seconds(case))
        fifo = case.delivery.fifo_group is not None
        turn = self._rate_limiter.turn(
            request.type, per_second, spare if fifo else min(spare, PATIENCE_SECONDS)
        )
        if turn.granted:
            time.sleep(turn.seconds)
            return None
        logger.info(
            "Task %s comes back in %.1f s, by its rate limit of %s",
            request.humaninfo(), turn.seconds, request.task.rate_limit,
            extra={"end": Fate.FORWARDED.value},
        )  # fmt: skip
        return Forwarded(datetime.now(UTC) + timedelta(seconds=turn.seconds))

    def _still_wanted(self, case: Case) -> Outcome | None:
        request = case.request
        about = {
            "id": request.id, "name": request.name, "eta": request.eta,
            "args": request.argsrepr, "kwargs": request.kwargsrepr,
        }  # fmt: skip
        received_logger.info(LOG_RECEIVED, about, extra={"data": about})
        if (outcome := self._unless_wanted(case)) is not None:
            return outcome
        signals.task_received.send(sender=self, request=request)
        return None

    def _wanted_by_now(self, case: Case) -> Outcome | None:
        """Ask again of what has waited with its claim."""
        if not case.has_waited:
            return None
        case.is_revoked = self._revocations.include(_revocation_keys(case.request))
        outcome = self._unless_wanted(case)
        if outcome is not None:
            self.give_up(case)
        return outcome

    def _unless_wanted(self, case: Case) -> Outcome | None:
        request = case.request
        if case.is_revoked:
            worker_state.revoked.add(request.id)
        is_known = request.id in worker_state.revoked or worker_state.revoked_stamps
        if request.expires is None and not is_known:
            return None  # a watch for each task costs more than all else here
        try:
            is_revoked = call_until(case.deadline.seconds_for_all(), request.revoked)
        except (Exception, InvocationEnds) as exc:
            is_revoked = case.is_revoked or case.is_expired
            if not is_revoked:
                raise
            logger.error("That %s is not run could not be stored: %r", request.humaninfo(), exc)
        if not is_revoked:
            return None
        end = End.REVOKED if case.is_revoked else End.EXPIRED
        return Deleted(end.value, end)

    def _claimed(self, case: Case) -> Outcome | Postponed | None:
        request = case.request
        # False only where somebody has set it: left alone, it is None.
        no_second_run = request.task.reject_on_worker_lost is False
        spare_lost = no_second_run or request.task.retry_on_worker_lost
        asked_at = time.perf_counter()
        case.claimed = self._table.claim(
            case.publication.key,
            life_seconds=case.record_life_seconds,
            run_ends=case.deadline.epoch,
            lineage=case.delivery.lineage,
            receive_count=case.delivery.receive_count,
            spare_lost=spare_lost or not case.is_alone,
            call_id=case.publication.call_id if spare_lost else case.call_id,
            ahead=case.ahead,
        )
        case.delivery.note.table_took(time.perf_counter() - asked_at)
        if case.claimed.claim is Claim.LOST and not spare_lost:
            logger.warning(
                "Task %s has ended with its process: it is run when all others are settled",
                request.humaninfo(),
            )
            return Postponed(case.claimed.number)
        if case.claimed.claim is Claim.LOST:
            logger.error("Task %s was lost with its process", request.humaninfo())
            case.delivery.note.is_attempt = True
            attempt = _attempt(case)
            outcome = self._runner.worker_lost(request, attempt)
            return self._answered(case, outcome, attempt)
        return _of_another_run(case, case.claimed)

    def _run(self, case: Case) -> Outcome:
        outcome = self._ran(case)
        if case.completion is None and not case.is_on_loop:
            self.note(case, outcome)
        return outcome

    def _ran(self, case: Case) -> Outcome:
        case.has_run = case.deadline.allows(self._needed_seconds(case))
        note = case.delivery.note
        note.is_attempt = case.has_run
        attempt = _attempt(case)
        outcome: Outcome
        if not case.has_run:  # DynamoDB took its time
            outcome = case.too_late()
        elif case.claimed.after_lost and case.queue.is_last(case.claimed.number - 1):
            logger.error("Task %s has killed its process too often", case.request.humaninfo())
            outcome = self._runner.worker_lost(case.request, attempt)
        else:
            # By the next receive it is parked, and not run again.
            attempt.when_late = partial(
                self.completions.write,
                Completion(case.publication.key, case.record_life_seconds, Ending.UNFINISHED),
            )
            if self._watch is not None and attempt.hard_time_limit:
                killed = Killed(case.claimed, attempt.hard_time_limit)
                attempt.watch = partial(self._watch, case.delivery, killed)
            note.began_at, began = time.time(), time.perf_counter()
            outcome = self._runner.run(case.request, attempt)
            note.run_seconds = time.perf_counter() - began
            case.is_abandoned = attempt.is_abandoned
        return self._adjusted(case, outcome, attempt)

    def _end_killed(self, killed: Killed, case: Case) -> Outcome:
        case.claimed, case.has_run = killed.claimed, True
        note = case.delivery.note
        note.is_attempt, note.run_seconds = True, killed.seconds
        note.began_at = time.time() - killed.seconds
        attempt = _attempt(case)
        outcome = self._runner.killed(case.request, attempt, killed.seconds)
        outcome = self._adjusted(case, outcome, attempt)
        self.note(case, outcome)
        return outcome

    def _adjusted(self, case: Case, outcome: Outcome, attempt: Attempt) -> Outcome:
        """Return what becomes of the message after a run with that *outcome*."""
        if isinstance(outcome, Returned) and case.is_last_receive and not case.is_last_attempt:
            # By SQS's count it is spent, by the attempts it is not.
            outcome = Forwarded(datetime.now(UTC) + timedelta(seconds=outcome.delay_seconds))
        if isinstance(outcome, Parked) and outcome.has_run:
            outcome = replace(outcome, record_key=case.publication.key)
        outcome = self._answered(case, outcome, attempt)
        is_done = isinstance(outcome, Deleted) and not outcome.has_failed
        if case.ahead is not None and is_done and not case.is_abandoned:
            case.completion = Completion(
                case.publication.key, case.record_life_seconds, Ending.DONE
            )
        return outcome

    def _answered(self, case: Case, outcome: Outcome, attempt: Attempt) -> Outcome:
        """Have the caller, if it is a direct call, told of a run; return what is to be done."""
        if not case.delivery.is_awaited or isinstance(outcome, Returned | Forwarded):
            return outcome
        answer = self._answers.of_run(attempt, outcome)
        publication = case.publication
        is_shared = publication.has_own_key or is_of_a_run(publication.mark)
        fitted = self._answers.fitted(answer, is_shared=is_shared)
        case.delivery.note.answer, case.kept_answer = fitted
        if isinstance(outcome, Parked) and not outcome.has_run:
            return _to_caller(outcome)
        return outcome  # what has run to its end is still to be marked so in its record

    def note(self, case: Case, outcome: Outcome) -> None:
        """Write down in the record what has become of a run. Raises nothing."""
        if case.is_abandoned:
            return  # another invocation may have gone on with it
        asked_at = time.perf_counter()
        try:
            self._note(case, outcome)
        except Exception as exc:
            # The outcome stands: what is done is not done again, and what has failed comes
            # back, to wait for the end of the lock.
            logger.error(
                "The idempotency record %s is out of date: %s", case.publication.key, sentence(exc)
            )
        case.delivery.note.table_took(time.perf_counter() - asked_at)

    def _note(self, case: Case, outcome: Outcome) -> None:
        publication = case.publication
        if isinstance(outcome, Deleted) or (isinstance(outcome, Parked) and outcome.has_run):
            self.completions.write(
                Completion(
                    publication.key,
                    case.record_life_seconds,
                    _ending(outcome),
                    case.kept_answer,
                )
            )
        elif isinstance(outcome, Parked):
            self._table.drop(publication.key, case.claimed)
        else:
            self._table.release(publication.key, case.claimed, has_run=case.has_run)
        has_failed = isinstance(outcome, Deleted | Parked) and outcome.has_failed
        if has_failed and publication.has_own_key:
            # The next call with its key is to run, from the start. The retries lie without a gap:
            # the number alone, which a sender writes, would be a loop without a bound.
            for retries in reversed(range(case.request.request_dict.get("retries") or 0)):
                if not self._table.forget(publication_of(case.request, retries).key):
                    break


def _of_another_run(case: Case, found: Claimed | None) -> Outcome | None:
    """Return what becomes of a copy whose publication has run, or is running, elsewhere."""
    request = case.request
    if found is not None and found.claim is Claim.COMPLETED:
        embed = request.body[2]
        awaited = any(embed.get(each) for each in ("chord", "chain", "callbacks"))
        if awaited and case.publication.has_own_key:
            logger.warning(
                "Task %s is dropped, because its idempotency_key has run before. What waits for "
                "it, a chord or what follows it, is not run.",
                request.humaninfo(),
                extra={"end": End.DUPLICATE.value},
            )
        else:
            logger.info(
                "Task %s was run before: this copy is dropped",
                request.humaninfo(),
                extra={"end": End.DUPLICATE.value},
            )
        return Deleted("completed before", End.DUPLICATE)
    if found is not None and found.claim is Claim.UNFINISHED and found.is_foreign:
        # The message that ran parks itself, and only it has the record forgotten.
        if case.is_last_receive:
            return Parked(UNFINISHED, has_run=True)
        return Returned(UNFINISHED, case.backoff_seconds)
    if found is not None and found.claim is Claim.UNFINISHED:
        return Parked(UNFINISHED, has_run=True, record_key=case.publication.key)
    if found is not None and found.claim is Claim.IN_PROGRESS:
        hidden = max(0, math.ceil(found.seconds_left())) + 1
        logger.info(
            "Task %s is being run: this copy waits %d s",
            request.humaninfo(),
            hidden,
            extra={"end": Fate.RETURNED.value},
        )
        return case.not_run(IN_PROGRESS, hidden)
    return None


def _to_caller(outcome: Parked) -> Deleted:
    """Return *outcome* for a direct call, whose caller is told instead of a dead-letter queue."""
    return Deleted(
        outcome.reason, End.FAILED,
        keep_payload=True, has_failed=outcome.has_failed, exception=outcome.exception,
    )  # fmt: skip


def _ending(outcome: Deleted | Parked) -> Ending:
    if isinstance(outcome, Parked):
        return Ending.UNFINISHED
    return Ending.FAILED if outcome.has_failed else Ending.DONE


def _not_asked(case: Case, exc: Exception) -> Outcome:
    """Return what becomes of a message for which AWS could not be asked before the run."""
    reason = "AWS could not be asked before the run"
    told = sentence(exc)
    logger.error(
        "Message %s comes back: %s",
        case.delivery.message_id,
        told,
        extra={"end": Fate.RETURNED.value},
    )
    if not aws.misconfigured(exc):
        with suppress(*aws.AWS_ERRORS):
            return case.not_run(reason, case.backoff_seconds)
        return Returned(reason, case.backoff_seconds)
    # Sent on, it would circle until its retention ends, with no alarm. So its receives count.
    with suppress(*aws.AWS_ERRORS):
        if case.is_last_receive:
            return Parked(told)
    return Returned(reason, case.backoff_seconds, misconfiguration=told)


def _after_error(case: Case, exc: BaseException) -> Returned | Parked:
    """Return what becomes of a message over which we have stumbled: it must not circle."""
    reason = "an internal error"
    with suppress(Exception):  # whether it is the last attempt may be what cannot be told
        if case.is_last_receive:
            return Parked(reason, exc)
    return Returned(reason, case.backoff_seconds)


def _described(case: Case, outcome: Parked) -> Parked:
    """Return *outcome* with what the list of failed tasks tells of it."""
    request: Request | None = getattr(case, "request", None)
    claimed: Claimed | None = getattr(case, "claimed", None)
    return replace(
        outcome,
        headers=request.request_dict if request is not None else None,
        attempts=claimed.number if claimed is not None else None,
    )


def _revocation_keys(request: Request) -> Iterator[str]:
    yield revoked_key(request.id)
    yield from stamp_keys(request.stamps)


def _attempt(case: Case) -> Attempt:
    hard, soft = case.time_limits
    # The invocation's end is a limit too: an exception in one task is better than a kill,
    # which takes the rest of the batch along and leaves it hidden for minutes.
    left = max(case.deadline.seconds_for_tasks(), 0.001)
    ends_with_invocation = not soft or left < soft
    ends_at = time.monotonic() + case.deadline.seconds_for_all()
    own_messages: list[OutgoingMessage] = []
    return Attempt(
        RunningCall(
            case.request.id,
            case.publication.mark,
            case.delivery.message_group_id,
            case.delivery.attributes_of_call(),
            own_messages.append if case.delivery.is_awaited else None,
        ),
        own_messages=own_messages,
        last=case.is_last_attempt,
        backoff_seconds=case.attempt_backoff_seconds,
        # On the event loop nothing but the body takes time, and timers end that.
        ends_at=math.inf if case.is_on_loop else ends_at,
        body_ends_at=ends_at,
        soft_time_limit=left if ends_with_invocation else soft,
        hard_time_limit=hard,
        ends_with_invocation=ends_with_invocation,
    )
