"""The ``task`` decorator."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from lambda_celery.asynchronous import CeleryState
from lambda_celery.many import apply_async_many, delay_many
from lambda_celery.once import check_options
from lambda_celery.routing import TASK_ATTRIBUTE, install


def task(*args: Any, **options: Any) -> Any:
    """Declare a task that runs on AWS Lambda: :func:`celery.shared_task`, sent to SQS.

    Takes every option that Celery takes, and is used bare or called. What it
    returns is a Celery task in the app's registry; only its messages go another
    way, whatever broker the app's other tasks use. It also has
    :func:`~lambda_celery.delay_many` and :func:`~lambda_celery.apply_async_many` as methods,
    and ``adelay`` and ``aapply_async`` for asyncio.

    A coroutine function (``async def``) makes a task like any other. Called directly, as in
    ``send_mail_task(address)``, it runs to its end and returns its result, as every task does: it
    is not to be awaited, and in a coroutine it blocks the event loop. To await the body itself,
    call ``send_mail_task.__wrapped__(address)``.

    :param idempotency_key: a function of some of the task's arguments, by their names.
        Calls for which it returns the same run once, whatever their task ids; ``None``
        means: as usual.
    :param idempotency_ttl_seconds: how long such a key is remembered.
    :raises ConfigurationError: one of these two cannot be meant.
    """
    check_options(options, str(options.get("name", "that is being declared")))
    install()
    options.setdefault(TASK_ATTRIBUTE, True)
    for name, method in _METHODS.items():
        if not hasattr(options.get("base"), name):
            options.setdefault(name, method)  # Celery makes its options attributes of the class
    if len(args) == 1 and callable(args[0]):
        return shared_task(**options)(args[0])
    return shared_task(*args, **options)


async def _adelay(task: Any, /, *args: Any, **kwargs: Any) -> Any:
    return await _aapply_async(task, args, kwargs)


async def _aapply_async(task: Any, /, *args: Any, **options: Any) -> Any:
    import asyncio  # a web process without it need not load it

    # With a copy of this context: a batch that is open here takes part. And with the task that is
    # running: it is the call's parent.
    return await asyncio.to_thread(CeleryState().call, task.apply_async, *args, **options)


_METHODS = {
    "delay_many": delay_many,
    "apply_async_many": apply_async_many,
    "adelay": _adelay,
    "aapply_async": _aapply_async,
}
