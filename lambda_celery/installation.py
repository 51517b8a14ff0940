"""Making Celery's apps send through SQS: the hooks, and what decides behind each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Celery
from kombu.utils.imports import symbol_by_name

from lambda_celery.celery_hooks.amqp import install_routing
from lambda_celery.celery_hooks.apps import extend_control, on_every_app
from lambda_celery.celery_hooks.registry import install_registry
from lambda_celery.failures import own_task
from lambda_celery.publishing.held_messages import open_batch
from lambda_celery.publishing.routing import Routing


def install(app: Celery | None = None) -> None:
    """Make the tasks of *app* that are meant for SQS go there; of all apps, if none is given.

    And let *app* have tasks that are coroutine functions (``async def``).

    The ``task`` decorator and ``lambda_celery.django`` in ``INSTALLED_APPS`` call
    it. Call it yourself where tasks are chosen by ``lambda_tasks`` alone, without
    Django. Calling it again changes nothing.
    """
    if app is None:
        on_every_app(_install)
    else:
        _install(app)


def _install(app: Celery) -> None:
    install_routing(app, Routing(app))
    if install_registry(app, call):
        own_task.declare(app)
    extend_control(app, control)


def call(
    task: Any, positional: tuple[Any, ...], named: dict[str, Any], by_celery: Callable[..., Any]
) -> Any:
    """Call *task*: by Celery, or where a batch is open, with others that are alike."""
    if open_batch() is None:
        return by_celery(*positional, **named)
    from lambda_celery.publishing.bulk_calls import call_in_batch  # few processes have batches

    return call_in_batch(task, positional, named, by_celery)


def control(base: Any, *args: Any, **kwargs: Any) -> Any:
    """Return the remote control of an app: its own class, *base*, which also reaches Lambda."""
    from lambda_celery.control import LambdaControl  # loads boto3, which importing a task must not

    cls = symbol_by_name(base)
    return type(cls.__name__, (LambdaControl, cls), {})(*args, **kwargs)
