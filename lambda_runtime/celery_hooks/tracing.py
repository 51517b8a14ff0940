"""Celery's tracer, and what is put around it: a task's body, its ``retry()``, its result back end.

Each wrapper is put around a class once, and hands what it sees to the functions that it was given.
What is made of that does not belong here: see :mod:`lambda_runtime.running.execution`.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import celery.app.task
from billiard.einfo import ExceptionInfo
from celery import Celery, Task
from celery.app import trace
from celery.exceptions import Retry
from celery.worker.request import Request

from lambda_celery.traced import is_plain

#: On a function of a class that has been wrapped.
_MARK = "lambda_wrapped"
_wrapping = threading.Lock()

#: Given the exception that passes.
Note = Callable[[BaseException], None]


def make_tracer(
    app: Celery, task: Task, hostname: str, info: type[trace.TraceInfo]
) -> Callable[..., Any]:
    """Return the tracer of *task*, which calls *info* for a task that raised."""
    # By its module, where tools for tracing and error reporting put their own.
    tracer: Callable[..., Any] = trace.build_tracer(
        task.name, task, app.loader, hostname, app=app, Info=info
    )
    return tracer


def wrap_body(
    task: Task, around: Callable[[Task, Callable[[], Any], Callable[[], Any]], Any]
) -> None:
    """Have *around* call what the tracer calls for the body: ``__call__`` of the task's class.

    It is given two ways to call it: for the tracer, and for whoever calls the task directly. They
    differ where no class of the project has a ``__call__``: for the tracer it is ``run`` then,
    whose arguments may have any names. Celery's ``__call__`` takes none that is called ``self``.
    """
    # The tracer takes the one that a worker puts in Celery's class for a project's.
    given = type(task).__call__
    has_call = not (is_plain(given, trace) or is_plain(given, celery.app.task))

    def make(body: Any) -> Any:
        @wraps(body)
        def wrapped(self: Task, /, *args: Any, **kwargs: Any) -> Any:
            directly = partial(body, self, *args, **kwargs)
            run = partial(self.run, *args, **kwargs)
            return around(self, directly if has_call else partial(_traced, self, run), directly)

        return wrapped

    _wrap(type(task), "__call__", make)


def _traced(task: Task, run: Callable[[], Any]) -> Any:
    """Return ``run()``, as the ``__call__`` that a worker puts in Celery's class would."""
    task.request_stack.top._protected = 1  # a call in its body is one by itself
    return run()


def watch_retry(task: Task, note: Note) -> None:
    """Have *note* told what ``retry()`` of the task's class raises that is no retry."""

    _wrap(type(task), "retry", _noting(note, but=Retry))


def watch_backend(backend: Any, result_failed: Note, chord_failed: Note) -> None:
    """Have the two told what goes wrong in the class of *backend*, a result back end.

    :param result_failed: told what storing a success raises.
    :param chord_failed: told why the back end fails a chord whose parts have all succeeded: it
        cannot read their results or publish the body, and says nothing of it to the part that
        is at work.
    """

    def make_failing(fail_chord: Any) -> Any:
        @wraps(fail_chord)
        def wrapped(self: Any, /, *args: Any, **kwargs: Any) -> Any:
            if (cause := sys.exc_info()[1]) is not None:
                chord_failed(cause)
            return fail_chord(self, *args, **kwargs)

        return wrapped

    _wrap(type(backend), "mark_as_done", _noting(result_failed))
    _wrap(type(backend), "chord_error_from_stack", make_failing)


def success_is_stored(request: Request) -> bool:
    """Whether the result back end has a success of the task of *request*."""
    return bool(request._success_was_stored())


def exception_info(exc: BaseException) -> ExceptionInfo:
    """Return *exc* in the form in which Celery's callbacks take it."""
    try:
        raise exc
    except BaseException:  # noqa: BLE001 - it is the one raised above
        return ExceptionInfo()


def _noting(
    note: Note, but: type[BaseException] | tuple[()] = ()
) -> Callable[[Any], Callable[..., Any]]:
    """Return what wraps a method so that *note* is told of what it raises, *but* of that kind."""

    def make(method: Any) -> Callable[..., Any]:
        @wraps(method)
        def wrapped(self: Any, /, *args: Any, **kwargs: Any) -> Any:
            try:
                return method(self, *args, **kwargs)
            except but:
                raise
            except BaseException as exc:
                note(exc)
                raise

        return wrapped

    return make


def _wrap(cls: type, name: str, make: Callable[[Any], Any]) -> None:
    with _wrapping:  # each class once, whichever threads come at the same time
        function = getattr(cls, name)
        if not hasattr(function, _MARK):
            wrapped = make(function)
            setattr(wrapped, _MARK, True)
            setattr(cls, name, wrapped)
