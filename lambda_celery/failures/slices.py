"""A slice of a bulk action: what one run of the function's own task does of it.

The action names the one task whose turn it is. So a message that is delivered again, or one that
was published in its stead (``resume``), never leaves two at work; and because the id of the next
task follows from that of this one, a slice that died between writing it down and publishing it is
made good by its own message, when that comes back.
"""

from __future__ import annotations

import logging
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from celery import Celery

from lambda_celery import aws
from lambda_celery.exceptions import FailedTaskError, LambdaCeleryError, NoLongerFailedError
from lambda_celery.failures.actions import Done, FailedTasks
from lambda_celery.failures.bulk import BulkActions
from lambda_celery.failures.bulk_action import DONE, RUNNING, STOPPED, BulkAction
from lambda_celery.failures.dead_letters import Fate
from lambda_celery.failures.pages import in_order
from lambda_celery.failures.record import Failure
from lambda_celery.message import is_fifo

logger = logging.getLogger(__name__)

#: A slice holds up what else is in its batch.
_SLICE_SECONDS = 10.0
#: The part of the invocation, and of a time limit of the app's, that it takes at most.
_SHARE = 0.5
#: How often it is written down how far it is; and looked whether somebody has ended it.
_NOTED_SECONDS = 1.0
#: Failures that are acted on at once, for each is four requests that wait for AWS; and no more of
#: them than the rate has in a second.
_TOGETHER = 8
#: Rows of each partition of the index that are read at once: no more than a slice may need.
_PAGE_ROWS = 200


def work_off(app: Celery, name: str, task_id: str) -> None:
    """Work off a slice of the bulk action *name*, in the run of the task *task_id*.

    :raises LambdaCeleryError: AWS does not do just now what it may do later. The message comes
        back, and goes on from there.
    """
    actions = BulkActions(app)
    action = actions.store.get(name)
    if action is None or not action.is_running:
        logger.info("The bulk action %s is %s.", name, action.state if action else "gone")
        return
    if action.turn == _following(task_id):
        actions.publish(action)
        return
    if action.turn != task_id:
        logger.info("The bulk action %s is worked off by another task.", name)
        return
    countdown = _Slice(actions, action).work()
    if countdown is not None:
        following = replace(actions.get(name), turn=_following(task_id))
        if actions.store.change(following, replace(following, turn=task_id, state=RUNNING)):
            actions.publish(following, countdown)


class _Slice:
    """What is done of *action* in one run."""

    def __init__(self, actions: BulkActions, action: BulkAction) -> None:
        self._actions = actions
        self._action = action
        now = time.monotonic()
        self._next_at = now
        self._ends_at = now + _seconds(actions.app)
        self._note_at = now + _NOTED_SECONDS

    def work(self) -> float | None:
        """Do what there is time for; return in how many seconds to go on, if it does."""
        try:
            with FailedTasks(self._actions.app) as tasks, ThreadPoolExecutor(_TOGETHER) as threads:
                self._threads = threads
                countdown = self._work(tasks)
        except LambdaCeleryError as exc:
            if not exc.is_misconfigured or exc.is_transient:
                self._note()
                raise
            self._end(STOPPED, str(exc))
            return None
        if countdown is None and self._action.is_running:
            self._end(DONE, self._action.sentence)
        return countdown

    def _work(self, tasks: FailedTasks) -> float | None:
        action = self._action
        since = action.position[0] if action.position is not None else None
        every = tasks.records.all(
            newest_first=False, since=since, until=action.until, page_rows=_PAGE_ROWS
        )
        most = max(1, min(_TOGETHER, int(action.per_second)))
        chosen: list[Failure] = []
        for failure in in_order(every):
            place = _place(failure)
            if action.position is not None and place <= action.position:
                continue
            if action.selection.matches(failure):
                chosen.append(failure)
            elif not chosen:
                self._action = replace(self._action, position=place)
            is_over = time.monotonic() >= self._ends_at
            # A FIFO queue has an order; and its dead-letter queue hands out nothing more of a group
            # of which something is held.
            is_full = len(chosen) == most or is_fifo(failure.queue or failure.dead_letter_queue)
            # Even a slice that has had no time does something.
            if chosen and (is_full or is_over):
                if (later := self._paced(tasks, chosen)) is not None:
                    return later
                chosen = []
            if not self._goes_on():
                return None
            if is_over:
                return self._paused()
        if chosen and (later := self._paced(tasks, chosen)) is not None:
            return later
        return None

    def _paced(self, tasks: FailedTasks, chosen: list[Failure]) -> float | None:
        """Do with *chosen* what is to be done, when it is time; or return when it will be."""
        now = time.monotonic()
        # What is slower than its rate for a moment may make up for a second of it.
        self._next_at = max(self._next_at, now - 1)
        if self._next_at > max(self._ends_at, now):
            return self._paused()
        time.sleep(max(0.0, self._next_at - now))
        if self._goes_on():
            self._next_at += len(chosen) / self._action.per_second
            self._do(tasks, chosen)
        return None

    def _do(self, tasks: FailedTasks, chosen: list[Failure]) -> None:
        """Do with *chosen* what is to be done, together, and count it.

        :raises LambdaCeleryError: it would be the same with all others, or may pass.
        """
        of_all: LambdaCeleryError | None = None
        for failure, done in zip(
            chosen, self._threads.map(partial(self._tried, tasks), chosen), strict=True
        ):
            if isinstance(done, LambdaCeleryError) and (done.is_misconfigured or done.is_transient):
                of_all = of_all or done
            else:
                self._count(failure, done)
            if of_all is None:
                self._action = replace(self._action, position=_place(failure))
        if of_all is not None:
            raise of_all

    def _count(self, failure: Failure, done: Done | LambdaCeleryError) -> None:
        action = self._action
        if isinstance(done, NoLongerFailedError):
            return  # by a run of this slice that was killed, or by somebody else
        if isinstance(done, LambdaCeleryError):
            told = f"{failure.task} {failure.task_id}: {done}"
            self._action = replace(action, refused=action.refused + 1, sentence=told)
            return
        self._action = replace(action, done=action.done + 1)
        if done.refusal or done.dead_letter is Fate.UNKNOWN:
            told = done.refusal or str(done)
            self._action = replace(self._action, left=action.left + 1, sentence=told)

    def _tried(self, tasks: FailedTasks, failure: Failure) -> Done | LambdaCeleryError:
        try:
            return self._done(tasks, failure)
        except LambdaCeleryError as exc:
            return exc
        except Exception as exc:  # a message may hold anything; the others are not to wait for it
            logger.exception("The failed task %s was left as it is.", failure.id)
            return FailedTaskError(f"It was left as it is, for an error: {exc!r}")

    def _done(self, tasks: FailedTasks, failure: Failure) -> Done:
        action = self._action
        if action.verb == "discard":
            return tasks.discard(failure)
        if action.verb == "retry":
            return tasks.retry(failure, action.to_queue)
        # The same call, if this is its second time.
        about = f"{action.name} {action.begun_at.isoformat()} {failure.id}"
        new_id = str(uuid.uuid5(uuid.NAMESPACE_OID, about))
        return tasks.send_again(failure, action.to_queue, task_id=new_id)

    def _goes_on(self) -> bool:
        """Whether it is still to go on; and write down how far it is, if that is due."""
        if time.monotonic() >= self._note_at:
            self._note()
        return self._action.is_running

    def _note(self) -> None:
        action = replace(self._action, worked_at=datetime.now(UTC))
        state = self._actions.store.note(action)
        # Another one's turn is the end of this one's.
        self._action = replace(action, state=state or STOPPED)
        self._note_at = time.monotonic() + _NOTED_SECONDS

    def _paused(self) -> float | None:
        """Note how far it is; return in how many seconds it may go on, unless it was ended."""
        self._note()
        seconds = max(0.0, self._next_at - time.monotonic())
        return seconds if self._action.is_running else None

    def _end(self, state: str, sentence: str) -> None:
        now = datetime.now(UTC)
        ended = replace(self._action, state=state, sentence=sentence, worked_at=now)
        if self._actions.store.change(ended, replace(self._action, state=RUNNING)):
            logger.info("The bulk action %s is %s.", ended.name, state)


def _seconds(app: Celery) -> float:
    """Return how long a slice may take."""
    limits = (app.conf.task_soft_time_limit, app.conf.task_time_limit, aws.seconds_left())
    return min([_SLICE_SECONDS, *(each * _SHARE for each in limits if each)])


def _place(failure: Failure) -> tuple[datetime, str]:
    return failure.failed_at, failure.id


def _following(task_id: str) -> str:
    """Return the id of the task that goes on after that with *task_id*."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, task_id))
