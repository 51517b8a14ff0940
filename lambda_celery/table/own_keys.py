"""A task's own idempotency key: "once per order" instead of once per publication."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from inspect import Parameter, Signature
from typing import Any
from weakref import WeakKeyDictionary

from lambda_celery.celery_hooks.declared import is_decorated
from lambda_celery.celery_hooks.wrappers import validated, without_transparent
from lambda_celery.exceptions import ConfigurationError
from lambda_celery.table.canonical import canonical

#: A function of some of the task's arguments, by their names; what it returns is the key, and
#: ``None`` that there is none.
KEY_OPTION = "idempotency_key"
#: How long such a key is remembered after the task has run to its end.
LIFE_OPTION = "idempotency_ttl_seconds"


def check_options(options: Mapping[str, Any], task_name: str) -> None:
    """Raise :exc:`ConfigurationError` if a task's *options* cannot be meant."""
    key, life_seconds = options.get(KEY_OPTION), options.get(LIFE_OPTION)
    if not (key is None or callable(key) or isinstance(key, staticmethod)):
        raise ConfigurationError(
            f"{KEY_OPTION} of the task {task_name} is {key!r}: give it a function that takes the "
            "arguments of a call and returns what makes the call unique."
        )
    if life_seconds is None:
        return
    if key is None:
        raise ConfigurationError(
            f"The task {task_name} has {LIFE_OPTION} and no {KEY_OPTION}: without a key of its "
            "own, a call is remembered for as long as a copy of its message can exist."
        )
    if isinstance(life_seconds, bool) or not isinstance(life_seconds, int) or life_seconds < 1:
        raise ConfigurationError(
            f"{LIFE_OPTION} of the task {task_name} is {life_seconds!r}: give it whole seconds."
        )


def check_key(task: Any) -> None:
    """Raise :exc:`ConfigurationError` if the key of *task* wants what is none of its arguments."""
    function = options_of(task).get(KEY_OPTION)
    if function is not None:
        check_function(function, task.run, task.name)
        _signature_of(task)  # before anything instruments the task


def check_function(key: Callable[..., Any], run: Callable[..., Any], task_name: str) -> None:
    """Raise :exc:`ConfigurationError` if *key* wants what it cannot have of a call of *run*."""
    body = without_transparent(run)
    try:
        given = inspect.signature(body, follow_wrapped=False).parameters
        wanted = inspect.signature(key).parameters
    except ValueError as exc:  # of some that are written in C
        raise ConfigurationError(
            f"{KEY_OPTION} of the task {task_name} cannot be matched with the task's arguments: "
            f"{exc}. Give it a function written in Python."
        ) from exc
    kinds = {each.kind for each in given.values()}
    for name, each in wanted.items():
        is_variable = each.kind in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
        if is_variable or each.default is not each.empty or name in given:
            continue
        if hasattr(body, "__wrapped__") and Parameter.VAR_POSITIONAL in kinds:
            raise ConfigurationError(
                f"{KEY_OPTION} of the task {task_name} wants {name!r}, but a decorator around the "
                "task takes any arguments: which of a call's becomes that one, it alone knows. "
                f"Name {name!r} among the arguments of the decorator's function, or give "
                f"{KEY_OPTION} a function that takes *args and **kwargs, as that does."
            )
        if Parameter.VAR_KEYWORD not in kinds:
            raise ConfigurationError(
                f"{KEY_OPTION} of the task {task_name} wants {name!r}, but the task's arguments "
                f"are {', '.join(given) or 'none'}: it gets them by their names."
            )


def options_of(task: Any) -> dict[str, Any]:
    """Return those of the two options that *task* has, the key as a function of the arguments.

    A function among a decorator's options becomes an attribute of the task's class, and
    would be called as a method. One that a base class defines is a method.
    """
    found = {name: getattr(task, name, None) for name in (KEY_OPTION, LIFE_OPTION)}
    of_class = vars(type(task))
    if KEY_OPTION in of_class and is_decorated(task):
        given = of_class[KEY_OPTION]
        found[KEY_OPTION] = given.__func__ if isinstance(given, staticmethod) else given
    return {name: value for name, value in found.items() if value is not None}


def own_key(task: Any, args: Any, kwargs: Mapping[str, Any]) -> str | None:
    """Return the key that *task* gives to a call, or ``None`` if it gives none.

    The task's function gets what the body gets: those of the arguments that it names, by name,
    whichever way they were given, and with ``pydantic=True`` as models. One that takes ``*args``
    and ``**kwargs`` gets the arguments as they were given. What it raises is raised here, and
    :exc:`TypeError` for a key that is no data.
    """
    function = options_of(task).get(KEY_OPTION)
    if function is None:
        return None
    try:
        args, kwargs = validated(task, args, kwargs)
        bound = _signature_of(task).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return None  # the run will fail with that, before its first line
    wanted = inspect.signature(function).parameters
    kinds = {each.kind for each in wanted.values()}
    if {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD} <= kinds:
        key = function(*args, **kwargs)
    else:
        bound.apply_defaults()
        given = dict(bound.arguments)
        for parameter in bound.signature.parameters.values():
            if parameter.kind is Parameter.VAR_KEYWORD:
                given |= given.pop(parameter.name)
        if Parameter.VAR_KEYWORD not in kinds:
            given = {name: value for name, value in given.items() if name in wanted}
        key = function(**given)
    return None if key is None else canonical(key)


#: Kept from the start on, because what instruments a task may wrap its body later.
_signatures: WeakKeyDictionary[Any, Signature] = WeakKeyDictionary()


def _signature_of(task: Any) -> Signature:
    """Return the signature that tells what a call of *task* gives to which argument."""
    if task not in _signatures:
        body = without_transparent(task.run)
        _signatures[task] = inspect.signature(body, follow_wrapped=False)
    return _signatures[task]
