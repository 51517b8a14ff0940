"""A back end for Django's tasks: those of ``TASKS`` in the settings, published to SQS.

The main path enters at :meth:`~lambda_celery.django.tasks.backend.LambdaBackend.enqueue`, and where
it runs at :func:`~lambda_celery.django.tasks.running.run`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lambda_celery.django.tasks.backend import LambdaBackend

__all__ = ["LambdaBackend"]


def __getattr__(name: str) -> Any:
    # Celery's autodiscovery imports this package, where Django has no tasks too.
    if name != "LambdaBackend":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lambda_celery.django.tasks.backend import LambdaBackend

    return LambdaBackend
