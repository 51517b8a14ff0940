"""Which queue names stand for an SQS queue: those of tasks, and none besides.

``queue_url`` is the queue for every name. So remote control's reply queues, ``rpc://`` results
and the queues of a program's own would be the task queue: consumed, and emptied.
"""

from __future__ import annotations

from celery import Celery

from lambda_celery.conf import Settings, setting_names
from lambda_celery.exceptions import ConfigurationError

_WHAT_IT_MAY_BE = (
    "Remote control (celery status, inspect, Flower), events and rpc:// results need queues of "
    "their own, which there are none of on SQS"
)


def check_is_of_tasks(name: str, app: Celery, settings: Settings, predefined: object = ()) -> None:
    """Refuse to use the queue *name* for anything but task messages, if it is not a task queue.

    A task queue is named by the settings, by the transport option ``predefined_queues``, or by
    *app*'s ``task_queues`` and ``task_default_queue``, or it was given to a task that was sent.

    :raises ConfigurationError: it is none.
    """
    by_priority = {each for queues in settings.priority_queues.values() for each in queues.values()}
    if name in settings.queues or name in by_priority or name in predefined:  # type: ignore[operator]
        return
    if name not in app.amqp.queues:
        raise ConfigurationError(
            f"No task uses the queue {name!r}, so it is not one of SQS. {_WHAT_IT_MAY_BE}. If it "
            f"is a queue of tasks, name it in task_queues or in {setting_names('queues')}."
        )


def check_is_kept(name: str, *, is_transient: bool) -> None:
    """Refuse to declare the queue *name*, if it *is_transient*: to be deleted after its use.

    :raises ConfigurationError: it is.
    """
    if is_transient:
        raise ConfigurationError(
            f"The queue {name!r} is to be made and deleted again, and neither is done with queues "
            f"of SQS. {_WHAT_IT_MAY_BE}: for these, keep another broker."
        )
