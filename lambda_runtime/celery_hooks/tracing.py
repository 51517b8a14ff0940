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
from weakref import ReferenceType

import celery.app.task
from billiard.einfo import ExceptionInfo
from celery import Celery, Task, signals
from celery.app import trace
from celery.backends.base import Backend, DisabledBackend
from celery.exceptions import Retry
from celery.loaders.base import BaseLoader
from celery.worker.request import Request

from lambda_celery.traced import is_plain

#: On a function of a class that has been wrapped.
_MARK = "lambda_wrapped"
#: On the ``__call__`` of one: whether a class of the project had it before.
_HAS_CALL = "lambda_has_call"
_wrapping = threading.Lock()

#: What the tracer calls of a task, and of a loader.
_HOOKS = ("after_return", "before_start", "on_failure", "on_retry", "on_success")
_LOADER_HOOKS = ("on_process_cleanup", "on_task_init")
_SIGNALS_OF_A_RUN = (
    signals.task_failure, signals.task_postrun, signals.task_prerun, signals.task_retry,
    signals.task_success,
)  # fmt: skip
#: Celery's closes connections of the thread's own, of which the event loop's has none.
_OWN_RECEIVERS = ("celery.fixups.django.", "lambda_celery.", "lambda_runtime.")

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
    has_call = _has_call(task)

    def make(body: Any) -> Any:
        @wraps(body)
        def wrapped(self: Task, /, *args: Any, **kwargs: Any) -> Any:
            directly = partial(body, self, *args, **kwargs)
            run = partial(self.run, *args, **kwargs)
            return around(self, directly if has_call else partial(_traced, self, run), directly)

        setattr(wrapped, _HAS_CALL, has_call)
        return wrapped

    _wrap(type(task), "__call__", make)


def _has_call(task: Task) -> bool:
    """Whether a class of the project has a ``__call__``, or somebody has put one there."""
    given = type(task).__call__
    if (found := getattr(given, _HAS_CALL, None)) is not None:
        return bool(found)
    # The tracer takes the one that a worker puts in Celery's class for a project's.
    return not (is_plain(given, trace) or is_plain(given, celery.app.task))


def _traced(task: Task, run: Callable[[], Any]) -> Any:
    """Return ``run()``, as the ``__call__`` that a worker puts in Celery's class would."""
    task.request_stack.top._protected = 1  # a call in its body is one by itself
    return run()


def watch_retry(task: Task, note: Note) -> None:
    """Have *note* told what ``retry()`` of the task's class raises that is no retry."""

    _wrap(type(task), "retry", _noting(note, but=Retry))


def watch_backend(
    backend: Any, result_failed: Note, chord_failed: Note, result_stored: Callable[[], None]
) -> None:
    """Have those told what goes on in the class of *backend*, a result back end.

    :param result_failed: told what storing a success raises.
    :param chord_failed: told why the back end fails a chord whose parts have all succeeded: it
        cannot read their results or publish the body, and says nothing of it to the part that
        is at work.
    :param result_stored: told that a success is stored, and with it all that Celery does for one.
    """

    def make_failing(fail_chord: Any) -> Any:
        @wraps(fail_chord)
        def wrapped(self: Any, /, *args: Any, **kwargs: Any) -> Any:
            if (cause := sys.exc_info()[1]) is not None:
                chord_failed(cause)
            return fail_chord(self, *args, **kwargs)

        return wrapped

    _wrap(type(backend), "mark_as_done", _noting(result_failed, done=result_stored))
    _wrap(type(backend), "chord_error_from_stack", make_failing)


def waits_for_nothing(request: Request) -> bool:
    """Whether the tracer does nothing around the body of *request* that may take time.

    It stores no result, publishes nothing that follows, and calls nothing of the project's.
    """
    task, embed = request.task, request.body[2]
    if any(embed.get(each) for each in ("callbacks", "errbacks", "chain", "chord")):
        return False
    ignored = request.request_dict.get("ignore_result")
    is_stored = not (task.ignore_result if ignored is None else ignored)
    if (is_stored or task.store_errors_even_if_ignored) and not _stores_nothing(task):
        return False
    if _has_call(task) or hasattr(task, "_orig_run"):  # autoretry_for publishes behind the body
        return False
    if type(task.backend).process_cleanup is not Backend.process_cleanup:
        return False
    loader = type(task.app.loader)
    return (
        all(is_plain(getattr(task, name), celery.app.task) for name in _HOOKS)
        and all(getattr(loader, name) is getattr(BaseLoader, name) for name in _LOADER_HOOKS)
        and not _has_foreign_receivers()
    )


def _stores_nothing(task: Task) -> bool:
    return isinstance(task.backend, DisabledBackend)


def _has_foreign_receivers() -> bool:
    for signal in _SIGNALS_OF_A_RUN:
        for _, receiver in signal.receivers or ():
            called = receiver() if isinstance(receiver, ReferenceType) else receiver
            module = getattr(called, "__module__", None) or ""
            if called is not None and not f"{module}.".startswith(_OWN_RECEIVERS):
                return True
    return False


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
    note: Note, but: type[BaseException] | tuple[()] = (), done: Callable[[], None] = lambda: None
) -> Callable[[Any], Callable[..., Any]]:
    """Return what wraps a method so that *note* is told of what it raises, *but* of that kind.

    *done* is told of its end.
    """

    def make(method: Any) -> Callable[..., Any]:
        @wraps(method)
        def wrapped(self: Any, /, *args: Any, **kwargs: Any) -> Any:
            try:
                result = method(self, *args, **kwargs)
            except but:
                raise
            except BaseException as exc:
                note(exc)
                raise
            done()
            return result

        return wrapped

    return make


def _wrap(cls: type, name: str, make: Callable[[Any], Any]) -> None:
    with _wrapping:  # each class once, whichever threads come at the same time
        function = getattr(cls, name)
        if not hasattr(function, _MARK):
            wrapped = make(function)
            setattr(wrapped, _MARK, True)
            setattr(cls, name, wrapped)
