"""What a task was declared with, apart from what Celery adds when it binds the task to its app.

Binding copies the app's defaults onto the task's class, where they cannot be told from options.
So the options are noted when the task comes into the registry, which is before it is bound.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from celery import Task

#: Options whose default means something else than the same value that somebody has written.
_NOTED = ("acks_on_failure", "acks_on_failure_or_timeout")

_declared: WeakKeyDictionary[type, dict[str, Any]] = WeakKeyDictionary()


def note_declared(task: Any) -> None:
    """Note the options with which *task*, and the classes it derives from, are declared.

    A class that was bound before has options of which nobody knows the origin: none is noted.
    """
    for cls in _own_classes(task):
        if cls not in _declared:
            own = {} if vars(cls).get("__bound__") else vars(cls)
            _declared[cls] = {option: own[option] for option in _NOTED if option in own}


def declared(task: Any, option: str) -> Any:
    """Return the value of *option* in the declaration of *task*, or ``None`` if there is none."""
    for cls in _own_classes(task):
        noted = _declared.get(cls, {})
        if option in noted:
            return noted[option]
    return None


def is_decorated(task: Any) -> bool:
    """Whether a decorator has made the class of *task*, of a function and of its options."""
    return "_decorated" in vars(type(task))


def is_pydantic(task: Any) -> bool:
    """Whether *task* is declared with ``pydantic=True``, so that a call dumps its arguments."""
    return getattr(task, "_dump_pydantic_arguments", None) is not None


def _own_classes(task: Any) -> list[type]:
    mro = type(task).__mro__
    return list(mro[: mro.index(Task)]) if Task in mro else []
