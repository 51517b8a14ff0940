"""What Django's models say of the classes behind them: managers, querysets and relations."""

from __future__ import annotations

import sys
from typing import Any

#: The descriptors of relations, and where each has the model at its other end.
_FORWARD = ("ForwardManyToOneDescriptor", "ForwardOneToOneDescriptor")
_REVERSE = ("ReverseManyToOneDescriptor", "ManyToManyDescriptor")
_REVERSE_ONE = "ReverseOneToOneDescriptor"


def behind(descriptor: Any) -> tuple[type, ...]:
    """Return the classes whose objects *descriptor*, an attribute of a model, gives; or none.

    A manager gives its own class and that of its querysets; a relation the model at its other
    end.
    """
    # By the names of the classes: what is in a class is not asked what it is, and the project may
    # be one without Django.
    kind = type(descriptor).__name__
    found: list[Any] = []
    if kind == "ManagerDescriptor":
        manager = descriptor.manager
        found = [type(manager), _queryset_of(manager)]
    elif kind in _FORWARD:
        found = [descriptor.field.remote_field.model]
    elif kind in _REVERSE:
        relation = descriptor.rel
        is_back = kind == "ReverseManyToOneDescriptor" or descriptor.reverse
        found = [relation.related_model if is_back else relation.model]
    elif kind == _REVERSE_ONE:
        found = [descriptor.related.related_model]
    # A relation that no app has resolved yet has a name in the place of its model.
    return tuple(each for each in found if isinstance(each, type))


def _queryset_of(manager: Any) -> type | None:
    try:
        return type(manager.get_queryset())  # asks no database
    except Exception:  # noqa: BLE001 - the project's own code
        return None


def model(*names: str) -> type | None:
    """Return the model that ``apps.get_model(*names)`` gives; ``None`` if there is none here."""
    registry = sys.modules.get("django.apps")
    try:
        found = registry.apps.get_model(*names) if registry is not None else None
    except Exception:  # noqa: BLE001 - apps that are not set up, or have no such model
        return None
    return found if isinstance(found, type) else None


def user_model() -> type | None:
    """Return the model of the project's users; ``None`` if that is not known here."""
    settings = getattr(sys.modules.get("django.conf"), "settings", None)
    try:
        return model(settings.AUTH_USER_MODEL) if settings is not None else None
    except Exception:  # noqa: BLE001 - settings that cannot be read are told of by others
        return None
