"""The back end for ``TASKS``: what is enqueued goes to SQS."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from celery import uuid
from django.apps import apps
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone
from django.utils.module_loading import import_string

from lambda_celery.celery_hooks.thread_state import CeleryState
from lambda_celery.conf import setting_names, settings_of
from lambda_celery.django.tasks import store
from lambda_celery.django.tasks.api import (
    DEFAULT_TASK_PRIORITY,
    DEFAULT_TASK_QUEUE_NAME,
    BaseTaskBackend,
    InvalidTask,
    Task,
    TaskResult,
    TaskResultDoesNotExist,
    TaskResultStatus,
    signals,
)
from lambda_celery.django.tasks.documents import to_call, to_document, to_result
from lambda_celery.django.tasks.run_task import NAME, run_task
from lambda_celery.django.tasks.running import eager_result
from lambda_celery.exceptions import ConfigurationError, PublishError

_NOT_INSTALLED = "lambda_celery.tasks.E001"
_MISCONFIGURED = "lambda_celery.tasks.E002"
_SAME_QUEUE = "lambda_celery.tasks.W001"


class LambdaBackend(BaseTaskBackend):
    """Publishes each task of Django's as a Celery task that runs it on Lambda.

    ``OPTIONS`` in ``TASKS`` may have:

    - ``priority_queues``: queue name → {lowest priority: Celery queue for it}. A priority is
      refused where a task is declared, unless this has its queue.
    - ``ignore_result``: whether no results are kept, although Celery has a result back end.

    :raises ImproperlyConfigured: ``OPTIONS`` has something else, or priorities of a queue that
        ``QUEUES`` does not have.
    """

    #: The Celery task that each call is a call of.
    celery_task = NAME
    supports_defer = True
    supports_async_task = True

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        super().__init__(alias, params)
        options = dict(self.options)
        self._ignores_results = bool(options.pop("ignore_result", False))
        self._priority_queues = _priority_queues(alias, options.pop("priority_queues", {}))
        if options:
            raise ImproperlyConfigured(
                f"TASKS[{alias!r}]['OPTIONS'] has {', '.join(map(repr, options))}, which this back "
                "end does not know. It knows 'priority_queues' and 'ignore_result'."
            )
        if self.queues and (unknown := self._priority_queues.keys() - self.queues):
            raise ImproperlyConfigured(
                f"TASKS[{alias!r}]['OPTIONS']['priority_queues'] has "
                f"{', '.join(map(repr, sorted(unknown)))}, which QUEUES does not have: no task can "
                "be in it. Add it to QUEUES, or correct its name."
            )

    @property
    def supports_priority(self) -> bool:
        """Whether there are queues for priorities: SQS knows none."""
        return bool(self._priority_queues)

    @property
    def supports_get_result(self) -> bool:
        """Whether results are kept, by Celery's result back end."""
        return not self._ignores_results and store.keeps_results(run_task.app)

    def validate_task(self, task: Task) -> None:
        """Refuse what cannot be run as it is declared.

        :raises InvalidTask: it cannot.
        """
        super().validate_task(task)
        if task.priority != DEFAULT_TASK_PRIORITY and task.queue_name not in self._priority_queues:
            raise InvalidTask(
                f"The queue {task.queue_name!r} has no priorities, for SQS has none: name the "
                f"Celery queues for them in TASKS[{self.alias!r}]['OPTIONS']['priority_queues']."
            )

    def enqueue(self, task: Task, args: Sequence[Any], kwargs: Mapping[str, Any]) -> TaskResult:
        """Publish *task*, and return its result as it is known then.

        :raises InvalidTask: the settings do not let it be run.
        :raises PublishError: AWS did not take it, or its result could not be stored.
        """
        self.validate_task(task)
        result = TaskResult(
            task=task, id=uuid(), status=TaskResultStatus.READY,
            enqueued_at=timezone.now(), started_at=None, last_attempted_at=None, finished_at=None,
            args=args, kwargs=kwargs, backend=self.alias, errors=[], worker_ids=[],
        )  # fmt: skip
        if run_task.app.conf.task_always_eager:
            self._run_here(result)
            return result
        if self.supports_get_result:
            # Before its task can have run, whose results are to come after it.
            self._store(result)
        self._publish(result)
        signals.task_enqueued.send_robust(type(self), task_result=result)
        return result

    async def aenqueue(
        self, task: Task, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> TaskResult:
        """Do what :meth:`enqueue` does, without blocking the event loop."""
        return await _on_thread(self.enqueue, task, args, kwargs)

    def get_result(self, result_id: str) -> TaskResult:
        """Return the result *result_id* as it is kept.

        :raises TaskResultDoesNotExist: this back end has none by this id.
        :raises InvalidTask: its queue or its priority is no longer in the settings.
        :raises NotImplementedError: results are not kept.
        """
        if not self.supports_get_result:
            return super().get_result(result_id)
        # Result back ends differ in what they say of a key that they do not take.
        document = store.read(run_task.app, result_id) if _is_id(result_id) else None
        if document is None or document["backend"] != self.alias:
            raise TaskResultDoesNotExist(result_id)
        try:
            task = import_string(document["task"])
        except ImportError as exc:
            raise TaskResultDoesNotExist(result_id) from exc
        if not isinstance(task, Task):
            raise TaskResultDoesNotExist(result_id)
        return to_result(document, result_id, task)

    async def aget_result(self, result_id: str) -> TaskResult:
        """Do what :meth:`get_result` does, without blocking the event loop."""
        return await _on_thread(self.get_result, result_id)

    def check(self, **kwargs: Any) -> Iterator[checks.CheckMessage]:
        """Yield what the settings have got wrong."""
        if not apps.is_installed("lambda_celery.django"):
            yield checks.Error(
                "lambda_celery.django is not in INSTALLED_APPS, so the function does not know the "
                "Celery task that runs Django's tasks.",
                hint="Add 'lambda_celery.django' to INSTALLED_APPS.",
                id=_NOT_INSTALLED,
            )
        try:
            settings = settings_of(run_task.app)
        except ConfigurationError as exc:
            yield checks.Error(str(exc), id=_MISCONFIGURED)
            return
        for name, by_priority in self._priority_queues.items():
            for chosen in by_priority.values():
                if chosen not in (name, DEFAULT_TASK_QUEUE_NAME, *settings.queues):
                    yield checks.Warning(
                        f"TASKS[{self.alias!r}]['OPTIONS']['priority_queues'] names {chosen!r}, "
                        "which has no SQS queue of its own, so its tasks wait with all others.",
                        hint=f"Add {chosen!r} to {setting_names('queues')}.",
                        id=_SAME_QUEUE,
                    )

    def _store(self, result: TaskResult) -> None:
        try:
            store.write(run_task.app, result.id, to_document(result))
        except Exception as exc:
            raise PublishError(
                f"The result of {result.task.module_path} could not be stored, so the task was not "
                f"sent: {exc} See to Celery's result_backend, or set 'ignore_result' in "
                f"TASKS[{self.alias!r}]['OPTIONS'] if nobody reads results."
            ) from exc

    def _publish(self, result: TaskResult) -> None:
        task = result.task
        options = {"queue": queue} if (queue := self._celery_queue(task)) else {}
        if task.run_after is not None:
            # Celery takes what has no time zone for one of its own.
            run_after = task.run_after
            options["eta"] = (
                run_after if timezone.is_aware(run_after) else timezone.make_aware(run_after)
            )
        # Celery's own logs name the task by its shadow.
        run_task.apply_async(
            kwargs=to_call(result), task_id=result.id, shadow=task.module_path, **options
        )

    def _run_here(self, result: TaskResult) -> None:
        signals.task_enqueued.send_robust(type(self), task_result=result)
        token = eager_result.set(result)
        try:
            self._publish(result)
        finally:
            eager_result.reset(token)

    def _celery_queue(self, task: Task) -> str | None:
        """Return the Celery queue of *task*; ``None`` where Celery's routes decide."""
        name = task.queue_name
        by_priority = self._priority_queues.get(name, {})
        reached = [each for each in by_priority if each <= task.priority]
        chosen = by_priority[max(reached)] if reached else name
        return None if chosen == DEFAULT_TASK_QUEUE_NAME else chosen


async def _on_thread(function: Callable[..., TaskResult], *args: Any) -> TaskResult:
    """Return ``function(*args)``, called on the thread that has Django's transactions."""
    # There the app is the one of here, and what is enqueued by a running task is its child.
    return await sync_to_async(CeleryState().call, thread_sensitive=True)(function, *args)


def _is_id(value: Any) -> bool:
    """Whether *value* is of the form that ``enqueue`` gives to ids."""
    try:
        UUID(value)
    except (AttributeError, TypeError, ValueError):
        return False
    return True


def _priority_queues(alias: str, value: Any) -> dict[str, dict[int, str]]:
    try:
        read = {
            str(name): {int(priority): str(queue) for priority, queue in each.items()}
            for name, each in value.items()
        }
        if not all(read.values()):
            raise ValueError("a queue without priorities")
        return read
    except (AttributeError, TypeError, ValueError):
        raise ImproperlyConfigured(
            f"TASKS[{alias!r}]['OPTIONS']['priority_queues'] must be a mapping of queue names to a "
            'mapping of the lowest priority to the Celery queue for it, as {"mail": {50: '
            '"mail-urgent"}}.'
        ) from None
