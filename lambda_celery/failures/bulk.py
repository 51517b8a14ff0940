"""Bulk actions: what is done with many failed tasks by the function, and not by a person's machine.

A bulk action is an item in the idempotency table. A task that every app has, of
:mod:`~lambda_celery.failures.own_task`, works off a slice of it and then calls itself again, until
nothing is left. So whoever begins one has to read the index, write the item, and publish a task.
"""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from celery import Celery

from lambda_celery.celery_hooks.apps import WORK_OFF
from lambda_celery.conf import settings_of
from lambda_celery.exceptions import ConfigurationError, FailedTaskError, PublishError
from lambda_celery.failures.bulk_action import (
    DONE,
    RUNNING,
    STOPPED,
    VERBS,
    BulkAction,
    check_name,
)
from lambda_celery.failures.bulk_store import BulkStore
from lambda_celery.failures.selection import Selection
from lambda_celery.failures.sending import url_of_name
from lambda_celery.failures.store import Failures
from lambda_celery.message import is_fifo
from lambda_celery.publishing.routing import goes_to_sqs

#: The rates: one an hour or so, and more than SQS takes of a slice.
_LEAST_PER_SECOND, _MOST_PER_SECOND = 0.0003, 100_000


@dataclass(frozen=True)
class Counted:
    """How many failures a selection means.

    :ivar counts: by task, exception (else reason) and queue.
    :ivar until: when the last of them failed.
    """

    counts: Counter[tuple[str, str, str]]
    until: datetime

    @property
    def total(self) -> int:
        """How many there are."""
        return self.counts.total()


class BulkActions:
    """The bulk actions on the failed tasks of *app*.

    ::

        from lambda_celery.failures import BulkActions, Selection

        actions = BulkActions(app)
        actions.begin("bad-deploy", "retry", Selection(task="shop.*"), per_second=20)
        print(actions.get("bad-deploy").done)

    Each method raises a :exc:`~lambda_celery.exceptions.LambdaCeleryError` where AWS refuses.
    """

    def __init__(self, app: Celery) -> None:
        self.app = app
        self.settings = settings_of(app)
        self.store = BulkStore(self.settings)

    def count(self, selection: Selection, until: datetime | None = None) -> Counted:
        """Count the failures that *selection* means. It reads the whole index.

        :param until: leaves out what has failed later.
        :raises FailedTaskError: the selection names ids.
        """
        _check_selection(selection)
        counts: Counter[tuple[str, str, str]] = Counter()
        last = datetime.fromtimestamp(0, UTC)
        every = Failures(self.settings).all(newest_first=False, until=until)
        for each in filter(selection.matches, every):
            counts[each.task, each.exception or each.reason, each.queue] += 1
            last = each.failed_at
        return Counted(counts, last)

    def begin(
        self,
        name: str,
        verb: str,
        selection: Selection | None = None,
        *,
        per_second: float = 50,
        to_queue: str | None = None,
        on_queue: str | None = None,
        begun_by: str = "",
        counted: Counted | None = None,
    ) -> BulkAction:
        """Begin to do *verb* with all failures that *selection* means, and return at once.

        :param name: up to 64 letters, digits, dots, dashes and underscores.
        :param verb: ``retry``, ``send_again`` or ``discard``.
        :param per_second: how many at most: 0.0003 to 100,000.
        :param to_queue: the Celery queue, or the URL of the SQS queue, that they are sent to, if
            it is another.
        :param on_queue: the Celery queue whose function works it off; else the app's default one.
        :param begun_by: who begins it, to be shown.
        :param counted: what :meth:`count` has returned for *selection*.
        :raises FailedTaskError: there is one of that name, or nothing to do, or a parameter cannot
            be meant; nothing has changed.
        :raises PublishError: SQS did not take the task. The action is there, stopped.
        """
        check_name(name)
        if verb not in VERBS:
            raise FailedTaskError(f"{verb!r} is none of {', '.join(VERBS)}.")
        if not _LEAST_PER_SECOND <= per_second <= _MOST_PER_SECOND:
            raise FailedTaskError(
                f"The rate has to be from {_LEAST_PER_SECOND} to {_MOST_PER_SECOND} messages a "
                "second."
            )
        if to_queue is not None:
            if verb == "discard":
                raise FailedTaskError("What is discarded goes to no queue.")
            if "://" not in to_queue:
                url_of_name(self.app, self.settings, to_queue)
        queue = self._queue(on_queue)
        chosen = selection or Selection()
        counted = counted or self.count(chosen)
        if not counted.total:
            raise FailedTaskError("No failed task matches.")
        action = BulkAction(
            name=name,
            verb=verb,
            selection=chosen,
            until=counted.until,
            per_second=per_second,
            counted=counted.total,
            on_queue=queue,
            begun_at=datetime.now(UTC),
            turn=str(uuid.uuid4()),
            to_queue=to_queue,
            begun_by=begun_by,
        )
        if not self.store.create(action):
            raise FailedTaskError(
                f"There is a bulk action {name} already: take another name, or go on with that one "
                "by: failed bulk resume."
            )
        self._publish(action)
        return action

    def get(self, name: str) -> BulkAction:
        """Return the action *name*, as it is now.

        :raises FailedTaskError: there is none.
        """
        found = self.store.get(name)
        if found is None:
            raise FailedTaskError(
                f"There is no bulk action {name}. Those that there are: failed bulk list."
            )
        return found

    def all(self) -> list[BulkAction]:
        """Return all actions of the last 30 days, the newest first."""
        found = map(self.store.get, self.store.names())
        return [each for each in found if each is not None]

    def abort(self, name: str) -> BulkAction:
        """Have the action *name* end before the next failure, and return it.

        :raises FailedTaskError: there is none, or it is not running.
        """
        self.get(name)
        aborted = self.store.abort(name)
        if aborted is None:
            raise FailedTaskError(f"The bulk action {name} is {self.get(name).state} already.")
        return aborted

    def resume(self, name: str) -> BulkAction:
        """Have the action *name* go on where it is, whatever has ended it, and return it.

        What works at it just now, if anything does, leaves off within a second.

        :raises FailedTaskError: there is none, it is done, or somebody else has just changed it.
        :raises PublishError: SQS did not take the task. The action is stopped.
        """
        before = self.get(name)
        if before.state == DONE:
            raise FailedTaskError(
                f"The bulk action {name} is done. For what is listed still, begin another one."
            )
        self._queue(before.on_queue)
        action = replace(
            before, state=RUNNING, turn=str(uuid.uuid4()), sentence="", worked_at=datetime.now(UTC)
        )
        if not self.store.change(action, before):
            raise FailedTaskError(
                f"Something has just changed the bulk action {name}: look at it, and try again."
            )
        self._publish(action)
        return action

    def publish(self, action: BulkAction, countdown: float | None = None) -> None:
        """Publish the task whose turn it is.

        :param countdown: in how many seconds it is to begin.
        """
        is_ordered = is_fifo(url_of_name(self.app, self.settings, action.on_queue))
        # In a group of its own: nothing of the app's is to wait for it.
        group = {"MessageGroupId": f"lambda_celery-{action.name}"} if is_ordered else {}
        self.app.tasks[WORK_OFF].apply_async(
            (action.name,), task_id=action.turn, queue=action.on_queue, countdown=countdown, **group
        )

    def _publish(self, action: BulkAction) -> None:
        try:
            self.publish(action)
        except PublishError as exc:
            self.store.change(replace(action, state=STOPPED, sentence=str(exc)), action)
            raise

    def _queue(self, name: str | None) -> str:
        """Return the Celery queue *name*, or the one that is taken if none is named."""
        if not goes_to_sqs(self.app, WORK_OFF):
            raise ConfigurationError(
                "The task that works off a bulk action does not go to the function: lambda_enabled "
                "is off, or lambda_celery.install(app) was not called in this process."
            )
        if self.app.conf.task_always_eager:
            raise ConfigurationError(
                "task_always_eager is on, so that no task goes to the function: a bulk action is "
                "worked off by it."
            )
        if name is None:
            default = self.app.conf.task_default_queue
            queues = self.settings.queues
            is_there = default in queues or self.settings.queue_url is not None or not queues
            name = default if is_there else min(queues)
        url_of_name(self.app, self.settings, name)
        return str(name)


def _check_selection(selection: Selection) -> None:
    if selection.ids or selection.with_retried:
        raise FailedTaskError(
            "A bulk action is for what has a task, an exception, a queue or an age in common: do "
            "it by itself with what is named by ids."
        )
