"""What a call would send to SQS, kept instead: for who takes it to the function in another way."""

from __future__ import annotations

from typing import Any

from lambda_celery.celery_hooks.amqp import routing_of
from lambda_celery.conf import setting_names
from lambda_celery.exceptions import CallFailedError, ConfigurationError
from lambda_celery.publishing.held_messages import Outgoing, caught
from lambda_celery.publishing.routing import goes_to_sqs

#: Of several tasks, of which the function would be called with the first alone.
_SEVERAL = {"chain", "chord", "chunks", "group"}
#: What is for later.
_TIMES = ("countdown", "eta")


class Captured:
    """Calls signatures, and keeps their messages. For one thread at a time."""

    def __init__(self) -> None:
        # The first call of a task is made by Celery, and is the template of those that are alike.
        self._templates: dict[Any, Any] = {}

    def message_of(self, signature: Any) -> tuple[str, Outgoing]:
        """Return the id of the task that *signature* calls, and its message.

        What :func:`check_single` refuses is not to be given here.

        :raises ConfigurationError: its messages do not go to SQS.
        :raises CallFailedError: somebody has put something in the place of the call.
        """
        app = signature.app
        is_installed = routing_of(app) is not None  # else the call would go to the app's own broker
        if not (is_installed and goes_to_sqs(app, signature.task)):
            raise ConfigurationError(
                f"The task {signature.task} does not go to Lambda: declare it with "
                f"lambda_celery.task, or name it in {setting_names('tasks')}"
                f"{'' if is_installed else ' and call lambda_celery.install(app)'}; "
                "and see that lambda_enabled is on."
            )
        with caught(self._templates) as messages:
            result = signature.apply_async()
        if len(messages) != 1:
            raise CallFailedError(
                f"A call of {signature.task} makes {len(messages)} messages, and a direct call "
                "takes one: publish it with delay() instead."
            )
        return str(result.id), messages[0]


def check_single(signature: Any) -> None:
    """Refuse a *signature* that no direct call can carry.

    :raises TypeError: it is none, or is of several tasks, or for later.
    """
    kind = getattr(signature, "subtask_type", signature)
    if not hasattr(signature, "subtask_type") or kind in _SEVERAL:
        raise TypeError(
            f"A direct call is of one task, and not of {kind!r}: give signatures, as in "
            "add.s(2, 3), or a group of them; publish chains and chords with delay()."
        )
    if late := [each for each in _TIMES if signature.options.get(each)]:
        raise TypeError(
            f"A direct call is for now, but {signature.task} was given {late[0]}: leave it out, "
            "or publish the call with apply_async()."
        )
