"""All mail of a Django project by way of the queue.

The main path enters at :meth:`~lambda_celery.django.mail.backend.EmailBackend.send_messages`, and
where it runs at :func:`~lambda_celery.django.mail.delivery.deliver_mail`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lambda_celery.django.mail.backend import EmailBackend
    from lambda_celery.django.mail.later import render_later

__all__ = ["EmailBackend", "render_later"]

#: Imported when they are asked for: the tasks are registered in each process, and need neither.
_MODULES = {"EmailBackend": "backend", "render_later": "later"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
