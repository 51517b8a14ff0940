"""The ``task`` decorator."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from celery import shared_task

from lambda_celery.celery_hooks.thread_state import CeleryState
from lambda_celery.installation import install
from lambda_celery.publishing.bulk_calls import apply_async_many, delay_many
from lambda_celery.publishing.routing import TASK_ATTRIBUTE
from lambda_celery.table.own_keys import KEY_OPTION, check_function, check_options


def task(*args: Any, **options: Any) -> Any:
    """Declare a task that runs on AWS Lambda: :func:`celery.shared_task`, sent to SQS.

    Takes every option that Celery takes, and is used bare or called. What it
    returns is a Celery task in the app's registry; only its messages go another
    way, whatever broker the app's other tasks use. It also has
    :func:`~lambda_celery.delay_many` and :func:`~lambda_celery.apply_async_many` as methods,
    ``adelay`` and ``aapply_async`` for asyncio, and ``invoke`` and ``ainvoke``, which call the
    function directly and return the result.

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

    def declare(function: Any) -> Any:
        if (key := options.get(KEY_OPTION)) is not None:
            check_function(key, function, options.get("name") or str(function))
        return shared_task(**options)(function)

    if len(args) == 1 and callable(args[0]):
        return declare(args[0])
    return declare if not args else shared_task(*args, **options)


async def adelay(task: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Call *task* as ``delay`` does, without blocking the event loop; return its result's handle.

    Any Celery task can be called so; those of the :func:`task` decorator have it as a method.
    """
    return await aapply_async(task, args, kwargs)


async def aapply_async(task: Any, /, *args: Any, **options: Any) -> Any:
    """Call *task* as ``apply_async`` does, without blocking the event loop.

    An open :func:`~lambda_celery.batch` takes part, and in a task the call is its child.
    """
    import asyncio  # a web process without it need not load it

    # A copy of this context goes along, with the batch; and the task that is running.
    apply_async = partial(CeleryState().call, task.apply_async, *args, **options)
    asgiref = sys.modules.get("asgiref.sync")
    if task.app.conf.task_always_eager and asgiref is not None:
        # In the thread that has Django's synchronous part, and with it a test's transaction.
        return await asgiref.sync_to_async(apply_async)()
    return await asyncio.to_thread(apply_async)


def invoke(task: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Call *task* on the function directly, and return what it returns, or raise what it raises.

    See :func:`lambda_celery.invoke.invoke`, for options, and for tasks without this method.
    """
    from lambda_celery import invoke as direct  # few processes have direct calls

    return direct.invoke(task.s(*args, **kwargs))


async def ainvoke(task: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Call *task* as :func:`invoke` does, without blocking the event loop."""
    from lambda_celery import invoke as direct

    return await direct.ainvoke(task.s(*args, **kwargs))


_METHODS = {
    "delay_many": delay_many,
    "apply_async_many": apply_async_many,
    "adelay": adelay,
    "aapply_async": aapply_async,
    "invoke": invoke,
    "ainvoke": ainvoke,
}
