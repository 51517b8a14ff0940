"""What is put around the body of a task: by Celery, by us, and by others."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from types import CellType, FunctionType, MethodType
from typing import Any

import celery.app.autoretry
import celery.app.base

from lambda_celery.celery_hooks.declared import is_pydantic
from lambda_celery.exceptions import ConfigurationError

#: On a ``run`` that runs what a coroutine function makes: whether it surely does.
RUNS_COROUTINES = "lambda_celery_async"
#: Where the wrappers are made that give the body what they are given: a context manager as a
#: decorator (as Django's ``transaction.atomic``), ``autoretry_for``, ``pydantic=True``.
_TRANSPARENT = tuple(map(vars, (contextlib, celery.app.autoretry, celery.app.base)))


def without_transparent(run: Callable[..., Any]) -> Callable[..., Any]:
    """Return *run* without those wrappers of which it is known that they pass arguments on."""
    while (wrapped := getattr(run, "__wrapped__", None)) is not None and _is_transparent(run):
        bound_to = getattr(run, "__self__", None)
        run = wrapped if bound_to is None else MethodType(wrapped, bound_to)
    return run


def _is_transparent(function: Any) -> bool:
    made_in = getattr(getattr(function, "__func__", function), "__globals__", None)
    return hasattr(function, RUNS_COROUTINES) or any(made_in is each for each in _TRANSPARENT)


def with_validation(task: Any, body: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return Celery's wrapper for ``pydantic=True``, *body*, with *function* in it.

    It validates the arguments, calls the function, and dumps the result. It is a closure, and
    what it was made of is not to be had any more, so it is copied.

    :raises ConfigurationError: this version of Celery wraps in a way that is not known here.
    """
    wrapper = getattr(body, "__func__", body)
    is_known = isinstance(wrapper, FunctionType) and wrapper.__closure__ is not None
    if not (is_known and "task_fun" in wrapper.__code__.co_freevars):
        raise ConfigurationError(
            f"The task {task.name} has pydantic=True, and this version of Celery wraps those in a "
            "way that is not known here: install a version that lambda-celery's requirements "
            "allow, or leave pydantic out."
        )
    cells = zip(wrapper.__code__.co_freevars, wrapper.__closure__ or (), strict=True)
    closure = tuple(CellType(function) if name == "task_fun" else cell for name, cell in cells)
    copy = FunctionType(wrapper.__code__, wrapper.__globals__, closure=closure)
    return copy if wrapper is body else partial(copy, task)


def validated(
    task: Any, args: Any, kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Return the arguments of a call as the body gets them: as models, with ``pydantic=True``.

    :raises pydantic.ValidationError: the body will not get them.
    """
    if not is_pydantic(task):
        return tuple(args), kwargs
    run = task.run
    while "task_fun" not in getattr(getattr(run, "__code__", None), "co_freevars", ()):
        run = run.__wrapped__
    is_bound = hasattr(run, "__self__")

    def taken(*args: Any, **kwargs: Any) -> Any:
        return args[1:] if is_bound else args, kwargs

    given: tuple[tuple[Any, ...], Mapping[str, Any]]
    given = with_validation(task, run, taken)(*args, **kwargs)
    return given
